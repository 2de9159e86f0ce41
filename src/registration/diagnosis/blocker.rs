//! What prevents sending, with the values.

use crate::registration::{
    blocked_reason::BlockedReason,
    observations::{NodeRejection, RejectKind, TxTooLarge},
    policy::{budget::OverBudget, fees::FeeCapExceeded},
    units::format_eth,
};
use alloy::primitives::{Address, U256};
use std::fmt;

/// Displayed in the log and in diagnoses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Blocker {
    /// The signer cannot pay for the transaction and its pending ones.
    InsufficientFunds {
        signer: Address,
        /// In wei.
        balance: U256,
        /// In wei, pending transactions included.
        needed: U256,
    },
    SignerNotAllowed(Address),
    FeeCap(FeeCapExceeded),
    DailyBudget(OverBudget),
    TooLarge(TxTooLarge),
    /// With the error of each endpoint.
    NoEndpoint(String),
    /// The endpoint answers, and its chain has no code at the contract's address.
    NoContract {
        endpoint: String,
        contract: Address,
    },
    Rejected(NodeRejection),
    /// With the signer and what is wrong with it.
    SignerUnavailable(String),
    /// With the signer.
    SignerThrottled(String),
    /// Preparing or simulating the transaction fails for another reason, which this text states.
    Other(String),
}

impl Blocker {
    pub fn blocked_reason(&self) -> BlockedReason {
        match self {
            Self::InsufficientFunds { .. } => BlockedReason::InsufficientFunds,
            Self::SignerNotAllowed(_) => BlockedReason::SignerNotAllowed,
            Self::FeeCap(_) => BlockedReason::FeeCap,
            Self::DailyBudget(_) => BlockedReason::DailyBudget,
            Self::TooLarge(_) => BlockedReason::TooLarge,
            Self::NoEndpoint(_) => BlockedReason::NoEndpoint,
            Self::NoContract { .. } | Self::Other(_) => BlockedReason::NodeRefuses,
            Self::SignerUnavailable(_) => BlockedReason::SignerUnavailable,
            Self::SignerThrottled(_) => BlockedReason::SignerThrottled,
            Self::Rejected(rejection) => match rejection.kind {
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
                write!(f, "{signer} has {} and may need {}: send it ETH", format_eth(*balance), format_eth(*needed))
            }
            Self::SignerNotAllowed(account) => {
                write!(f, "the contract does not allow {account}: its owner allows it with addRegistrar({account})")
            }
            Self::FeeCap(above) => write!(f, "{above}: wait, or raise REGISTRAR_MAX_FEE_GWEI"),
            Self::DailyBudget(over) => {
                let ether = |wei: u128| format_eth(U256::from(wei));
                let ends = if over.next_cost > over.budget {
                    "only a higher budget or lower fees help"
                } else {
                    "resumes when pending transactions cost less than reserved, when fees fall, or at 00:00 UTC"
                };
                write!(
                    f,
                    "of REGISTRAR_DAILY_BUDGET_ETH ({}), {} are spent today or reserved for pending transactions, \
                     and the next transaction may cost {}: {ends}",
                    ether(over.budget),
                    ether(over.committed),
                    ether(over.next_cost)
                )
            }
            Self::Rejected(rejection) => {
                write!(
                    f,
                    "{} rejects the transaction: {} (code {})",
                    rejection.endpoint, rejection.message, rejection.code
                )
            }
            Self::TooLarge(TxTooLarge { gas_limit: gas, max_gas }) => write!(
                f,
                "a transaction with one registration needs {gas} gas, and a block allows {max_gas}: resumes when the \
                 chain's limit rises"
            ),
            Self::NoContract { endpoint, contract } => {
                write!(
                    f,
                    "{endpoint} has no contract at {contract}: the node was restarted with an empty chain, or is on \
                     another chain"
                )
            }
            Self::NoEndpoint(text)
            | Self::SignerUnavailable(text)
            | Self::SignerThrottled(text)
            | Self::Other(text) => f.write_str(text),
        }
    }
}
