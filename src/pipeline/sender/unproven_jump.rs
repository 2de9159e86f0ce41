//! A nonce that one endpoint reports above the store's, from when it was first seen.

use std::time::Duration;
use tokio::time::Instant;

/// A jump that was not looked at for longer counts as a new one. A blocked sender looks every few seconds.
const MAX_OBSERVATION_GAP: Duration = Duration::from_secs(20);

/// A nonce above the store's that is not proven yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnprovenJump {
    pub(super) since: Instant,
    last_seen: Instant,
    pub(super) lowest: u64,
}

impl UnprovenJump {
    /// `reported` now; the lowest report of a jump counts.
    pub(super) fn observe(previous: Option<Self>, reported: u64, now: Instant) -> Self {
        let previous = previous.filter(|jump| now.duration_since(jump.last_seen) <= MAX_OBSERVATION_GAP);
        let first = Self { since: now, last_seen: now, lowest: reported };
        previous.map_or(first, |jump| Self { last_seen: now, lowest: jump.lowest.min(reported), ..jump })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_report_of_a_jump_counts_until_nobody_looks() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let first = UnprovenJump::observe(None, 45, start);
        let lower = UnprovenJump::observe(Some(first), 7, after(10));
        let higher = UnprovenJump::observe(Some(lower), 45, after(30));
        assert_eq!((higher.lowest, higher.since), (7, start));
        let later = UnprovenJump::observe(Some(higher), 45, after(51));
        assert_eq!((later.lowest, later.since), (45, after(51)));
    }
}
