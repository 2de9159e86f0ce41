//! The sixteen causes.

use crate::registration::codes::coded_enum;

coded_enum! {
    /// Why a registration is not confirmed: metric label, column and error metadata.
    pub enum Cause {
        /// No RPC endpoint is usable.
        RpcUnavailable = "rpc_unavailable",
        /// No endpoint reports a new block.
        ChainStalled = "chain_stalled",
        /// The endpoints contradict each other.
        RpcDisagreement = "rpc_disagreement",
        /// In a canonical block that is not deep enough yet.
        AwaitingConfirmations = "awaiting_confirmations",
        /// The transaction reverted, or would.
        Reverted = "reverted",
        /// The block that held the transaction is no longer canonical.
        Reorged = "reorged",
        /// A transaction of another sender of the same account has the nonce.
        ReplacedExternally = "replaced_externally",
        /// A lower nonce of the signer is missing from the network, and no transaction of ours has it.
        NonceGap = "nonce_gap",
        /// An earlier transaction of the same signer has to be included first.
        BlockedByEarlierNonce = "blocked_by_earlier_nonce",
        /// The maximum fee is below the base fee or a node's minimum.
        FeeTooLow = "fee_too_low",
        /// Blocks are full of transactions with higher priority fees.
        TipTooLow = "tip_too_low",
        /// No node that answered knows the transaction any more.
        DroppedFromMempool = "dropped_from_mempool",
        /// The signer cannot pay for the transaction.
        InsufficientFunds = "insufficient_funds",
        /// A node accepts no more transactions of the signer for now.
        SenderLimit = "sender_limit",
        /// The transaction needs more gas than a block has.
        TooLarge = "too_large",
        /// No problem is known: it is still waiting.
        Pending = "pending",
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
