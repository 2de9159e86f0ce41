//! A lease that this process holds, and how long it may say so.

use std::time::Duration;
use tokio::time::Instant;

/// Not renewed for so long, a lease is not told as ours any more. That is less than its lifetime by the second in which it is told,
/// so that two replicas never say at once that it is theirs.
pub(super) const LEASE_TRUST_PERIOD: Duration = Duration::from_secs(7);

/// A lease that this process took.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldLease {
    /// The fencing token.
    pub(super) token: i64,
    /// When it was last asked to be put off, if the database said yes to that.
    pub(super) renewed_at: Option<Instant>,
}

impl HeldLease {
    /// Taken, or renewed, by a question that was asked then.
    pub(super) fn new(token: i64, asked: Instant) -> Self {
        Self { token, renewed_at: Some(asked) }
    }

    /// Whether no other replica can have it yet.
    pub(super) fn is_trusted(self, now: Instant) -> bool {
        self.renewed_at.is_some_and(|renewed| now.saturating_duration_since(renewed) < LEASE_TRUST_PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lease::LEASE_TTL;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_is_not_trusted_before_another_replica_may_take_it() {
        let asked = Instant::now();
        let held = HeldLease::new(1, asked);
        for (held, seconds, trusted) in
            [(held, 0, true), (held, 6, true), (held, 7, false), (HeldLease { renewed_at: None, ..held }, 0, false)]
        {
            assert_eq!(held.is_trusted(asked + Duration::from_secs(seconds)), trusted, "{held:?} after {seconds} s");
        }
        assert!(LEASE_TRUST_PERIOD < LEASE_TTL);
    }
}
