//! How much may be spent in a day.

use crate::registration::Timestamp;

/// A day of UTC, in microseconds.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// What was spent today, and what may still be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spending {
    /// The fees of what was included today, in wei.
    pub spent: u128,
    /// What the transactions that wait for a block may cost at most, in wei.
    pub out: u128,
    /// How many those are.
    pub waiting: u64,
}

/// The next transaction would pass the budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverBudget {
    /// What is spent or may be by what waits for a block, in wei.
    pub taken: u128,
    /// What the next transaction may cost, in wei.
    pub next: u128,
    /// The budget, in wei.
    pub budget: u128,
}

/// Whether a transaction that may cost `next` fits under the budget beside what is spent and what is out.
///
/// # Errors
/// When it does not.
pub fn fits(spending: Spending, next: u128, budget: u128) -> Result<(), OverBudget> {
    let taken = spending.spent.saturating_add(spending.out);
    if taken.saturating_add(next) > budget { Err(OverBudget { taken, next, budget }) } else { Ok(()) }
}

/// When this day began, in UTC.
pub fn day_of(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.micros().div_euclid(DAY) * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_counts_as_spent_and_the_budget_itself_may_be_spent() {
        let spending = Spending { spent: 60, out: 30, waiting: 1 };
        assert_eq!(fits(spending, 10, 100), Ok(()));
        assert_eq!(fits(spending, 11, 100), Err(OverBudget { taken: 90, next: 11, budget: 100 }));
        assert_eq!(fits(Spending::default(), 101, 100), Err(OverBudget { taken: 0, next: 101, budget: 100 }));
        assert!(fits(Spending { spent: u128::MAX, ..spending }, 1, u128::MAX - 1).is_err());
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let at = Timestamp::from_seconds;
        // 2026-11-21T00:00:00Z
        let midnight = 1_795_219_200;
        for (now, day) in [(midnight, midnight), (midnight + 86_399, midnight), (midnight - 1, midnight - 86_400)] {
            assert_eq!(day_of(at(now)), at(day));
        }
    }
}
