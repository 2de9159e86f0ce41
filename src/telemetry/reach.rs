//! Whether what is told arrives: said once when it no longer does, and once when it does again.

use super::{events, redact::redact};
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// Whether nothing arrives there just now.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
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
