//! What stood in the way of sending, with its numbers.

use super::{Meaning, Refused};
use crate::registration::{
    Blocked,
    policy::{budget::OverBudget, fees::AboveCap},
    units::ether,
};
use alloy::primitives::{Address, U256};
use std::fmt;

/// A transaction that no block takes, and that cannot be made smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLarge {
    /// Its gas limit.
    pub gas: u64,
    /// The most that a block takes.
    pub most: u64,
}

/// What keeps work from being sent just now. Its text is for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hindrance {
    /// The signer cannot pay for the transaction and all it has out.
    Funds {
        /// The signer.
        signer: Address,
        /// What it holds, in wei.
        balance: U256,
        /// What it may need, in wei.
        needed: U256,
    },
    /// The contract does not allow this signer.
    NotAllowed(Address),
    /// The least that would be included is above the cap.
    FeeCap(AboveCap),
    /// The day's budget does not allow another transaction.
    DailyBudget(OverBudget),
    /// A block takes less gas than one registration alone needs.
    TooLarge(TooLarge),
    /// Nobody answers: in words.
    NoEndpoint(String),
    /// The endpoint answers, and shows a chain without the contract.
    NoContract {
        /// Its name.
        endpoint: String,
        /// Where the contract should be.
        contract: Address,
    },
    /// A node refuses the bytes.
    Refused(Refused),
    /// The transaction cannot be made or tried, for another reason: in words.
    Other(String),
}

impl Hindrance {
    /// What callers see as the reason.
    pub fn blocked(&self) -> Blocked {
        match self {
            Self::Funds { .. } => Blocked::InsufficientFunds,
            Self::NotAllowed(_) => Blocked::SignerNotAllowed,
            Self::FeeCap(_) => Blocked::FeeCap,
            Self::DailyBudget(_) => Blocked::DailyBudget,
            Self::TooLarge(_) => Blocked::TooLarge,
            Self::NoEndpoint(_) => Blocked::NoEndpoint,
            Self::NoContract { .. } | Self::Other(_) => Blocked::NodeRefuses,
            Self::Refused(refused) => match refused.meaning {
                Meaning::Funds => Blocked::InsufficientFunds,
                Meaning::Fee => Blocked::FeeCap,
                Meaning::SenderLimit | Meaning::Gas | Meaning::Replacement | Meaning::Other => Blocked::NodeRefuses,
            },
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Funds { signer, balance, needed } => {
                write!(f, "{signer} has {} and may need {}: send it some", ether(*balance), ether(*needed))
            }
            Self::NotAllowed(account) => {
                write!(f, "the contract does not allow {account}: its owner adds it with addRegistrar({account})")
            }
            Self::FeeCap(above) => write!(f, "{above}: wait, or raise REGISTRAR_MAX_FEE_GWEI"),
            Self::DailyBudget(over) => {
                let ether = |wei: u128| ether(U256::from(wei));
                let ends = if over.next > over.budget {
                    "only a higher budget or lower fees help"
                } else {
                    "it goes on when what is out lands for less, when fees fall, or at 00:00 UTC"
                };
                write!(
                    f,
                    "of REGISTRAR_DAILY_BUDGET_ETH ({}), {} are spent today, or may be by what is out and by raising its fees, and the \
                     next transaction may cost {}: {ends}",
                    ether(over.budget),
                    ether(over.taken),
                    ether(over.next)
                )
            }
            Self::Refused(refused) => {
                write!(f, "{} refuses the transaction: {} (code {})", refused.endpoint, refused.words, refused.code)
            }
            Self::TooLarge(TooLarge { gas, most }) => write!(
                f,
                "a transaction with one registration needs {gas} gas and a block takes {most}: it goes on when the chain's limit rises"
            ),
            Self::NoContract { endpoint, contract } => {
                write!(
                    f,
                    "{endpoint} has no contract at {contract}: it was restarted with an empty chain, or shows another chain"
                )
            }
            Self::NoEndpoint(words) | Self::Other(words) => f.write_str(words),
        }
    }
}
