//! The calls that an endpoint did not answer.

use super::window::SPAN;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// What is known of one endpoint's failures.
#[derive(Debug, Default)]
pub struct Failures {
    consecutive: u32,
    last: Option<Instant>,
    timed_out: bool,
    suspicions: VecDeque<Instant>,
}

impl Failures {
    /// A call failed that was under way for this long. Calls that were under way together fail together: that is one failure.
    pub fn failed(&mut self, timed_out: bool, took: Duration, now: Instant) {
        if self.last.is_none_or(|failed| now.checked_sub(took).is_none_or(|begun| begun >= failed)) {
            self.consecutive += 1;
            self.last = Some(now);
        }
        self.timed_out = timed_out;
    }

    /// It is suspected because of the last one.
    pub fn suspect(&mut self, now: Instant) {
        self.suspicions.push_back(now);
    }

    /// A call was answered.
    pub fn answered(&mut self) {
        self.consecutive = 0;
    }

    /// What was before says nothing any more about how steady it is.
    pub fn forget(&mut self) {
        self.suspicions.clear();
    }

    /// How many calls in a row were not answered.
    pub fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Whether the last one was not answered in time.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// How often it was suspected of late.
    pub fn suspicions(&mut self, now: Instant) -> usize {
        while self.suspicions.front().is_some_and(|at| now.duration_since(*at) >= SPAN) {
            self.suspicions.pop_front();
        }
        self.suspicions.len()
    }
}
