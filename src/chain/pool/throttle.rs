//! How long an endpoint that throttles is left alone, and when it counts as unusable.

use crate::chain::{Backoff, EndpointFault};
use std::time::Duration;
use tokio::time::Instant;

/// Without a hint of the endpoint; doubles with each throttled answer in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Infura restores its daily quota at midnight UTC; trying earlier finds out whether the plan was upgraded.
const QUOTA_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Longer requests are shortened: after this the endpoint may throttle again.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// With a longer pause the endpoint is no longer usable.
const LONG_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Throttling {
    /// Not at all, or for a short time.
    Short,
    Long,
    QuotaSpent,
}

#[derive(Debug)]
pub struct Throttle {
    until: Option<Instant>,
    /// Throttled answers since the last other one, those of overlapping calls counted once.
    in_a_row: u32,
    throttling: Throttling,
    /// When the last throttled answer came.
    throttled_at: Option<Instant>,
    /// While there is no other endpoint.
    early_probes: Backoff,
    next_early_probe: Option<Instant>,
}

impl Throttle {
    pub fn new() -> Self {
        Self {
            until: None,
            in_a_row: 0,
            throttling: Throttling::Short,
            throttled_at: None,
            early_probes: Backoff::for_circuit_breaker(),
            next_early_probe: None,
        }
    }

    pub fn throttling(&self) -> Throttling {
        self.throttling
    }

    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// What a call that is not made would find.
    pub fn fault(&self, now: Instant) -> Option<EndpointFault> {
        let retry_after = Some(self.remaining(now)?);
        Some(match self.throttling {
            Throttling::QuotaSpent => EndpointFault::QuotaSpent { retry_after },
            Throttling::Short | Throttling::Long => EndpointFault::Throttled { retry_after },
        })
    }

    /// Whether an endpoint without an alternative is asked before its time: it may have asked for an hour by mistake.
    pub fn is_early_probe_due(&self, now: Instant) -> bool {
        self.next_early_probe.is_none_or(|at| now >= at)
    }

    pub fn record(&mut self, quota_spent: bool, retry_after: Option<Duration>, now: Instant) {
        if self.remaining(now).is_none() || self.is_early_probe_due(now) {
            self.in_a_row += 1;
            self.next_early_probe = Some(now + self.early_probes.next_delay());
        }
        self.throttled_at = Some(now);
        let growing = FIRST_PAUSE.saturating_mul(1 << (self.in_a_row - 1).min(16)).min(MAX_PAUSE);
        let default = if quota_spent { QUOTA_PAUSE } else { growing };
        let pause = match retry_after.map(|retry_after| retry_after.min(MAX_RETRY_AFTER)) {
            Some(retry_after) if self.in_a_row == 1 => retry_after,
            Some(retry_after) => retry_after.max(growing),
            None => default,
        };
        self.until = self.until.max(Some(now + pause));
        if pause > LONG_PAUSE {
            self.throttling = if quota_spent { Throttling::QuotaSpent } else { Throttling::Long };
        }
    }

    /// After an answer that is not throttled, to a call that started `took` ago. The answer to a call that was under way
    /// when another one was throttled says nothing about now.
    pub fn clear(&mut self, took: Duration, now: Instant) {
        if self.throttled_at.is_some_and(|throttled_at| began_since(throttled_at, took, now)) {
            *self = Self::new();
        }
    }
}

/// Whether a call that took so long, and ended now, began at this time or later.
pub(super) fn began_since(at: Instant, took: Duration, now: Instant) -> bool {
    now.checked_sub(took).is_none_or(|started| started >= at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn pauses_follow_the_endpoint_and_grow_until_it_answers() {
        let seconds = Duration::from_secs;
        let now = Cell::new(Instant::now());
        let mut throttle = Throttle::new();
        let clear = |throttle: &mut Throttle| throttle.clear(Duration::ZERO, now.get());
        let next = |throttle: &mut Throttle, quota, retry_after: Option<u64>| {
            now.set(now.get() + throttle.remaining(now.get()).unwrap_or_default());
            throttle.record(quota, retry_after.map(seconds), now.get());
            throttle.record(quota, retry_after.map(seconds), now.get());
            (throttle.remaining(now.get()).unwrap_or_default().as_secs(), throttle.throttling())
        };
        for pause in [1, 2, 4, 8] {
            assert_eq!(next(&mut throttle, false, None), (pause, Throttling::Short));
        }
        for pause in [16, 32, 60, 60] {
            assert_eq!(next(&mut throttle, false, None), (pause, Throttling::Long));
        }
        clear(&mut throttle);
        assert_eq!(next(&mut throttle, false, Some(3)), (3, Throttling::Short));
        assert_eq!(next(&mut throttle, false, Some(0)), (2, Throttling::Short), "a hint does not shorten it");
        assert_eq!(next(&mut throttle, false, Some(u64::MAX)), (300, Throttling::Long));
        clear(&mut throttle);
        assert_eq!(next(&mut throttle, true, None), (300, Throttling::QuotaSpent));
        clear(&mut throttle);
        assert_eq!((throttle.throttling(), throttle.remaining(now.get())), (Throttling::Short, None));
    }

    #[test]
    fn the_answer_to_a_call_that_was_under_way_does_not_end_it() {
        let seconds = Duration::from_secs;
        let start = Instant::now();
        let mut throttle = Throttle::new();
        throttle.record(true, None, start + seconds(10));
        throttle.clear(seconds(2), start + seconds(11));
        assert_eq!(throttle.throttling(), Throttling::QuotaSpent);
        throttle.clear(seconds(1), start + seconds(11));
        assert_eq!(throttle.throttling(), Throttling::Short);
    }

    #[test]
    fn an_endpoint_without_an_alternative_is_probed_before_its_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut throttle = Throttle::new();
        throttle.record(false, Some(Duration::from_secs(3600)), start);
        let due = |throttle: &Throttle| (0..).find(|second| throttle.is_early_probe_due(after(*second)));
        assert_eq!(due(&throttle), Some(5));
        throttle.record(false, Some(Duration::from_secs(3600)), after(1));
        assert_eq!(due(&throttle), Some(5), "a call that was under way");
        throttle.record(false, Some(Duration::from_secs(3600)), after(5));
        assert_eq!(due(&throttle), Some(15));
    }
}
