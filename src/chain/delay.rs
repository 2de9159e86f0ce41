//! The one place that says how long to wait before trying again, by the crate `backoff`.

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use std::time::Duration;

/// The first delay.
const FIRST: Duration = Duration::from_millis(100);
/// Delays vary by this share, so that many who wait do not come back together.
const JITTER: f64 = 0.2;

/// Growing delays: 100 ms, then double each time, each 20% more or less, up to a longest one; for ever.
#[derive(Debug)]
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Delays that grow up to `longest`.
    pub fn up_to(longest: Duration) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(FIRST.min(longest))
            .with_multiplier(2.0)
            .with_randomization_factor(JITTER)
            .with_max_interval(longest)
            .with_max_elapsed_time(None)
            .build();
        Self(backoff)
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Begins again with the first delay, after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_begin_again() {
        let longest = Duration::from_secs(2);
        let mut delays = Delays::up_to(longest);
        let taken: Vec<_> = (0..12).map(|_| delays.next_delay()).collect();
        assert!(taken[0] <= FIRST.mul_f64(1.0 + JITTER) && taken[0] >= FIRST.mul_f64(1.0 - JITTER));
        assert!(taken[11] >= longest.mul_f64(1.0 - JITTER) && taken[11] <= longest.mul_f64(1.0 + JITTER));
        delays.reset();
        assert!(delays.next_delay() <= FIRST.mul_f64(1.0 + JITTER));
    }
}
