//! Why a registration stands still, and why one failed for good: two short, stable lists.

use std::{fmt, str::FromStr};

/// What a registration waits for that an operator can mend. It goes on by itself when mended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BlockedReason {
    /// The signer's balance cannot pay for the transaction.
    InsufficientFunds,
    /// The contract does not allow the signer.
    SignerNotAllowed,
    /// The base fee and priority fee are above `REGISTRAR_MAX_FEE_GWEI`.
    FeeCap,
    /// The day's budget, `REGISTRAR_DAILY_BUDGET_ETH`, is spent.
    DailyBudget,
    /// No RPC endpoint is usable.
    NoEndpoint,
    /// The pair is on chain already, in a block that is not deep enough yet.
    AwaitingConfirmations,
    /// A node refuses the signed transaction for now.
    NodeRefuses,
    /// A block takes less gas than a transaction with this registration alone needs.
    TooLarge,
}

impl BlockedReason {
    const CODES: [(Self, &'static str); 8] = [
        (Self::InsufficientFunds, "INSUFFICIENT_FUNDS"),
        (Self::SignerNotAllowed, "SIGNER_NOT_ALLOWED"),
        (Self::FeeCap, "FEE_CAP"),
        (Self::DailyBudget, "DAILY_BUDGET"),
        (Self::NoEndpoint, "NO_ENDPOINT"),
        (Self::AwaitingConfirmations, "AWAITING_CONFIRMATIONS"),
        (Self::NodeRefuses, "NODE_REFUSES"),
        (Self::TooLarge, "TOO_LARGE"),
    ];

    /// The stable code, as callers and the store see it.
    pub fn code(self) -> &'static str {
        code_of(&Self::CODES, self)
    }
}

/// The stable list behind `failure.reason`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FailureReason {
    /// The contract refuses this very registration.
    RejectedByContract,
    /// Its transactions were mined and reverted, again and again.
    TransactionReverted,
}

impl FailureReason {
    const CODES: [(Self, &'static str); 2] =
        [(Self::RejectedByContract, "REJECTED_BY_CONTRACT"), (Self::TransactionReverted, "TRANSACTION_REVERTED")];

    /// The stable code, as callers and the store see it.
    pub fn code(self) -> &'static str {
        code_of(&Self::CODES, self)
    }
}

/// Why a registration failed for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// From the stable list.
    pub reason: FailureReason,
    /// What happened and what to do, in words.
    pub message: String,
}

/// A code that is on no list: the store was written by a newer version, or by hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown code `{0}`")]
pub struct UnknownCode(pub String);

/// The code that stands beside `value`. Every list is complete: its round-trip test holds each variant.
pub(super) fn code_of<T: Copy + PartialEq>(all: &[(T, &'static str)], value: T) -> &'static str {
    all.iter().find(|(candidate, _)| *candidate == value).map_or("UNKNOWN", |(_, code)| code)
}

pub(super) fn from_code<T: Copy>(all: &[(T, &'static str)], code: &str) -> Result<T, UnknownCode> {
    all.iter().find(|(_, known)| *known == code).map(|(value, _)| *value).ok_or_else(|| UnknownCode(code.to_owned()))
}

impl FromStr for BlockedReason {
    type Err = UnknownCode;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        from_code(&Self::CODES, code)
    }
}

impl FromStr for FailureReason {
    type Err = UnknownCode;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        from_code(&Self::CODES, code)
    }
}

impl fmt::Display for BlockedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_survive_a_round_trip() {
        for (value, code) in BlockedReason::CODES {
            assert_eq!((value.code(), code.parse()), (code, Ok(value)));
        }
        for (value, code) in FailureReason::CODES {
            assert_eq!((value.code(), code.parse()), (code, Ok(value)));
        }
        assert!("".parse::<BlockedReason>().is_err());
    }
}
