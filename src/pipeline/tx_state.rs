//! The state of a pending transaction and its transitions, in memory.
//!
//! ```text
//! Signed ──mark_submitted──▶ Submitted ──mark_included──▶ Included
//!    └──────────mark_included (its answer was lost)──────────▲ │
//!                                Submitted ◀──mark_reorged──────┘
//! ```
//!
//! A transaction leaves memory when it is confirmed or can never be included; no state here says so. Each transition
//! follows the write that stores it. Nothing here reads a clock or does I/O.

pub(super) use super::tx_phase::{BlockWait, BlockedState, NonceConsumed, ObservationChange, TimeoutState, TxPhase};

use crate::{
    registration::{Block, Timestamp, diagnosis::NodeRejection},
    store::{AcceptedBy, StoredObservations},
};
use alloy::primitives::B256;
use std::time::Duration;
use tokio::time::Instant;

/// Steps that a transaction's history keeps for reports.
const MAX_HISTORY_ENTRIES: usize = 50;

/// Where a transaction is, with what is known only there.
#[derive(Clone, Debug)]
enum TxState {
    /// On disk; no endpoint is known to have accepted it.
    Signed { unmined: Unmined },
    /// An endpoint accepted it; no canonical block is known to include it.
    Submitted {
        unmined: Unmined,
        /// The block that included it until a reorg.
        reorged_out_of: Option<u64>,
    },
    /// In a canonical block below confirmation depth.
    Included {
        block: Block,
        /// Of the attempt that the block includes.
        hash: B256,
    },
}

/// What matters about a transaction only as long as no block includes it. A reorg starts it anew.
#[derive(Clone, Debug)]
struct Unmined {
    /// When its latest bytes were sent; `None` since the process started or a reorg removed it: then they are sent at
    /// once.
    last_broadcast: Option<Instant>,
    /// Since when, and since which head, the latest attempt waits for a block.
    pending_since: Option<(Instant, u64)>,
    /// Whether the base fee exceeded its fee cap since the last broadcast, so that nodes may have dropped it.
    underpriced: bool,
    blocked: BlockedState,
    nonce_consumed: Option<NonceConsumed>,
    /// Since when its nonce is consumed without a receipt, once that has lasted; other replicas may have seen it first.
    receipt_missing_since: Option<Timestamp>,
    /// Of the last broadcast.
    last_rejection: Option<NodeRejection>,
}

/// A pending transaction's state, and what survives its changes.
#[derive(Clone, Debug)]
pub(super) struct TxStatus {
    state: TxState,
    submitted_at: Option<Timestamp>,
    timeout: TimeoutState,
    accepted_by: AcceptedBy,
    history: Vec<(Timestamp, String)>,
    persisted: PersistedObservations,
}

/// What the store is known to have of the observations that are written by themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct PersistedObservations {
    last_rejection: Option<NodeRejection>,
    receipt_missing_since: Option<Timestamp>,
    /// After a failed write.
    retry_at: Option<Instant>,
}

impl Unmined {
    fn new() -> Self {
        Self {
            last_broadcast: None,
            pending_since: None,
            underpriced: false,
            blocked: BlockedState::Clear,
            nonce_consumed: None,
            receipt_missing_since: None,
            last_rejection: None,
        }
    }
}

impl TxStatus {
    pub(super) fn signed() -> Self {
        Self {
            state: TxState::Signed { unmined: Unmined::new() },
            submitted_at: None,
            timeout: TimeoutState::Pending,
            accepted_by: AcceptedBy::default(),
            history: Vec::new(),
            persisted: PersistedObservations::default(),
        }
    }

