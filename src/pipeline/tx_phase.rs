//! What other files read of a pending transaction's state.

use crate::registration::{Block, BlockedReason, Timestamp, diagnosis::NodeRejection, diagnosis::RejectKind};
use alloy::primitives::B256;
use std::time::Duration;
use tokio::time::Instant;

/// `TxState` without its data, to be compared and matched on outside of the lock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum TxPhase {
    Signed,
    Submitted,
    Included { block: Block, hash: B256 },
}

/// Whether the confirmation timeout has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TimeoutState {
    /// Not yet, or nothing was sent.
    Pending,
    /// It has passed, and evidence is being collected.
    Diagnosing,
    /// It has passed, and that is stored and reported.
    TimedOut,
}

/// The blocked reason that a transaction's registrations show while no block includes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BlockedState {
    /// Only the store has it: this run has written none yet.
    Unknown,
    /// None: they wait for a block.
    Clear,
    Blocked(BlockedReason),
}

/// Since when, and since which head, this process sees the nonce consumed without a receipt for any attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NonceConsumed {
    pub(super) since: Instant,
    pub(super) at_head: u64,
}

/// How long the latest attempt has waited for a block, for the decision whether to replace it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlockWait {
    pub(super) pending_for: Duration,
    pub(super) blocks: u64,
    /// Whether it was underpriced at an earlier look, whatever it is now.
    pub(super) was_underpriced: bool,
    pub(super) last_rejection: Option<RejectKind>,
}

/// An observation that differs from what the store has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ObservationChange {
    LastRejection(Option<NodeRejection>),
    ReceiptMissingSince(Option<Timestamp>),
}
