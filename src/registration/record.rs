//! One registration, and the transaction that carries it.

use super::{BlockedReason, Diagnosis, Failure, Finality, Pair, State, Timestamp, TraceContext, UserId};
use alloy::primitives::{Address, B256};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A registration's id: UUIDv7, so that ids sort by the time of acceptance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationId(Uuid);

/// A transaction's id in the store; stays the same through its replacements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(Uuid);

macro_rules! uuid_id {
    ($name:ident) => {
        impl $name {
            /// The id with these bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its bytes, which sort as the ids do.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_id!(RegistrationId);
uuid_id!(TransactionId);

impl FromStr for RegistrationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// What a caller asks for, read and found good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRegistration {
    /// What is registered.
    pub pair: Pair,
    /// The hash as it was given.
    pub submitted_as: String,
    /// The caller's opaque id of its end user.
    pub user_id: Option<UserId>,
    /// Where the journey hangs in its trace.
    pub trace: TraceContext,
}

/// One registration, as the store holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Its id.
    pub id: RegistrationId,
    /// What was asked.
    pub request: NewRegistration,
    /// Where it stands.
    pub state: State,
    /// How final its block is; `None` while it is in no block.
    pub finality: Option<Finality>,
    /// Grows with every change.
    pub revision: i64,
    /// What it waits for that an operator can mend.
    pub blocked_reason: Option<BlockedReason>,
    /// The transaction that carries it.
    pub transaction: Option<Transaction>,
    /// Why it failed; only with [`State::Failed`].
    pub failure: Option<Failure>,
    /// The last diagnosis.
    pub diagnosis: Option<Diagnosis>,
    /// When it went through its states.
    pub times: StateTimes,
}

/// When a registration went through its states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateTimes {
    /// Accepted.
    pub created: Timestamp,
    /// Taken by a node; the confirmation clock starts here.
    pub submitted: Option<Timestamp>,
    /// Seen in a block.
    pub included: Option<Timestamp>,
    /// Seen at confirmation depth.
    pub confirmed: Option<Timestamp>,
    /// Failed for good.
    pub failed: Option<Timestamp>,
    /// When the confirmation clock ran out, if it did.
    pub timed_out: Option<Timestamp>,
    /// Last changed.
    pub updated: Timestamp,
}

/// The transaction that carries a registration: one of ours, or the one that registered the pair before us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Hash of the included attempt, or of the latest one.
    pub hash: B256,
    /// The signer.
    pub from: Address,
    /// The including block.
    pub block: Option<Block>,
    /// What only our own transactions have.
    pub own: Option<OwnTransaction>,
}

/// What we know of a transaction because we made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnTransaction {
    /// The signer's nonce.
    pub nonce: u64,
    /// How many registrations it carries.
    pub batch_size: u32,
    /// How many times it was signed.
    pub attempts: u32,
    /// When its registrations left the queue.
    pub prepared_at: Timestamp,
    /// When its bytes were on disk.
    pub signed_at: Timestamp,
    /// What it cost, once it is in a block.
    pub cost: Option<Cost>,
}

/// What a transaction cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Gas used.
    pub gas_used: u64,
    /// Wei per gas.
    pub effective_gas_price: u128,
    /// The L1 data fee in wei, on OP-stack chains.
    pub l1_fee: Option<u128>,
}

impl Cost {
    /// The whole fee in wei.
    pub fn total_fee(&self) -> u128 {
        u128::from(self.gas_used).saturating_mul(self.effective_gas_price).saturating_add(self.l1_fee.unwrap_or(0))
    }
}

/// A block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash; only this says which block it is.
    pub hash: B256,
    /// Its time; whole seconds.
    pub time: Timestamp,
}