    /// As the store has it, after a start or a change of the lease.
    pub(super) fn resume(
        phase: TxPhase,
        submitted_at: Option<Timestamp>,
        timeout: TimeoutState,
        stored: StoredObservations,
    ) -> Self {
        let StoredObservations { accepted_by, reorged_from_block, last_rejection, missing_since } = stored;
        let persisted = PersistedObservations {
            last_rejection: last_rejection.clone(),
            receipt_missing_since: missing_since,
            retry_at: None,
        };
        let unmined = Unmined {
            blocked: BlockedState::Unknown,
            receipt_missing_since: missing_since,
            last_rejection,
            ..Unmined::new()
        };
        let state = match phase {
            TxPhase::Signed => TxState::Signed { unmined },
            TxPhase::Submitted => TxState::Submitted { unmined, reorged_out_of: reorged_from_block },
            TxPhase::Included { block, hash } => TxState::Included { block, hash },
        };
        Self { submitted_at, timeout, accepted_by, persisted, state, ..Self::signed() }
    }

    pub(super) fn phase(&self) -> TxPhase {
        match self.state {
            TxState::Signed { .. } => TxPhase::Signed,
            TxState::Submitted { .. } => TxPhase::Submitted,
            TxState::Included { block, hash } => TxPhase::Included { block, hash },
        }
    }

    // Transitions.

    /// An endpoint accepted the bytes, or reports that their nonce is consumed. A block may already include the
    /// transaction: then only the time is new.
    pub(super) fn mark_submitted(&mut self, at: Timestamp) {
        if let TxState::Signed { unmined } = &self.state {
            self.state = TxState::Submitted { unmined: unmined.clone(), reorged_out_of: None };
        }
        self.submitted_at.get_or_insert(at);
    }

    /// A canonical block includes the attempt `hash`. The store forgets the observations with the same write.
    pub(super) fn mark_included(&mut self, block: Block, hash: B256, at: Timestamp) {
        self.state = TxState::Included { block, hash };
        self.persisted = PersistedObservations::default();
        // An endpoint must have accepted it, although no answer said so.
        self.submitted_at.get_or_insert(at);
        self.add_history(format!("included in block {}", block.number), at);
    }

    /// The including block is not canonical any more. Some nodes do not return the transactions of a dropped block to
    /// their mempools: nothing counts as broadcast, so that the follower sends the bytes at once.
    pub(super) fn mark_reorged(&mut self, at: Timestamp) {
        let TxState::Included { block, .. } = self.state else { return };
        self.state = TxState::Submitted { unmined: Unmined::new(), reorged_out_of: Some(block.number) };
        self.persisted = PersistedObservations::default();
        self.add_history(format!("reorged out of block {}", block.number), at);
    }

    /// Another attempt is stored: what was observed of the previous one does not apply to it. The store forgets the
    /// rejection with the same write.
    pub(super) fn mark_replaced(&mut self) {
        if let Some(unmined) = self.unmined_mut() {
            (unmined.pending_since, unmined.underpriced, unmined.blocked) = (None, false, BlockedState::Clear);
            unmined.last_rejection = None;
        }
        self.persisted.last_rejection = None;
    }

    /// Whether the confirmation timeout has just passed; true once.
    pub(super) fn start_timeout(&mut self, now: Timestamp, timeout: Duration) -> bool {
        let passed = self.submitted_at.is_some_and(|submitted| now.since(submitted) >= timeout);
        let starts = self.timeout == TimeoutState::Pending && passed;
        if starts {
            self.timeout = TimeoutState::Diagnosing;
        }
        starts
    }

    pub(super) fn mark_timed_out(&mut self) {
        self.timeout = TimeoutState::TimedOut;
    }

    // Observations.

    /// The latest attempt's bytes were sent at this head.
    pub(super) fn record_broadcast(&mut self, now: Instant, head: u64) {
        if let Some(unmined) = self.unmined_mut() {
            unmined.last_broadcast = Some(now);
            unmined.pending_since.get_or_insert((now, head));
            unmined.underpriced = false;
        }
    }

