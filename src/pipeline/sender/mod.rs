//! One signer's lane: claim, prepare, sign, write, send; strictly in the order of its nonces. And what is out is looked after: sent
//! again, signed again, or unstuck.
//!
//! A lane sends a transaction before it signs the next: what a node refuses for now never leaves a gap behind it.

mod blockers;
mod cost;
mod maintain;
mod nonce_gap;
mod preflight;
mod prepare;
mod replace;
mod send;

use super::{
    Context,
    in_flight::{PendingTx, TxPhase},
    resume,
};
use crate::{
    chain::{Backoff, Signer},
    registration::{
        BlockedReason, RegistrationId,
        policy::{batching, in_flight_limit::InFlightLimit},
    },
    store::StoreError,
    telemetry::{events, log_retry, spans},
};
use alloy::primitives::Address;
pub use blockers::SenderBlockers;
use blockers::{FeeWaitGuard, max_affordable_batch};
pub use preflight::preflight;
use prepare::PrepareError;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// More registrations than fit into any transaction.
const MAX_CLAIM: usize = batching::MAX_BATCH_REGISTRATIONS;
/// The longest time until a lane that met an obstacle tries again.
const SENDER_MAX_BACKOFF: Duration = Duration::from_secs(2);
/// Queued work whose time has come is looked for this often when nothing tells of new work.
const IDLE_QUEUE_POLL: Duration = Duration::from_millis(500);

/// One signer's lane.
#[derive(Debug)]
pub struct Sender {
    context: Context,
    signer: Signer,
    /// The nonce after the last one given out; `None` before the first.
    next_nonce: Option<u64>,
    /// At most this many registrations together: halved while a batch reverts, to find the one that is at fault.
    max_batch: usize,
    /// Whether a write failed, so that what is on disk may be more than what is in memory.
    needs_resync: bool,
    /// How many transactions may be out.
    in_flight_limit: InFlightLimit,
    backoff: Backoff,
    /// When bytes that no node took go out again.
    next_send: Instant,
    /// When the chain is next asked whether an earlier nonce is missing.
    next_gap_check: Instant,
    /// When a version is next made that the day's budget has to allow, after it did not allow one.
    next_budget_check: Instant,
    /// Until when what stands in the way is only looked at again, and not tried.
    next_full_attempt: Instant,
    /// Held while the lane waits for fees to fall.
    fee_wait: Option<FeeWaitGuard>,
    /// What it was said to wait for, so that it is reported once, and since when it waits for anything.
    reported_blocker: Option<(BlockedReason, Instant)>,
}

enum StepOutcome {
    Progressed,
    Idle,
    RetryLater,
}

/// When the queue is looked at next.
struct NextPoll {
    at: Instant,
    /// Whether news of it are worth a look before.
    wake_on_enqueue: bool,
}

impl Sender {
    /// A lane for this signer.
    pub fn new(tools: Context, signer: Signer) -> Self {
        let (window, delays) = (InFlightLimit::default(), Backoff::with_max_delay(SENDER_MAX_BACKOFF));
        let now = Instant::now();
        Self {
            context: tools,
            signer,
            next_nonce: None,
            max_batch: MAX_CLAIM,
            needs_resync: false,
            in_flight_limit: window,
            backoff: delays,
            next_send: now,
            next_gap_check: now,
            next_budget_check: now,
            next_full_attempt: now,
            fee_wait: None,
            reported_blocker: None,
        }
    }

    fn address(&self) -> Address {
        self.signer.address()
    }

