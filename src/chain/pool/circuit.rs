//! How long an endpoint that is down is left alone: longer each time, until it was well for a while.

use crate::chain::Delays;
use tokio::time::Instant;

/// The circuit of one endpoint. It means something while the endpoint is down.
#[derive(Debug)]
pub struct Circuit {
    delays: Delays,
    /// Until when nothing is asked.
    until: Instant,
}

impl Circuit {
    /// One that never opened.
    pub fn new(now: Instant) -> Self {
        Self { delays: Delays::of_a_circuit(), until: now }
    }

    /// It opens, or stays open.
    pub fn open(&mut self, now: Instant) {
        self.until = now + self.delays.next_delay();
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
        self.delays.reset();
    }
}
