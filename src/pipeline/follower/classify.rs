//! What a poll does about each pending transaction, decided from what it has read.

use crate::{pipeline::tx_state::TxPhase, registration::Block};
use alloy::primitives::B256;

/// Whether the last verified head is still canonical.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChainSwitch {
    Same,
    /// It is not, or the head regressed: every tracked block has to be checked again.
    Switched,
    /// The endpoint is behind the last verified head. The next poll asks again.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TxAction {
    Wait,
    /// It waits for a block: its bytes are sent again from time to time.
    Rebroadcast,
    /// Its nonce is consumed: one of its attempts may have a receipt.
    FindReceipt,
    /// Its block may be deep enough to confirm it, or may be reorged out.
    CheckBlock {
        block: Block,
        /// Of the attempt that the block includes.
        hash: B256,
        at_confirmation_depth: bool,
    },
}

pub(super) fn classify(
    phase: TxPhase,
    is_nonce_consumed: bool,
    chain_switch: ChainSwitch,
    at_confirmation_depth: impl FnOnce(&Block) -> bool,
) -> TxAction {
    match phase {
        TxPhase::Signed | TxPhase::Submitted if is_nonce_consumed => TxAction::FindReceipt,
        TxPhase::Submitted => TxAction::Rebroadcast,
        // The sender sends it first.
        TxPhase::Signed => TxAction::Wait,
        TxPhase::Included { block, hash } => {
            let at_confirmation_depth = at_confirmation_depth(&block);
            match chain_switch {
                ChainSwitch::Same if !at_confirmation_depth => TxAction::Wait,
                ChainSwitch::Same | ChainSwitch::Switched | ChainSwitch::Unknown => {
                    TxAction::CheckBlock { block, hash, at_confirmation_depth }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Timestamp;

    #[test]
    fn the_phase_the_nonce_and_the_chain_decide_what_is_done() {
        use ChainSwitch::{Same, Switched, Unknown};
        let hash = B256::repeat_byte(7);
        let block = Block { number: 7, hash, time: Timestamp::from_seconds(1) };
        let included = TxPhase::Included { block, hash };
        let check = |at_confirmation_depth| TxAction::CheckBlock { block, hash, at_confirmation_depth };
        for (phase, is_nonce_consumed, chain_switch, is_deep, expected) in [
            (TxPhase::Signed, false, Same, false, TxAction::Wait),
            (TxPhase::Signed, true, Same, false, TxAction::FindReceipt),
            (TxPhase::Submitted, false, Same, false, TxAction::Rebroadcast),
            (TxPhase::Submitted, false, Switched, false, TxAction::Rebroadcast),
            (TxPhase::Submitted, false, Unknown, false, TxAction::Rebroadcast),
            (TxPhase::Submitted, true, Unknown, false, TxAction::FindReceipt),
            (included, true, Same, false, TxAction::Wait),
            (included, true, Same, true, check(true)),
            (included, true, Switched, false, check(false)),
            (included, true, Unknown, false, check(false)),
            // A reorg may have given the nonce back.
            (included, false, Switched, true, check(true)),
            (included, false, Same, false, TxAction::Wait),
        ] {
            let action = classify(phase, is_nonce_consumed, chain_switch, |_| is_deep);
            assert_eq!(action, expected, "{phase:?}, nonce consumed: {is_nonce_consumed}, {chain_switch:?}");
        }
    }
}