    /// Works until `stop`; ends between two steps, so that everything it began is either on disk or undone.
    pub async fn run(mut self, stop: CancellationToken) {
        let _on_duty = self.context.blockers.register(self.address());
        let (mut news, mut heads) = (self.context.queue.subscribe(), self.context.head.subscribe());
        let mut changes = self.context.in_flight.subscribe();
        let mut look = NextPoll { at: Instant::now(), wake_on_enqueue: true };
        while !stop.is_cancelled() {
            heads.mark_unchanged();
            changes.mark_unchanged();
            if self.needs_resync && !self.resync_from_store().await {
                stop.run_until_cancelled(tokio::time::sleep(self.backoff.next_delay())).await;
                continue;
            }
            let clear = self.maintain_pending(&stop).await;
            let room = self.has_in_flight_room();
            if clear && room && Instant::now() >= look.at {
                stop.run_until_cancelled(self.wait_for_batch()).await;
                news.mark_unchanged();
                look = match self.send_next_batch().await {
                    StepOutcome::Progressed => {
                        self.backoff.reset();
                        look.at = Instant::now();
                        continue;
                    }
                    StepOutcome::Idle => NextPoll { at: Instant::now() + IDLE_QUEUE_POLL, wake_on_enqueue: true },
                    StepOutcome::RetryLater => {
                        NextPoll { at: Instant::now() + self.backoff.next_delay(), wake_on_enqueue: false }
                    }
                };
            }
            let until = match (clear, room) {
                (false, _) => self.next_send,
                (true, false) => Instant::now() + IDLE_QUEUE_POLL,
                (true, true) => look.at,
            };
            // The senders live as long as the tools do.
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until(until) => {}
                _ = changes.changed() => {}
                _ = heads.changed() => if self.is_fee_wait_over() { look.at = Instant::now() },
                _ = news.changed(), if look.wake_on_enqueue => look.at = Instant::now(),
            }
        }
    }

    /// Whether another transaction may go out.
    fn has_in_flight_room(&self) -> bool {
        let full = self.context.in_flight_count(self.address()) >= self.in_flight_limit.get();
        self.context.set_at_limit(self.address(), full);
        !full
    }

    /// A little time for company while others are out.
    async fn wait_for_batch(&self) {
        let carried: usize = self.context.in_flight.all().iter().map(|flight| flight.members.len()).sum();
        let queued = usize::try_from(self.context.store.unfinished_count()).unwrap_or(usize::MAX);
        let in_flight = self.context.in_flight_count(self.address());
        tokio::time::sleep(batching::batch_delay(in_flight, queued.saturating_sub(carried), MAX_CLAIM)).await;
    }

    async fn send_next_batch(&mut self) -> StepOutcome {
        if let Some(hindrance) = self.context.blockers.get(self.address())
            && Instant::now() < self.next_full_attempt
            && self.is_still_blocked(&hindrance).await
        {
            return self.report_queue_blocked(&hindrance).await;
        }
        let mut claim = match self.context.queue.claim(self.signer.address(), self.max_batch).await {
            Ok(claim) if claim.registrations.is_empty() => return StepOutcome::Idle,
            Ok(claim) => claim,
            Err(error) => return self.on_store_error(&error),
        };
        let batch = spans::batch(claim.registrations.first().and_then(|first| first.trace.sampled).unwrap_or(false));
        let prepared = batch.run(self.prepare(&mut claim, &batch)).await;
        match prepared {
            Ok(flight) => {
                drop(claim);
                self.context.blockers.clear(self.address());
                self.fee_wait = None;
                self.report_unblocked();
                if let Some(flight) = flight {
                    self.max_batch = (self.max_batch * 2).min(MAX_CLAIM);
                    batch.run(self.broadcast(&flight)).await;
                }
                StepOutcome::Progressed
            }
            Err(PrepareError::Blocked(hindrance)) => {
                if let Some(fewer) = max_affordable_batch(&hindrance, claim.registrations.len()) {
                    self.max_batch = fewer;
                    // Tried at once, and with no more than these.
                    self.context.blockers.clear(self.address());
                    batch.mark_repeat();
                    return StepOutcome::Progressed;
                }
                if self.reported_blocker.is_some_and(|(told, _)| told == hindrance.blocked_reason()) {
                    batch.mark_repeat();
                }
                let is_left = self.on_blocked(&claim.ids(), hindrance).await;
                if is_left {
                    self.context.queue.release(claim).await;
                }
                StepOutcome::RetryLater
            }
            Err(PrepareError::BatchReverts) => {
                self.max_batch = (claim.registrations.len() / 2).max(1);
                StepOutcome::Progressed
            }
            Err(PrepareError::Store(error)) => self.on_store_error(&error),
        }
    }

    /// Takes up what was written although nobody was told. Whatever there is to be looked after has to be known first: it may be what
    /// everything else waits for.
    async fn resync_from_store(&mut self) -> bool {
        match resume::resume_signer(&self.context, self.address()).await {
            Ok(()) => self.needs_resync = false,
            Err(error) => drop(self.on_store_error(&error)),
        }
        !self.needs_resync
    }

    fn on_store_error(&mut self, error: &StoreError) -> StepOutcome {
        log_retry!(error, signer = %self.address(), "the lane waits for the store");
        // Another writer may have given out nonces; the store knows.
        self.next_nonce = None;
        self.needs_resync = true;
        StepOutcome::RetryLater
    }

    async fn mark_queued_blocked(&mut self, ids: &[RegistrationId], blocked: BlockedReason, detail: &str) {
        let now = super::now();
        match self.context.store.set_blocked_queued(ids, blocked, now, now).await {
            Ok(0) => {}
            Ok(_) => self.report_blocked(ids, blocked, detail).await,
            Err(error) => log_retry!(error, "a blocked reason could not be written"),
        }
    }

    async fn report_blocked(&mut self, ids: &[RegistrationId], blocked: BlockedReason, detail: &str) {
        let news = self.reported_blocker.is_none_or(|(told, _)| told != blocked);
        let since = self.reported_blocker.map_or_else(Instant::now, |(_, since)| since);
        self.reported_blocker = Some((blocked, since));
        events::registrations_blocked(self.address(), blocked, ids.len(), detail, news);
        self.context.waiters.notify_changed(ids).await;
    }

    /// What was said to be in the way is not any more.
    fn report_unblocked(&mut self) {
        if let Some((blocked, since)) = self.reported_blocker.take() {
            events::registrations_unblocked(self.address(), blocked, since.elapsed());
        }
    }
}