    /// Whether the bytes are to be sent again; if so they count as sent now.
    pub(super) fn start_rebroadcast(&mut self, now: Instant, interval: Duration) -> bool {
        let Some(unmined) = self.unmined_mut() else { return false };
        let due = unmined.last_broadcast.is_none_or(|at| now.duration_since(at) >= interval);
        if due {
            unmined.last_broadcast = Some(now);
        }
        due
    }

    pub(super) fn record_acceptance(&mut self, endpoint: &str) {
        if let Some(unmined) = self.unmined_mut() {
            unmined.last_rejection = None;
        }
        self.accepted_by.endpoint.get_or_insert_with(|| endpoint.to_owned());
    }

    /// The head when an endpoint accepted it. Returns both, to be stored.
    pub(super) fn record_accepted_at(&mut self, head: Option<u64>) -> AcceptedBy {
        self.accepted_by.head = head;
        self.accepted_by.clone()
    }

    /// `None` where the endpoint rejected the bytes only because it, or the chain, had them already.
    pub(super) fn record_rejection(&mut self, rejection: Option<NodeRejection>) {
        if let Some(unmined) = self.unmined_mut() {
            unmined.last_rejection = rejection;
        }
    }

    /// Replaces the rejection by the stored one.
    pub(super) fn reload_rejection(&mut self, stored: Option<NodeRejection>) {
        self.persisted.last_rejection.clone_from(&stored);
        self.record_rejection(stored);
    }

    /// How long the latest attempt has waited at this head. An underpriced one counts as underpriced until the next
    /// broadcast.
    pub(super) fn observe_block_wait(&mut self, now: Instant, head: u64, is_underpriced: bool) -> BlockWait {
        let Some(unmined) = self.unmined_mut() else {
            return BlockWait { pending_for: Duration::ZERO, blocks: 0, was_underpriced: false, last_rejection: None };
        };
        let was_underpriced = unmined.underpriced;
        unmined.underpriced |= is_underpriced;
        let (since, at_head) = *unmined.pending_since.get_or_insert((now, head));
        BlockWait {
            pending_for: now.duration_since(since),
            blocks: head.saturating_sub(at_head),
            was_underpriced,
            last_rejection: unmined.last_rejection.as_ref().map(|rejection| rejection.kind),
        }
    }

    /// The nonce is consumed, and no attempt has a receipt.
    pub(super) fn record_nonce_consumed(&mut self, now: Instant, head: u64) -> Option<NonceConsumed> {
        let unmined = self.unmined_mut()?;
        Some(*unmined.nonce_consumed.get_or_insert(NonceConsumed { since: now, at_head: head }))
    }

    /// That has lasted, and is to be stored.
    pub(super) fn record_receipt_missing(&mut self, since: Timestamp) {
        if let Some(unmined) = self.unmined_mut() {
            unmined.receipt_missing_since.get_or_insert(since);
        }
    }

    /// The nonce is not consumed, or there is a receipt.
    pub(super) fn clear_nonce_consumed(&mut self) {
        if let Some(unmined) = self.unmined_mut() {
            (unmined.nonce_consumed, unmined.receipt_missing_since) = (None, None);
        }
    }

    pub(super) fn set_blocked(&mut self, blocked: BlockedState) {
        if let Some(unmined) = self.unmined_mut() {
            unmined.blocked = blocked;
        }
    }

    /// A step for reports. The same step again is not repeated.
    pub(super) fn add_history(&mut self, step: String, at: Timestamp) {
        if self.history.len() < MAX_HISTORY_ENTRIES && self.history.last().is_none_or(|(_, last)| *last != step) {
            self.history.push((at, step));
        }
    }

    // What the store does not have yet.

