//! How long an endpoint that is down is left alone: longer each time, until it was well for a while.

use crate::chain::Backoff;
use tokio::time::Instant;

/// The circuit of one endpoint. It means something while the endpoint is down.
#[derive(Debug)]
pub struct CircuitBreaker {
    backoff: Backoff,
    /// Until when nothing is asked.
    until: Instant,
}

impl CircuitBreaker {
    /// One that never opened.
    pub fn new(now: Instant) -> Self {
        Self { backoff: Backoff::for_circuit_breaker(), until: now }
    }

    /// It opens, or stays open.
    pub fn open(&mut self, now: Instant) {
        self.until = now + self.backoff.next_delay();
    }

    /// The next call is not held up.
    pub fn half_open(&mut self, now: Instant) {
        self.until = now;
    }

    /// Whether it is open: nothing is asked, not even by a probe.
    pub fn is_open(&self, now: Instant) -> bool {
        now < self.until
    }

    /// It opens for the shortest time again.
    pub fn reset(&mut self) {
        self.backoff.reset();
    }
}
