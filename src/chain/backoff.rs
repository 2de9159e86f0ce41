//! Every retry delay of the service, computed by the crate `backoff`.

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use std::time::Duration;

const INITIAL_DELAY: Duration = Duration::from_millis(100);
/// The longest delay between two tries of anything that the service retries.
pub const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// How long a circuit breaker stays open the first time, and at most.
const CIRCUIT_OPEN_MIN_MAX: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Delays vary by this share, so that callers which failed together do not retry together.
const JITTER: f64 = 0.2;

/// Delays that double up to a maximum, without end.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Backoff {
    /// Delays grow up to [`MAX_BACKOFF`].
    pub fn new() -> Self {
        Self::with_max_delay(MAX_BACKOFF)
    }

    pub fn with_max_delay(max: Duration) -> Self {
        Self::with_bounds(INITIAL_DELAY.min(max), max, JITTER)
    }

    pub(super) fn for_circuit_breaker() -> Self {
        Self::with_bounds(CIRCUIT_OPEN_MIN_MAX.0, CIRCUIT_OPEN_MIN_MAX.1, 0.0)
    }

    fn with_bounds(initial: Duration, max: Duration, jitter: f64) -> Self {
        // A simulated scenario must be reproducible.
        #[cfg(test)]
        let jitter = if crate::clock::simulated::is_on() { 0.0 } else { jitter };
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial)
            .with_multiplier(2.0)
            .with_randomization_factor(jitter)
            .with_max_interval(max)
            .with_max_elapsed_time(None)
            .build();
        Self(backoff)
    }

    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_maximum_and_restart_after_a_reset() {
        let max = Duration::from_secs(2);
        let mut backoff = Backoff::with_max_delay(max);
        let drawn: Vec<_> = (0..12).map(|_| backoff.next_delay()).collect();
        assert!(drawn[0] <= INITIAL_DELAY.mul_f64(1.0 + JITTER) && drawn[0] >= INITIAL_DELAY.mul_f64(1.0 - JITTER));
        assert!(drawn[11] >= max.mul_f64(1.0 - JITTER) && drawn[11] <= max.mul_f64(1.0 + JITTER));
        backoff.reset();
        assert!(backoff.next_delay() <= INITIAL_DELAY.mul_f64(1.0 + JITTER));
    }

    #[test]
    fn a_circuit_stays_open_5_s_then_twice_as_long_each_time_up_to_60_s() {
        let mut backoff = Backoff::for_circuit_breaker();
        let seconds: Vec<_> = (0..6).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
    }
}
