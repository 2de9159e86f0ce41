//! The one place that says how long to wait before trying again, by the crate `backoff`.

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use std::time::Duration;

/// The first delay between two tries.
const INITIAL_DELAY: Duration = Duration::from_millis(100);
/// The longest delay before anything of the service is tried again.
pub const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// How long a circuit stays open the first time, and at most.
const CIRCUIT_OPEN_MIN_MAX: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Delays vary by this share, so that many who wait do not come back together.
const JITTER: f64 = 0.2;

/// Growing delays, each double the one before, up to a longest one; for ever.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Backoff {
    /// Up to [`MAX_BACKOFF`].
    pub fn new() -> Self {
        Self::with_max_delay(MAX_BACKOFF)
    }

    /// Between tries: from 100 ms up to `longest`, each 20% more or less.
    pub fn with_max_delay(longest: Duration) -> Self {
        Self::with_bounds(INITIAL_DELAY.min(longest), longest, JITTER)
    }

    /// Of a circuit: 5 s, doubling to 60 s.
    pub(super) fn for_circuit_breaker() -> Self {
        Self::with_bounds(CIRCUIT_OPEN_MIN_MAX.0, CIRCUIT_OPEN_MIN_MAX.1, 0.0)
    }

    fn with_bounds(first: Duration, longest: Duration, jitter: f64) -> Self {
        // A story that is told again goes as it went.
        #[cfg(test)]
        let jitter = if crate::clock::simulated::is_on() { 0.0 } else { jitter };
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_multiplier(2.0)
            .with_randomization_factor(jitter)
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
        let mut delays = Backoff::with_max_delay(longest);
        let taken: Vec<_> = (0..12).map(|_| delays.next_delay()).collect();
        assert!(taken[0] <= INITIAL_DELAY.mul_f64(1.0 + JITTER) && taken[0] >= INITIAL_DELAY.mul_f64(1.0 - JITTER));
        assert!(taken[11] >= longest.mul_f64(1.0 - JITTER) && taken[11] <= longest.mul_f64(1.0 + JITTER));
        delays.reset();
        assert!(delays.next_delay() <= INITIAL_DELAY.mul_f64(1.0 + JITTER));
    }

    #[test]
    fn a_circuit_stays_open_5_s_then_twice_as_long_each_time_up_to_60_s() {
        let mut delays = Backoff::for_circuit_breaker();
        let seconds: Vec<_> = (0..6).map(|_| delays.next_delay().as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
    }
}
