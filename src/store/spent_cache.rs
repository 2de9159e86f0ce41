//! A cached sum of a day's fees until a while ago. Summing a whole day for every signature would take too long, above
//! all while other senders wait for the budget: only what is newer is summed then.

use crate::registration::{Timestamp, policy::budget::DailyBudget};
use std::time::Duration;

/// An inclusion is stored with the time at which its write begins, by the clock of the replica that writes it. After
/// this time it has been committed, unless a clock is wrong by as much.
const SPENT_CACHE_LAG: Duration = Duration::from_secs(60);
/// Later corrections count after this time: a reorg, whose transaction counts twice until then, and imports after a
/// restored backup.
const SPENT_CACHE_TTL: Duration = Duration::from_secs(10);

/// The fees of what was included on a day until a while ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SpentCache {
    pub(super) since: Timestamp,
    /// Exclusive.
    pub(super) until: Timestamp,
    /// In wei.
    pub(super) spent: u128,
}

impl SpentCache {
    /// The interval to sum now, without its sum.
    pub(super) fn new_for(now: &DailyBudget) -> Self {
        Self { since: now.day_start, until: cache_cutoff(now), spent: 0 }
    }

    /// Whether the interval is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.since == self.until
    }

    pub(super) fn is_fresh_for(&self, now: &DailyBudget) -> bool {
        let newest = cache_cutoff(now);
        self.since == now.day_start && self.until <= newest && newest <= self.until.plus(SPENT_CACHE_TTL)
    }
}

/// Inclusions before this time are all committed.
fn cache_cutoff(now: &DailyBudget) -> Timestamp {
    now.now.minus(SPENT_CACHE_LAG).max(now.day_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(since: u64, at: u64) -> DailyBudget {
        let (since, at) = (Timestamp::from_seconds(since), Timestamp::from_seconds(at));
        DailyBudget { limit: 1, day_start: since, now: at, may_use_reserve: false }
    }

    #[test]
    fn a_cached_sum_is_fresh_for_a_while_and_on_its_own_day() {
        let cache = SpentCache { until: Timestamp::from_seconds(1_000), ..SpentCache::new_for(&budget(500, 600)) };
        for (since, at, expected) in [
            (500, 1_060, true),
            (500, 1_070, true),
            (500, 1_071, false),
            (500, 1_059, false),
            (501, 1_060, false),
            (1_000, 1_060, false),
        ] {
            assert_eq!(cache.is_fresh_for(&budget(since, at)), expected, "{since}, {at}");
        }
    }

    #[test]
    fn a_new_day_starts_with_an_empty_cache() {
        assert_eq!(cache_cutoff(&budget(500, 520)), Timestamp::from_seconds(500));
        assert_eq!(cache_cutoff(&budget(500, 561)), Timestamp::from_seconds(501));
    }
}
