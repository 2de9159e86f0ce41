//! Whether what is told arrives: said once when it no longer does, and once when it does again.

use super::{redact::redact, targets::RECOVERED_TARGET};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// How long room before a receiver is waited for.
pub(super) const QUEUE_ROOM_WAIT: Duration = Duration::from_millis(250);

/// The way to a receiver.
#[derive(Debug)]
pub(super) struct ReceiverStatus {
    receiver: &'static str,
    is_failing: AtomicBool,
}

impl ReceiverStatus {
    /// The way to this receiver, which is thought to be there.
    pub(super) const fn new(receiver: &'static str) -> Self {
        Self { receiver, is_failing: AtomicBool::new(false) }
    }

    /// Waits a moment for room before the receiver, up to `until`; not on a thread that anybody else waits for. Where nothing
    /// arrives just now, none is waited for: then what waits only has to be bounded.
    pub(super) fn wait_for_room(&self, until: Instant, is_full: impl Fn() -> bool) {
        while is_full() && !self.is_failing.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Something has arrived.
    pub(super) fn record_success(&self) {
        if self.is_failing.swap(false, Ordering::Relaxed) {
            info!(target: RECOVERED_TARGET, receiver = self.receiver, "telemetry export recovered");
        }
    }

    /// Something has not arrived, for this reason.
    pub(super) fn record_failure(&self, why: &str) {
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            warn!(receiver = self.receiver, error = &*redact(why), "telemetry export failing");
        }
    }
}
