//! Latency of one endpoint: a moving mean for its health, and the 90th percentile, after which a read is hedged.

use std::time::Duration;

/// Weight of the newest call in the moving mean.
const ALPHA: f64 = 0.2;
/// Calls that the percentile is computed from.
const SAMPLES: usize = 64;
const PERCENTILE_REFRESH_CALLS: usize = 16;
const MIN_HEDGE_DELAY: Duration = Duration::from_millis(100);

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

    pub fn mean(&self) -> Option<Duration> {
        self.mean.map(Duration::from_secs_f64)
    }

    /// max(100 ms, p90): at most one read in ten is sent twice.
    pub fn hedge_after(&self) -> Duration {
        self.p90.max(MIN_HEDGE_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_and_the_hedge_delay_is_the_90th_percentile() {
        let (mut latency, ms) = (LatencyTracker::default(), Duration::from_millis);
        assert_eq!((latency.mean(), latency.hedge_after()), (None, MIN_HEDGE_DELAY));
        (0..SAMPLES).for_each(|_| latency.add(ms(10)));
        assert_eq!((latency.mean(), latency.hedge_after()), (Some(ms(10)), MIN_HEDGE_DELAY));
        (0..SAMPLES).for_each(|_| latency.add(ms(400)));
        assert_eq!(latency.hedge_after(), ms(400), "a slow endpoint is not hedged at every read");
        assert!(latency.mean().unwrap() > ms(399));
    }
}
