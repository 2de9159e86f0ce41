//! One registration, and the transaction that carries it.

use super::{
    blocked_reason::BlockedReason,
    caller::CallerName,
    case_id::UserId,
    diagnosis::report::Diagnosis,
    document_hash::{DocumentWarning, GivenDocument},
    failure::Failure,
    ids::RegistrationId,
    pair::Pair,
    state::{Finality, State},
    time::Timestamp,
    trace::TraceContext,
};
use alloy::primitives::{Address, B256};
use std::sync::Arc;

/// A validated request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRegistration {
    pub pair: Pair,
    /// The hash or CID as the caller wrote it.
    pub submitted_as: String,
    /// The caller's opaque id of its end user.
    pub user_id: Option<UserId>,
    /// Who asked for it last; `None` without authentication.
    pub caller: Option<CallerName>,
    /// The parent of the registration trace; the same one for all registrations of a call.
    pub trace: Arc<TraceContext>,
}

impl NewRegistration {
    /// Derived from the text of the first request, so that it is not stored.
    pub fn warning(&self) -> Option<DocumentWarning> {
        self.submitted_as.parse::<GivenDocument>().ok()?.warning
    }
}

/// A registration as the store holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    pub id: RegistrationId,
    pub request: NewRegistration,
    pub state: State,
    /// `None` while it is in no block.
    pub finality: Option<Finality>,
    /// Grows with every change.
    pub revision: i64,
    pub blocked_reason: Option<BlockedReason>,
    pub transaction: Option<Transaction>,
    /// Only with [`State::Failed`].
    pub failure: Option<Failure>,
    /// The latest one.
    pub diagnosis: Option<Diagnosis>,
    pub times: StateTimes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateTimes {
    pub created: Timestamp,
    /// When it was accepted, or queued again; the queue timeout counts from here.
    pub queued: Timestamp,
    /// When the queue timeout passed, if it did.
    pub delayed: Option<Timestamp>,
    /// A node accepted the transaction; the confirmation timeout counts from here.
    pub submitted: Option<Timestamp>,
    pub included: Option<Timestamp>,
    pub confirmed: Option<Timestamp>,
    pub failed: Option<Timestamp>,
    /// When the confirmation timeout passed, if it did.
    pub timed_out: Option<Timestamp>,
    /// Time of the latest change.
    pub updated: Timestamp,
}

/// The transaction that carries a registration: ours, or the one with which another sender registered the pair before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Of the included attempt, or of the latest one.
    pub hash: B256,
    pub from: Address,
    pub block: Option<Block>,
    /// What is known of our own transactions only.
    pub own: Option<OwnTransaction>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnTransaction {
    pub nonce: u64,
    /// Number of registrations that the transaction carries.
    pub batch_size: u32,
    /// How many times it was signed.
    pub attempts: u32,
    /// When its registrations left the queue.
    pub prepared_at: Timestamp,
    /// When the signed bytes were on disk.
    pub signed_at: Timestamp,
    /// Set once it is in a block.
    pub cost: Option<Cost>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    pub gas_used: u64,
    /// Wei per gas.
    pub effective_gas_price: u128,
    /// The L1 data fee in wei, on OP-stack chains.
    pub l1_fee: Option<u128>,
}

impl Cost {
    /// In wei, L1 data fee included.
    pub fn total_fee(&self) -> u128 {
        u128::from(self.gas_used).saturating_mul(self.effective_gas_price).saturating_add(self.l1_fee.unwrap_or(0))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Block {
    pub number: u64,
    /// Only the hash identifies a block: after a reorg another one has its number.
    pub hash: B256,
    /// Whole seconds.
    pub time: Timestamp,
}