    /// The observations to be written now. The same rejection at another time is no change.
    pub(super) fn unpersisted_observations(&self, now: Instant) -> Vec<ObservationChange> {
        if self.persisted.retry_at.is_some_and(|retry_at| now < retry_at) {
            return Vec::new();
        }
        let (rejection, missing_since) = (self.last_rejection(), self.receipt_missing_since());
        let same_rejection = match (&self.persisted.last_rejection, rejection) {
            (None, None) => true,
            (Some(stored), Some(seen)) => stored.is_same_rejection(seen),
            (Some(_), None) | (None, Some(_)) => false,
        };
        let mut changes = Vec::new();
        if !same_rejection {
            changes.push(ObservationChange::LastRejection(rejection.cloned()));
        }
        if self.persisted.receipt_missing_since != missing_since {
            changes.push(ObservationChange::ReceiptMissingSince(missing_since));
        }
        changes
    }

    pub(super) fn mark_persisted(&mut self, change: ObservationChange) {
        match change {
            ObservationChange::LastRejection(stored) => self.persisted.last_rejection = stored,
            ObservationChange::ReceiptMissingSince(stored) => self.persisted.receipt_missing_since = stored,
        }
    }

    /// The store forgot the rejection with another write.
    pub(super) fn mark_rejection_cleared(&mut self) {
        self.persisted.last_rejection = None;
    }

    pub(super) fn set_persist_retry(&mut self, at: Option<Instant>) {
        self.persisted.retry_at = at;
    }

    // Views.

    pub(super) fn submitted_at(&self) -> Option<Timestamp> {
        self.submitted_at
    }

    pub(super) fn accepted_by(&self) -> &AcceptedBy {
        &self.accepted_by
    }

    pub(super) fn history(&self) -> &[(Timestamp, String)] {
        &self.history
    }

    pub(super) fn reorged_out_of(&self) -> Option<u64> {
        match self.state {
            TxState::Submitted { reorged_out_of, .. } => reorged_out_of,
            TxState::Signed { .. } | TxState::Included { .. } => None,
        }
    }

    pub(super) fn last_rejection(&self) -> Option<&NodeRejection> {
        self.unmined()?.last_rejection.as_ref()
    }

    /// Whether the latest bytes were sent since the process started or a reorg removed the transaction from its block.
    pub(super) fn was_broadcast(&self) -> bool {
        self.unmined().is_some_and(|unmined| unmined.last_broadcast.is_some())
    }

    pub(super) fn pending_for(&self, now: Instant) -> Option<Duration> {
        self.unmined()?.pending_since.map(|(since, _)| now.duration_since(since))
    }

    pub(super) fn is_blocked(&self, blocked: BlockedState) -> bool {
        self.unmined().is_some_and(|unmined| unmined.blocked == blocked)
    }

    pub(super) fn is_nonce_consumed(&self) -> bool {
        self.unmined().is_some_and(|unmined| unmined.nonce_consumed.is_some())
    }

    /// For how long the nonce has been consumed without a receipt. After a lease changed hands, the stored time comes
    /// first: this process counts anew.
    pub(super) fn nonce_consumed_for(&self, wall_now: Timestamp, now: Instant) -> Option<Duration> {
        let unmined = self.unmined()?;
        let stored = unmined.receipt_missing_since.map(|since| wall_now.since(since));
        stored.or(unmined.nonce_consumed.map(|consumed| now.duration_since(consumed.since)))
    }

    fn receipt_missing_since(&self) -> Option<Timestamp> {
        self.unmined()?.receipt_missing_since
    }

    fn unmined(&self) -> Option<&Unmined> {
        match &self.state {
            TxState::Signed { unmined } | TxState::Submitted { unmined, .. } => Some(unmined),
            TxState::Included { .. } => None,
        }
    }

