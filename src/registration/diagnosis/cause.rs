//! The sixteen causes.

use crate::registration::blocked_reason::{UnknownCode, code_of, from_code};
use std::str::FromStr;

/// Why a registration is not confirmed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// No RPC endpoint is usable.
    RpcUnavailable,
    /// No endpoint's head moves.
    ChainStalled,
    /// The endpoints contradict each other.
    RpcDisagreement,
    /// In a canonical block that is not deep enough yet.
    AwaitingConfirmations,
    /// The transaction reverted, or would.
    Reverted,
    /// The block that held the transaction is no longer canonical.
    Reorged,
    /// A transaction that is not ours took the nonce.
    ReplacedExternally,
    /// A lower nonce of the signer is missing from the network, and it is none of ours.
    NonceGap,
    /// An earlier transaction of the same signer has to be included first.
    BlockedByEarlierNonce,
    /// The offer per gas is below what a block asks.
    FeeTooLow,
    /// Blocks are full of what offers more to whoever builds them.
    TipTooLow,
    /// No node that was asked knows the transaction any more.
    DroppedFromMempool,
    /// The signer cannot pay for the transaction.
    InsufficientFunds,
    /// A node takes no more from the signer for now.
    SenderLimit,
    /// The transaction asks for more gas than a block has.
    TooLarge,
    /// Nothing is known to be wrong: it is still waiting.
    Pending,
}

impl Cause {
    /// Every cause with its code.
    pub const CODES: [(Self, &'static str); 16] = [
        (Self::RpcUnavailable, "rpc_unavailable"),
        (Self::ChainStalled, "chain_stalled"),
        (Self::RpcDisagreement, "rpc_disagreement"),
        (Self::AwaitingConfirmations, "awaiting_confirmations"),
        (Self::Reverted, "reverted"),
        (Self::Reorged, "reorged"),
        (Self::ReplacedExternally, "replaced_externally"),
        (Self::NonceGap, "nonce_gap"),
        (Self::BlockedByEarlierNonce, "blocked_by_earlier_nonce"),
        (Self::FeeTooLow, "fee_too_low"),
        (Self::TipTooLow, "tip_too_low"),
        (Self::DroppedFromMempool, "dropped_from_mempool"),
        (Self::InsufficientFunds, "insufficient_funds"),
        (Self::SenderLimit, "sender_limit"),
        (Self::TooLarge, "too_large"),
        (Self::Pending, "pending"),
    ];

    /// The stable code: metric label, column and error metadata.
    pub fn code(self) -> &'static str {
        code_of(&Self::CODES, self)
    }
}

impl FromStr for Cause {
    type Err = UnknownCode;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        from_code(&Self::CODES, code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_survive_a_round_trip() {
        for (cause, code) in Cause::CODES {
            assert_eq!((cause.code(), code.parse()), (code, Ok(cause)));
        }
    }
}
