//! The sender's state and the types that its files share.

use super::{schedule::Timers, unproven_jump::UnprovenJump};
use crate::{
    chain::{Backoff, Chain, Header, Signer, UnsignedTransaction},
    pipeline::{
        blockers::{FeeWaitGuard, SenderBlockers},
        follower_inbox::FollowerInbox,
        head::HeadWatch,
        import_unknown::Importer,
        in_flight::PendingTxs,
        queue::Queue,
        registration_trace::ChainInfo,
        resume::Tracker,
        settings::Settings,
        waiters::Waiters,
    },
    registration::{
        BlockedReason,
        policy::{batching, budget::OverBudget, in_flight_limit::InFlightLimit},
    },
    store::Store,
    telemetry::OngoingCondition,
};
use alloy::primitives::Address;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

pub(super) const MAX_CLAIM: usize = batching::MAX_BATCH_REGISTRATIONS;

/// For how long batches stay small after a cut: then a full one is tried again.
const BATCH_CEILING_TTL: Duration = Duration::from_secs(600);

/// The largest batch that blocks are known to take, after a larger one was cut in vain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchCeiling(Option<(usize, Instant)>);

impl BatchCeiling {
    pub(super) fn lower_to(&mut self, size: usize, now: Instant) {
        *self = Self(Some((size, now + BATCH_CEILING_TTL)));
    }

    pub(super) fn get(&self, now: Instant) -> usize {
        self.0.filter(|(_, until)| now < *until).map_or(MAX_CLAIM, |(size, _)| size)
    }
}

/// What every sender of a process uses.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct SenderParts {
    pub(in crate::pipeline) chain: Chain,
    pub(in crate::pipeline) store: Store,
    pub(in crate::pipeline) settings: Arc<Settings>,
    pub(in crate::pipeline) in_flight: Arc<PendingTxs>,
    pub(in crate::pipeline) waiters: Waiters,
    pub(in crate::pipeline) queue: Queue,
    pub(in crate::pipeline) head: HeadWatch,
    pub(in crate::pipeline) blockers: SenderBlockers,
    pub(in crate::pipeline) follower_inbox: FollowerInbox,
    pub(in crate::pipeline) chain_info: Arc<ChainInfo>,
    pub(in crate::pipeline) tracker: Tracker,
    pub(in crate::pipeline) importer: Importer,
}

/// Sends the queued registrations with one signer, strictly in the order of its nonces.
#[derive(Debug)]
pub(in crate::pipeline) struct Sender {
    pub(super) parts: SenderParts,
    pub(super) signer: Signer,
    /// The nonce after the last one assigned; `None` until it is read from the store.
    pub(super) next_nonce: Option<u64>,
    /// While the chain's nonce is above the store's, and not proven.
    pub(super) unproven_jump: Option<UnprovenJump>,
    /// A nonce gap that is too wide to be filled is logged once.
    pub(super) wide_gap: OngoingCondition,
    /// Halved while a batch reverts, to isolate the registration at fault, and doubled after each batch that is signed.
    pub(super) max_batch: usize,
    pub(super) batch_ceiling: BatchCeiling,
    pub(super) in_flight_limit: InFlightLimit,
    pub(super) backoff: Backoff,
    pub(super) timers: Timers,
    /// What the signer did not sign last, to see later whether it signs again.
    pub(super) unsigned: Option<UnsignedTransaction>,
    /// Set while the sender waits for the base fee to fall below the cap.
    pub(super) fee_wait: Option<FeeWaitGuard>,
    /// The reason last logged, so that it is logged once, and when the sender became blocked by any reason.
    pub(super) reported_blocker: Option<(BlockedReason, Instant)>,
}

impl Sender {
    pub(in crate::pipeline) fn new(parts: SenderParts, signer: Signer) -> Self {
        Self {
            parts,
            signer,
            next_nonce: None,
            unproven_jump: None,
            wide_gap: OngoingCondition::new(),
            max_batch: MAX_CLAIM,
            batch_ceiling: BatchCeiling::default(),
            in_flight_limit: InFlightLimit::default(),
            backoff: Backoff::new(),
            timers: Timers::new(Instant::now()),
            unsigned: None,
            fee_wait: None,
            reported_blocker: None,
        }
    }

    pub(super) fn address(&self) -> Address {
        self.signer.address()
    }
}

pub(super) enum StepOutcome {
    Progressed,
    /// The queue is empty.
    Idle,
    /// Blocked, or the store failed.
    RetryLater,
}

/// The chain as of one round of maintenance, the same for every pending transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChainConditions {
    pub(super) head: Header,
    pub(super) stalled: bool,
}

/// Why a transaction is replaced, which decides how much of the daily budget the replacement may use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Urgency {
    /// Its fees are sufficient; the bump is only scheduled.
    Routine,
    /// No block includes it as it is.
    Stuck,
    /// As `Stuck`, and every later nonce of the signer waits for it.
    BlocksQueue {
        /// In wei per gas.
        base_fee: u128,
    },
}

#[derive(Debug)]
pub(super) enum ReplacementOutcome {
    /// The new version is in the store and the latest one from now on.
    Replaced,
    /// Not due, not possible, or blocked for a reason that is reported already.
    NotReplaced,
    /// The daily budget has no room for it.
    OverBudget(OverBudget),
}

impl ReplacementOutcome {
    pub(super) fn is_replaced(&self) -> bool {
        match self {
            Self::Replaced => true,
            Self::NotReplaced | Self::OverBudget(_) => false,
        }
    }
}
