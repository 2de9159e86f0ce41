//! Callers' questions to the chain have a budget apart from the pipeline's: however many there are, the provider's rate
//! limit is left to registrations.

use crate::chain::Chain;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// RPC calls per second while no endpoint limits its rate. A poll of the pipeline makes about 20.
const MAX_RATE: f64 = 50.0;
/// While an endpoint limits its rate.
const MIN_RATE: f64 = 1.0;
/// Calls at once after a quiet time.
const BURST: f64 = 20.0;
/// A rate limit divides the rate by this,
const THROTTLED_DIVISOR: f64 = 4.0;
/// and each second without one adds this much.
const RECOVERY_PER_SECOND: f64 = 0.2;
/// Answers of one moment are one rate limit.
const THROTTLED_INTERVAL: Duration = Duration::from_secs(1);
/// Questions that are asked concurrently.
const MAX_CONCURRENT: usize = 4;

/// Shared by all callers of a process.
#[derive(Clone, Debug)]
pub(super) struct CallerBudget {
    chain: Chain,
    parts: Arc<BudgetParts>,
}

#[derive(Debug)]
struct BudgetParts {
    rate: Mutex<CallRate>,
    /// Callers wait in order.
    turn: Semaphore,
    slots: Semaphore,
}

impl CallerBudget {
    pub(super) fn new(chain: Chain) -> Self {
        let parts = BudgetParts {
            rate: Mutex::new(CallRate::new(Instant::now())),
            turn: Semaphore::new(1),
            slots: Semaphore::new(MAX_CONCURRENT),
        };
        Self { chain, parts: Arc::new(parts) }
    }

    /// Waits until this many RPC calls may be made, and for a slot, which is held until the answer to it is dropped.
    pub(super) async fn take(&self, calls: u32) -> Option<SemaphorePermit<'_>> {
        // Neither semaphore is ever closed.
        let slot = self.parts.slots.acquire().await.ok();
        let _turn = self.parts.turn.acquire().await;
        loop {
            let now = Instant::now();
            let wait = {
                let mut rate = self.parts.rate.lock();
                if self.chain.is_throttled() {
                    rate.on_throttled(now);
                }
                rate.take(calls, now)
            };
            match wait {
                None => return slot,
                Some(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// A token bucket whose rate falls with each rate limit and recovers slowly.
#[derive(Clone, Copy, Debug)]
struct CallRate {
    /// Negative after a question that needs more calls than there were.
    tokens: f64,
    per_second: f64,
    updated_at: Instant,
    throttled_at: Option<Instant>,
}

impl CallRate {
    fn new(now: Instant) -> Self {
        Self { tokens: BURST, per_second: MAX_RATE, updated_at: now, throttled_at: None }
    }

    /// Takes them, or returns how long to wait before trying again.
    fn take(&mut self, calls: u32, now: Instant) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.updated_at).as_secs_f64();
        self.updated_at = now;
        self.per_second = (self.per_second + elapsed * RECOVERY_PER_SECOND).min(MAX_RATE);
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second.min(BURST));
        if self.tokens >= 1.0 {
            self.tokens -= f64::from(calls);
            return None;
        }
        Some(Duration::from_secs_f64(((1.0 - self.tokens) / self.per_second).clamp(0.001, 1.0)))
    }

    fn on_throttled(&mut self, now: Instant) {
        if self.throttled_at.is_none_or(|at| now.saturating_duration_since(at) >= THROTTLED_INTERVAL) {
            self.throttled_at = Some(now);
            self.per_second = (self.per_second / THROTTLED_DIVISOR).max(MIN_RATE);
            self.tokens = self.tokens.min(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls of one question each that are made in `seconds`, trying every 10 ms.
    fn calls_made(rate: &mut CallRate, from: Instant, seconds: u64) -> u32 {
        let instants = (0..seconds * 100).map(|tick| from + Duration::from_millis(10 * tick));
        instants.map(|now| u32::from(rate.take(1, now).is_none())).sum()
    }

    #[test]
    fn a_rate_limit_slows_callers_down_to_a_call_per_second_and_recovery_is_slow() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut rate = CallRate::new(start);
        assert!((65..=75).contains(&calls_made(&mut rate, start, 1)), "the burst, and a second's share");
        for seconds in 1..5 {
            rate.on_throttled(after(seconds));
            rate.on_throttled(after(seconds));
        }
        let throttled = calls_made(&mut rate, after(5), 10);
        assert!((8..=35).contains(&throttled), "{throttled} calls in 10 s");
        let mut much_later = rate;
        assert!(calls_made(&mut much_later, after(600), 10) > 400);
    }

    #[test]
    fn a_question_that_needs_many_calls_is_paid_for_by_the_next_ones() {
        let start = Instant::now();
        let mut rate = CallRate::new(start);
        assert_eq!(rate.take(70, start), None);
        assert_eq!(rate.take(1, start), Some(Duration::from_secs(1)), "50 owed, and one");
        assert!(rate.take(1, start + Duration::from_millis(1_020)).is_none());
    }
}
