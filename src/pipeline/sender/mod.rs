//! One signer's sender: it claims queued registrations and prepares, signs, stores and broadcasts them strictly in the
//! order of its nonces, and maintains its pending transactions by rebroadcast, replacement, and filling nonce gaps.

mod blocked;
mod choose_nonce;
mod maintain;
mod nonce_gap;
mod prepare;
mod replace;
mod schedule;
mod send;
mod sign;
mod types;
mod unproven_jump;

use super::{blockers::SenderBlockers, error::PrepareError};
use crate::{
    registration::policy::batching,
    store::StoreError,
    telemetry::{log_retry, spans},
};
use blocked::max_affordable_batch;
use schedule::{Action, Round, schedule};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{MAX_CLAIM, StepOutcome};
pub(in crate::pipeline) use types::{Sender, SenderParts};

impl Sender {
    /// Runs until `stop`, and ends only between two actions, so that everything begun is either stored or undone.
    pub(in crate::pipeline) async fn run(mut self, stop: CancellationToken) {
        let _active = self.blockers().register(self.address());
        let (mut enqueued, mut heads) = (self.parts.queue.subscribe(), self.parts.head.subscribe());
        let mut pending_changes = self.parts.in_flight.subscribe();
        let mut round = Round::Start;
        while !stop.is_cancelled() {
            let is_blocked = self.blockers().get(self.address()).is_some();
            match schedule(Instant::now(), &self.timers, round, is_blocked) {
                Action::Resync => {
                    if !self.resync_from_store().await {
                        stop.run_until_cancelled(tokio::time::sleep(self.backoff.next_delay())).await;
                    }
                }
                Action::MaintainPending => {
                    heads.mark_unchanged();
                    pending_changes.mark_unchanged();
                    let all_broadcast = self.maintain_pending(&stop).await;
                    round = Round::Maintained { all_broadcast, has_in_flight_room: self.has_in_flight_room() };
                }
                Action::SendBatch { check_blocker } => {
                    stop.run_until_cancelled(self.wait_for_batch()).await;
                    enqueued.mark_unchanged();
                    let outcome = if check_blocker || self.is_blocked_by_signer() {
                        self.send_unless_blocked().await
                    } else {
                        self.send_next_batch().await
                    };
                    match outcome {
                        StepOutcome::Progressed => {
                            self.backoff.reset();
                            self.timers.claim_now(Instant::now());
                            round = Round::Start;
                        }
                        StepOutcome::Idle => self.timers.on_empty_queue(Instant::now()),
                        StepOutcome::RetryLater => {
                            self.timers.claim_after(Instant::now(), self.backoff.next_delay());
                        }
                    }
                }
                Action::Wait { until } => {
                    // Neither the queue nor the head ends before the sender, which holds both.
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep_until(until) => {}
                        _ = pending_changes.changed() => {}
                        _ = heads.changed() => if self.is_fee_wait_over() { self.timers.claim_now(Instant::now()) },
                        _ = enqueued.changed(), if self.timers.claims_on_enqueue() => {
                            self.timers.claim_now(Instant::now());
                        }
                    }
                    round = Round::Start;
                }
            }
        }
    }

    fn blockers(&self) -> &SenderBlockers {
        &self.parts.blockers
    }

    fn has_in_flight_room(&self) -> bool {
        let is_at_limit = self.parts.in_flight.count_of_signer(self.address()) >= self.in_flight_limit.get();
        self.blockers().set_at_limit(self.address(), is_at_limit);
        !is_at_limit
    }

    /// While transactions are in flight, a short wait lets more registrations share the next one.
    async fn wait_for_batch(&self) {
        let sent: usize = self.parts.in_flight.all().iter().map(|tx| tx.members.len()).sum();
        let unfinished = usize::try_from(self.parts.store.unfinished_count()).unwrap_or(usize::MAX);
        let in_flight = self.parts.in_flight.count_of_signer(self.address());
        tokio::time::sleep(batching::batch_delay(in_flight, unfinished.saturating_sub(sent), MAX_CLAIM)).await;
    }

    async fn send_unless_blocked(&mut self) -> StepOutcome {
        match self.blockers().get(self.address()) {
            Some(blocker) if self.is_still_blocked(&blocker).await => self.report_queue_blocked(&blocker).await,
            Some(_) | None => self.send_next_batch().await,
        }
    }

    async fn send_next_batch(&mut self) -> StepOutcome {
        let max_batch = self.max_batch.min(self.batch_ceiling.get(Instant::now()));
        let mut claim = match self.parts.queue.claim(self.address(), max_batch).await {
            Ok(claim) if claim.registrations.is_empty() => return StepOutcome::Idle,
            Ok(claim) => claim,
            Err(error) => return self.on_store_error(&error),
        };
        let batch = spans::batch(claim.registrations.first().and_then(|first| first.trace.sampled).unwrap_or(false));
        match batch.run(self.prepare(&mut claim, &batch)).await {
            Ok(tx) => {
                drop(claim);
                self.blockers().clear(self.address());
                self.fee_wait = None;
                self.report_unblocked();
                if let Some(tx) = tx {
                    self.max_batch = (self.max_batch * 2).min(MAX_CLAIM);
                    batch.run(self.broadcast(&tx)).await;
                }
                StepOutcome::Progressed
            }
            Err(PrepareError::Blocked(blocker)) => {
                if let Some(count) = max_affordable_batch(&blocker, claim.registrations.len()) {
                    self.max_batch = count;
                    // The smaller batch is a full attempt at once.
                    self.blockers().clear(self.address());
                    batch.mark_repeat();
                    return StepOutcome::Progressed;
                }
                if self.reported_blocker.is_some_and(|(reported, _)| reported == blocker.blocked_reason()) {
                    batch.mark_repeat();
                }
                if self.on_blocked(&claim.ids(), blocker).await {
                    self.parts.queue.release(claim).await;
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

    /// Starts tracking the transactions whose commit succeeded although its answer was lost. They come before anything
    /// new, because every later nonce waits for them.
    async fn resync_from_store(&mut self) -> bool {
        match self.parts.tracker.resume_signer(self.address()).await {
            Ok(()) => {
                self.timers.set_needs_resync(false);
                true
            }
            Err(error) => {
                self.on_store_error(&error);
                false
            }
        }
    }

    fn on_store_error(&mut self, error: &StoreError) -> StepOutcome {
        log_retry!(error, signer = %self.address(), "store access failed, sender retrying");
        // Another writer may have assigned nonces; the store knows the next one.
        self.next_nonce = None;
        self.timers.set_needs_resync(true);
        StepOutcome::RetryLater
    }
}
