//! What stood in the way of sending, with its numbers.

use super::{NodeRejection, RejectKind};
use crate::registration::{
    BlockedReason,
    policy::{budget::OverBudget, fees::FeeCapExceeded},
    units::format_eth,
};
use alloy::primitives::{Address, U256};
use std::fmt;

/// A transaction that no block takes, and that cannot be made smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxTooLarge {
    /// Its gas limit.
    pub gas_limit: u64,
    /// The most that a block takes.
    pub max_gas: u64,
}

/// What keeps work from being sent just now. Its text is for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Blocker {
    /// The signer cannot pay for the transaction and all it has out.
    InsufficientFunds {
        /// The signer.
        signer: Address,
        /// What it holds, in wei.
        balance: U256,
        /// What it may need, in wei.
        needed: U256,
    },
    /// The contract does not allow this signer.
    SignerNotAllowed(Address),
    /// The least that would be included is above the cap.
    FeeCap(FeeCapExceeded),
    /// The day's budget does not allow another transaction.
    DailyBudget(OverBudget),
    /// A block takes less gas than one registration alone needs.
    TooLarge(TxTooLarge),
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
    Rejected(NodeRejection),
    /// The transaction cannot be made or tried, for another reason: in words.
    Other(String),
}

impl Blocker {
    /// What callers see as the reason.
    pub fn blocked_reason(&self) -> BlockedReason {
        match self {
            Self::InsufficientFunds { .. } => BlockedReason::InsufficientFunds,
            Self::SignerNotAllowed(_) => BlockedReason::SignerNotAllowed,
            Self::FeeCap(_) => BlockedReason::FeeCap,
            Self::DailyBudget(_) => BlockedReason::DailyBudget,
            Self::TooLarge(_) => BlockedReason::TooLarge,
            Self::NoEndpoint(_) => BlockedReason::NoEndpoint,
            Self::NoContract { .. } | Self::Other(_) => BlockedReason::NodeRefuses,
            Self::Rejected(refused) => match refused.kind {
                RejectKind::InsufficientFunds => BlockedReason::InsufficientFunds,
                RejectKind::FeeTooLow => BlockedReason::FeeCap,
                RejectKind::SenderLimit
                | RejectKind::GasLimit
                | RejectKind::ReplacementUnderpriced
                | RejectKind::Other => BlockedReason::NodeRefuses,
            },
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InsufficientFunds { signer, balance, needed } => {
                write!(f, "{signer} has {} and may need {}: send it some", format_eth(*balance), format_eth(*needed))
            }
            Self::SignerNotAllowed(account) => {
                write!(f, "the contract does not allow {account}: its owner adds it with addRegistrar({account})")
            }
            Self::FeeCap(above) => write!(f, "{above}: wait, or raise REGISTRAR_MAX_FEE_GWEI"),
            Self::DailyBudget(over) => {
                let ether = |wei: u128| format_eth(U256::from(wei));
                let ends = if over.next_cost > over.budget {
                    "only a higher budget or lower fees help"
                } else {
                    "it goes on when what is out lands for less, when fees fall, or at 00:00 UTC"
                };
                write!(
                    f,
                    "of REGISTRAR_DAILY_BUDGET_ETH ({}), {} are spent today, or may be by what is out and by raising its fees, and the \
                     next transaction may cost {}: {ends}",
                    ether(over.budget),
                    ether(over.committed),
                    ether(over.next_cost)
                )
            }
            Self::Rejected(refused) => {
                write!(f, "{} refuses the transaction: {} (code {})", refused.endpoint, refused.message, refused.code)
            }
            Self::TooLarge(TxTooLarge { gas_limit: gas, max_gas }) => write!(
                f,
                "a transaction with one registration needs {gas} gas and a block takes {max_gas}: it goes on when the chain's limit rises"
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