    fn unmined_mut(&mut self) -> Option<&mut Unmined> {
        match &mut self.state {
            TxState::Signed { unmined } | TxState::Submitted { unmined, .. } => Some(unmined),
            TxState::Included { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{BlockedReason, diagnosis::RejectKind};
    use tokio::time::Instant;

    type Transition = (&'static str, fn(&mut TxStatus));

    fn included() -> TxPhase {
        TxPhase::Included { block: block(7), hash: B256::repeat_byte(7) }
    }

    fn block(number: u8) -> Block {
        Block { number: u64::from(number), hash: B256::repeat_byte(number), time: at(1) }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn in_phase(phase: TxPhase) -> TxStatus {
        TxStatus::resume(phase, None, TimeoutState::Pending, StoredObservations::default())
    }

    fn rejection(message: &str, seconds: u64) -> NodeRejection {
        NodeRejection {
            endpoint: "a.example".to_owned(),
            code: -32000,
            message: message.to_owned(),
            kind: RejectKind::GasLimit,
            at: at(seconds),
        }
    }

    #[test]
    fn each_transition_from_each_phase_leads_to_one_phase() {
        let submit: Transition = ("submit", |status| status.mark_submitted(at(2)));
        let include: Transition = ("include", |status| status.mark_included(block(7), B256::repeat_byte(7), at(3)));
        let reorg: Transition = ("reorg", |status| status.mark_reorged(at(4)));
        let replace: Transition = ("replace", TxStatus::mark_replaced);
        let (signed, submitted, included) = (TxPhase::Signed, TxPhase::Submitted, included());
        for (from, (name, transition), to) in [
            (signed, submit, submitted),
            (signed, include, included),
            (signed, reorg, signed),
            (signed, replace, signed),
            (submitted, submit, submitted),
            (submitted, include, included),
            (submitted, reorg, submitted),
            (submitted, replace, submitted),
            // An endpoint's answer may arrive after the block.
            (included, submit, included),
            (included, reorg, submitted),
            (included, replace, included),
        ] {
            let mut status = in_phase(from);
            transition(&mut status);
            assert_eq!(status.phase(), to, "{name} from {from:?}");
        }
    }

    #[test]
    fn a_reorg_keeps_when_it_was_first_submitted_and_starts_everything_else_of_the_mempool_anew() {
        let now = Instant::now();
        let mut status = TxStatus::signed();
        status.record_broadcast(now, 5);
        status.record_acceptance("a.example");
        status.mark_submitted(at(2));
        status.set_blocked(BlockedState::Blocked(BlockedReason::FeeCap));
        status.record_rejection(Some(rejection("out of gas", 2)));
        status.record_nonce_consumed(now, 6);

        status.mark_included(block(7), B256::repeat_byte(7), at(3));
        assert!(!status.was_broadcast() && !status.is_nonce_consumed() && status.last_rejection().is_none());
        assert_eq!(status.unpersisted_observations(now), [], "the store forgets with the inclusion");

        status.mark_reorged(at(4));
        assert_eq!((status.reorged_out_of(), status.submitted_at()), (Some(7), Some(at(2))));
        assert!(status.is_blocked(BlockedState::Clear) && status.start_rebroadcast(now, Duration::from_secs(3)));
        assert_eq!(status.accepted_by().endpoint.as_deref(), Some("a.example"));

        status.mark_included(block(8), B256::repeat_byte(7), at(5));
        assert_eq!(status.reorged_out_of(), None);
        let steps: Vec<_> = status.history().iter().map(|(_, step)| step.as_str()).collect();
        assert_eq!(steps, ["included in block 7", "reorged out of block 7", "included in block 8"]);
    }

    #[test]
    fn an_included_transaction_counts_as_submitted_although_no_endpoint_said_so() {
        let mut status = TxStatus::signed();
        status.mark_included(block(7), B256::repeat_byte(7), at(3));
        assert_eq!(status.submitted_at(), Some(at(3)));
        status.mark_submitted(at(4));
        assert_eq!(status.submitted_at(), Some(at(3)));
    }

    #[test]
    fn an_attempt_is_rebroadcast_after_each_interval() {
        let (start, interval) = (Instant::now(), Duration::from_secs(3));
        let mut status = in_phase(TxPhase::Submitted);
        let due =
            [0, 2, 3, 5, 6].map(|seconds| status.start_rebroadcast(start + Duration::from_secs(seconds), interval));
        assert_eq!(due, [true, false, true, false, true]);
        assert!(!in_phase(included()).start_rebroadcast(start, interval));
    }

    #[test]
    fn a_replacement_waits_from_its_own_broadcast_on_and_inherits_no_observation() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let mut status = TxStatus::signed();
        status.record_broadcast(start, 10);
        status.record_rejection(Some(rejection("out of gas", 2)));
        status.set_blocked(BlockedState::Blocked(BlockedReason::FeeCap));
        status.observe_block_wait(start, 10, true);
        let wait = status.observe_block_wait(later, 13, false);
        let (pending_for, last_rejection) = (Duration::from_secs(5), Some(RejectKind::GasLimit));
        assert_eq!(wait, BlockWait { pending_for, blocks: 3, was_underpriced: true, last_rejection });

        status.mark_replaced();

        assert!(status.is_blocked(BlockedState::Clear) && status.was_broadcast());
        let wait = status.observe_block_wait(later, 13, false);
        let expected =
            BlockWait { pending_for: Duration::ZERO, blocks: 0, was_underpriced: false, last_rejection: None };
        assert_eq!(wait, expected);
    }

    #[test]
    fn the_confirmation_timeout_starts_one_diagnosis_and_counts_from_the_submission() {
        let timeout = Duration::from_secs(30);
        let mut status = TxStatus::signed();
        assert!(!status.start_timeout(at(1_000), timeout), "nothing was sent");
        status.mark_submitted(at(10));
        assert_eq!([39, 40, 41].map(|now| status.start_timeout(at(now), timeout)), [false, true, false]);
        status.mark_timed_out();
        assert!(!status.start_timeout(at(100), timeout));
    }

    #[test]
    fn an_observation_is_written_when_it_differs_from_the_stored_one_and_after_a_failure_not_at_once() {
        let (now, retry_at) = (Instant::now(), Instant::now() + Duration::from_secs(10));
        let mut status = in_phase(TxPhase::Submitted);
        assert_eq!(status.unpersisted_observations(now), []);

        status.record_rejection(Some(rejection("out of gas", 12)));
        status.record_receipt_missing(at(14));
        let changes = [
            ObservationChange::LastRejection(Some(rejection("out of gas", 12))),
            ObservationChange::ReceiptMissingSince(Some(at(14))),
        ];
        assert_eq!(status.unpersisted_observations(now), changes);
        status.set_persist_retry(Some(retry_at));
        assert_eq!(status.unpersisted_observations(now), []);
        assert_eq!(status.unpersisted_observations(retry_at), changes);

        changes.into_iter().for_each(|change| status.mark_persisted(change));
        status.record_rejection(Some(rejection("out of gas", 99)));
        assert_eq!(status.unpersisted_observations(retry_at), [], "the same rejection again");
        status.clear_nonce_consumed();
        status.record_acceptance("a.example");
        let cleared = [ObservationChange::LastRejection(None), ObservationChange::ReceiptMissingSince(None)];
        assert_eq!(status.unpersisted_observations(retry_at), cleared);
    }

    #[test]
    fn observations_that_another_replica_wrote_count_as_stored() {
        let stored = StoredObservations {
            missing_since: Some(at(1)),
            last_rejection: Some(rejection("no", 1)),
            ..StoredObservations::default()
        };
        let mut status = TxStatus::resume(TxPhase::Submitted, Some(at(1)), TimeoutState::Pending, stored);
        assert_eq!(status.unpersisted_observations(Instant::now()), []);
        assert_eq!(status.nonce_consumed_for(at(5), Instant::now()), Some(Duration::from_secs(4)));
        status.record_rejection(None);
        assert_eq!(status.unpersisted_observations(Instant::now()), [ObservationChange::LastRejection(None)]);
    }
}
