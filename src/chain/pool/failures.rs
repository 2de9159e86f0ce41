//! The calls that an endpoint did not answer.

use super::error_window::ERROR_WINDOW;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// What is known of one endpoint's failures.
#[derive(Debug, Default)]
pub struct FailureTracker {
    consecutive: u32,
    last_failure: Option<Instant>,
    last_timed_out: bool,
    timeouts: VecDeque<Instant>,
}

impl FailureTracker {
    /// A call failed that was under way for this long. Calls that were under way together fail together: that is one failure.
    pub fn record_failure(&mut self, timed_out: bool, took: Duration, now: Instant) {
        if self.last_failure.is_none_or(|failed| now.checked_sub(took).is_none_or(|begun| begun >= failed)) {
            self.consecutive += 1;
            self.last_failure = Some(now);
        }
        self.last_timed_out = timed_out;
    }

    /// It is suspected because of the last one.
    pub fn record_timeout(&mut self, now: Instant) {
        self.timeouts.push_back(now);
    }

    /// A call was answered.
    pub fn record_success(&mut self) {
        self.consecutive = 0;
    }

    /// What was before says nothing any more about how steady it is.
    pub fn clear_timeouts(&mut self) {
        self.timeouts.clear();
    }

    /// How many calls in a row were not answered.
    pub fn consecutive(&self) -> u32 {
        self.consecutive
    }

    /// Whether the last one was not answered in time.
    pub fn last_timed_out(&self) -> bool {
        self.last_timed_out
    }

    /// How often it was suspected of late.
    pub fn recent_timeouts(&mut self, now: Instant) -> usize {
        while self.timeouts.front().is_some_and(|at| now.duration_since(*at) >= ERROR_WINDOW) {
            self.timeouts.pop_front();
        }
        self.timeouts.len()
    }
}
