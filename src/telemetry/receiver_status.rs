//! Whether Sentry or the collector accepts exports. Logged when it stops and when it resumes.

use super::{redact::redact, targets::RECOVERED_TARGET};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long an exporting thread waits for room in a receiver's queue.
pub(super) const QUEUE_ROOM_WAIT: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct ReceiverStatus {
    receiver: &'static str,
    is_failing: AtomicBool,
}

impl ReceiverStatus {
    pub(super) const fn new(receiver: &'static str) -> Self {
        Self { receiver, is_failing: AtomicBool::new(false) }
    }

    /// Blocks the thread until the queue has room, at most until `deadline`. Returns at once while exports fail,
    /// because then no room will come.
    pub(super) fn wait_for_room(&self, deadline: Instant, is_full: impl Fn() -> bool) {
        while is_full() && !self.is_failing.load(Ordering::Relaxed) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn record_success(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            info!(target: RECOVERED_TARGET, receiver = self.receiver, "telemetry export recovered");
        }
    }

    pub(super) fn record_failure(&self, error: &str) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            warn!(receiver = self.receiver, error = &*redact(error), "telemetry export failing");
        }
    }
}
