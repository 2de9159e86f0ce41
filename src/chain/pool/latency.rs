//! How long an endpoint takes: a moving mean to judge it by, and the 90th percentile, after which a read is hedged.

use std::time::Duration;

/// How much the newest call weighs in the mean.
const ALPHA: f64 = 0.2;
/// Calls that the percentile is taken of.
const SAMPLES: usize = 64;
/// The percentile is taken again after this many calls.
const PERCENTILE_REFRESH_CALLS: usize = 16;
/// A read is hedged after this long at the earliest.
const MIN_HEDGE_DELAY: Duration = Duration::from_millis(100);

/// Latencies of answered calls.
#[derive(Debug)]
pub struct LatencyTracker {
    mean: Option<f64>,
    samples: Vec<Duration>,
    next: usize,
    p90: Duration,
}

impl Default for LatencyTracker {
    fn default() -> Self {
        Self { mean: None, samples: Vec::with_capacity(SAMPLES), next: 0, p90: Duration::ZERO }
    }
}

impl LatencyTracker {
    /// A call was answered after this long.
    pub fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.mean = Some(self.mean.map_or(seconds, |mean| mean + ALPHA * (seconds - mean)));
        if self.samples.len() < SAMPLES {
            self.samples.push(took);
        } else {
            self.samples[self.next % SAMPLES] = took;
        }
        self.next += 1;
        if self.next.is_multiple_of(PERCENTILE_REFRESH_CALLS) {
            let mut sorted = self.samples.clone();
            sorted.sort_unstable();
            self.p90 = sorted[sorted.len() * 9 / 10];
        }
    }

    /// The moving mean; `None` before the first call.
    pub fn mean(&self) -> Option<Duration> {
        self.mean.map(Duration::from_secs_f64)
    }

    /// After how long without an answer a read is asked of a second endpoint too: max(100 ms, p90), so that of ten reads at most
    /// one is asked twice.
    pub fn hedge_after(&self) -> Duration {
        self.p90.max(MIN_HEDGE_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_and_the_hedge_waits_for_the_slowest_tenth() {
        let (mut latency, ms) = (LatencyTracker::default(), Duration::from_millis);
        assert_eq!((latency.mean(), latency.hedge_after()), (None, MIN_HEDGE_DELAY));
        (0..SAMPLES).for_each(|_| latency.add(ms(10)));
        assert_eq!((latency.mean(), latency.hedge_after()), (Some(ms(10)), MIN_HEDGE_DELAY));
        (0..SAMPLES).for_each(|_| latency.add(ms(400)));
        assert_eq!(latency.hedge_after(), ms(400), "a slow endpoint is not asked twice each time");
        assert!(latency.mean().unwrap() > ms(399));
    }
}
