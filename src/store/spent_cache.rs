//! What was spent on a day until a while ago, remembered for a few seconds. The fees of a day are too many to be summed whenever
//! something is signed, and far too many while others wait for the budget: only what is newer is summed then.

use super::{Store, StoreError, rows::RowReader};
use crate::registration::{Timestamp, policy::budget::DailyBudget};
use std::time::Duration;

/// The fees of what was included in a time. See [`super::spending`] for how they are summed.
pub(super) const SPENT_BETWEEN_SQL: &str = "SELECT COALESCE(SUM(CAST(gas_used AS DOUBLE PRECISION) * CAST(effective_gas_price AS DOUBLE PRECISION) \
     + CAST(COALESCE(l1_fee, '0') AS DOUBLE PRECISION)), 0.0) FROM transactions \
     WHERE included_at >= $1 AND included_at < $2 AND gas_used IS NOT NULL";
/// What was included is written with the time at which the write begins, by the clock of the replica that writes it. So long after
/// that it has long been committed, unless a clock is as wrong as that.
const SPENT_CACHE_LAG: Duration = Duration::from_secs(60);
/// What becomes otherwise afterwards is seen after this: a reorg, whose transaction counts twice so long, and what a restored store
/// finds on chain.
const SPENT_CACHE_TTL: Duration = Duration::from_secs(10);

/// The fees of what was included on a day until a while ago.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SpentCache {
    since: Timestamp,
    /// What was included from then on is not counted.
    pub(super) until: Timestamp,
    /// The fees, in wei.
    pub(super) spent: u128,
}

impl SpentCache {
    /// Nothing of this day.
    fn empty(of: &DailyBudget) -> Self {
        Self { since: of.day_start, until: of.day_start, spent: 0 }
    }

    /// Whether this is still good enough for what is signed now.
    fn is_fresh_for(&self, now: &DailyBudget) -> bool {
        let newest = cache_cutoff(now);
        self.since == now.day_start && self.until <= newest && newest <= self.until.plus(SPENT_CACHE_TTL)
    }
}

/// Until when nothing new is included.
fn cache_cutoff(now: &DailyBudget) -> Timestamp {
    now.now.minus(SPENT_CACHE_LAG).max(now.day_start)
}

impl Store {
    /// What was spent on the allowance's day until a while ago: what is known, as long as it is fresh.
    pub(super) async fn cached_spent(
        &self,
        known: Option<SpentCache>,
        now: &DailyBudget,
    ) -> Result<SpentCache, StoreError> {
        if let Some(known) = known.filter(|known| known.is_fresh_for(now)) {
            return Ok(known);
        }
        let none = SpentCache::empty(now);
        let until = cache_cutoff(now);
        if until == none.until {
            return Ok(none);
        }
        let query = sqlx::query(SPENT_BETWEEN_SQL).bind(now.day_start.micros()).bind(until.micros());
        let row = query.fetch_one(&self.reader).await?;
        // A sum of fees is far below what the type holds, and never negative.
        let spent = RowReader::new(&row).get::<f64>()? as u128;
        Ok(SpentCache { until, spent, ..none })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(since: u64, at: u64) -> DailyBudget {
        let (since, at) = (Timestamp::from_seconds(since), Timestamp::from_seconds(at));
        DailyBudget { limit: 1, day_start: since, now: at, may_use_reserve: false }
    }

    #[test]
    fn a_sum_serves_for_a_while_and_on_its_own_day() {
        let settled = SpentCache { until: Timestamp::from_seconds(1_000), ..SpentCache::empty(&allowance(500, 600)) };
        for (since, at, expected) in [
            (500, 1_060, true),
            (500, 1_070, true),
            (500, 1_071, false),
            (500, 1_059, false),
            (501, 1_060, false),
            (1_000, 1_060, false),
        ] {
            assert_eq!(settled.is_fresh_for(&allowance(since, at)), expected, "{since}, {at}");
        }
    }

    #[test]
    fn a_new_day_begins_with_nothing_settled() {
        assert_eq!(cache_cutoff(&allowance(500, 520)), Timestamp::from_seconds(500));
        assert_eq!(cache_cutoff(&allowance(500, 561)), Timestamp::from_seconds(501));
    }
}
