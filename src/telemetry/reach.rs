//! Whether what is told arrives: said once when it no longer does, and once when it does again.

use super::{events, redact::redact};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// How long room before a receiver is waited for.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// The way to a receiver.
#[derive(Debug)]
pub(super) struct Reach {
    receiver: &'static str,
    lost: AtomicBool,
}

impl Reach {
    /// The way to this receiver, which is thought to be there.
    pub(super) const fn to(receiver: &'static str) -> Self {
        Self { receiver, lost: AtomicBool::new(false) }
    }

    /// Waits a moment for room before the receiver, up to `until`; not on a thread that anybody else waits for. Where nothing
    /// arrives just now, none is waited for: then what waits only has to be bounded.
    pub(super) fn wait_for_room(&self, until: Instant, is_full: impl Fn() -> bool) {
        while is_full() && !self.lost.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Something has arrived.
    pub(super) fn arrived(&self) {
        if self.lost.swap(false, Ordering::Relaxed) {
            events::telemetry_arrives_again(self.receiver);
        }
    }

    /// Something has not arrived, for this reason.
    pub(super) fn failed(&self, why: &str) {
        if !self.lost.swap(true, Ordering::Relaxed) {
            events::telemetry_does_not_arrive(self.receiver, &redact(why));
        }
    }
}
