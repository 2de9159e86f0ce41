//! The daily budget.

use crate::registration::{ids::TransactionId, time::Timestamp};
use std::{collections::BTreeMap, fmt};

/// A day of UTC, in microseconds.
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// The part of pending costs that is reserved for fee bumps. A replacement costs at least a tenth more, rounded up;
/// an eighth leaves some room for rising L1 fees.
const FEE_BUMP_RESERVE_DIVISOR: u128 = 8;

/// In wei and UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DailyBudget {
    pub limit: u128,
    pub day_start: Timestamp,
    pub now: Timestamp,
    /// Whether it may use the reserve for fee bumps: only the transaction that all others of its signer wait for may.
    pub may_use_reserve: bool,
}

/// What was spent today, and what pending transactions may still cost.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spending {
    /// The fees of what was included today, in wei.
    pub spent: u128,
    /// The maximum cost of each pending transaction, in wei.
    pending: BTreeMap<TransactionId, u128>,
}

/// The next transaction would exceed the budget, or leave too little of it for bumping pending fees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverBudget {
    /// Spent, possible costs of pending transactions, and the reserve for bumping their fees, in wei.
    pub committed: u128,
    /// Maximum cost of the next transaction with its own reserve, in wei; of a replacement only what it adds.
    pub next_cost: u128,
    /// The budget, in wei.
    pub budget: u128,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { committed, next_cost, budget } = self;
        write!(
            f,
            "the daily budget of {budget} wei, of which {committed} are spent or reserved, does not allow \
             {next_cost} more"
        )
    }
}

impl DailyBudget {
    /// For the day of `now`.
    pub fn new(budget: u128, now: Timestamp) -> Self {
        Self { limit: budget, day_start: day_start(now), now, may_use_reserve: false }
    }

    /// For the transaction that all others of its signer wait for.
    pub fn with_reserve_access(self) -> Self {
        Self { may_use_reserve: true, ..self }
    }
}

impl Spending {
    /// Any attempt may be the one that is included, so the most expensive counts.
    pub fn reserve(&mut self, id: TransactionId, wei: u128) {
        let most = self.pending.entry(id).or_default();
        *most = wei.max(*most);
    }

    /// Spent and possible costs of pending transactions, in wei.
    pub fn committed(&self) -> u128 {
        self.pending.values().fold(self.spent, |sum, wei| sum.saturating_add(*wei))
    }

    /// [`Self::committed`] and the reserve for bumping pending fees, in wei.
    pub fn committed_with_reserve(&self) -> u128 {
        let out = self.pending.values().fold(0, |sum: u128, wei| sum.saturating_add(*wei));
        self.spent.saturating_add(with_reserve(out))
    }

    fn additional_cost(&self, id: TransactionId, worst: u128) -> u128 {
        worst.saturating_sub(self.pending.get(&id).copied().unwrap_or_default())
    }

    /// Whether an attempt of this transaction that may cost `worst` fits into the budget. An attempt that costs no
    /// more than a pending one always does. If base fees rise above what pending transactions pay, these need higher
    /// fees, or they count against the budget every day and are never included: therefore new transactions leave a
    /// reserve for that.
    pub fn check(&self, id: TransactionId, worst: u128, allowance: &DailyBudget) -> Result<(), OverBudget> {
        let (budget, more) = (allowance.limit, self.additional_cost(id, worst));
        let (taken, next) = if allowance.may_use_reserve {
            (self.committed(), more)
        } else {
            (self.committed_with_reserve(), with_reserve(more))
        };
        if next > 0 && taken.saturating_add(next) > budget {
            Err(OverBudget { committed: taken, next_cost: next, budget })
        } else {
            Ok(())
        }
    }
}

fn with_reserve(wei: u128) -> u128 {
    wei.saturating_add(wei.div_ceil(FEE_BUMP_RESERVE_DIVISOR))
}

fn day_start(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.micros().div_euclid(DAY_MICROS) * DAY_MICROS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> TransactionId {
        TransactionId::from_bytes([number; 16])
    }

    fn spending(spent: u128, out: &[(u8, u128)]) -> Spending {
        let mut spending = Spending { spent, ..Spending::default() };
        out.iter().for_each(|(number, wei)| spending.reserve(id(*number), *wei));
        spending
    }

    /// Of 100.
    fn allows(spending: &Spending, version_of: u8, worst: u128, whole: bool) -> Result<(), OverBudget> {
        let (since, at) = (Timestamp::from_seconds(0), Timestamp::from_seconds(1));
        let allowance = DailyBudget { limit: 100, day_start: since, now: at, may_use_reserve: whole };
        spending.check(id(version_of), worst, &allowance)
    }

    fn over(taken: u128, next: u128) -> Result<(), OverBudget> {
        Err(OverBudget { committed: taken, next_cost: next, budget: 100 })
    }

    #[test]
    fn what_waits_counts_as_spent_and_the_budget_itself_may_be_spent() {
        for (spending, (version_of, worst), expected) in [
            (spending(0, &[]), (1, 100), Ok(())),
            (spending(0, &[]), (1, 101), over(0, 101)),
            (spending(60, &[(1, 30)]), (2, 10), Ok(())),
            (spending(60, &[(1, 30)]), (2, 11), over(90, 11)),
            (spending(60, &[(1, 20), (2, 10)]), (3, 11), over(90, 11)),
            // A replacement is charged only what it costs above the most expensive pending attempt.
            (spending(60, &[(1, 30)]), (1, 40), Ok(())),
            (spending(60, &[(1, 30)]), (1, 41), over(90, 11)),
            (spending(60, &[(1, 20), (1, 30), (1, 10)]), (1, 40), Ok(())),
            // A replacement that costs no more is always allowed, whatever is spent.
            (spending(100, &[(1, 30)]), (1, 30), Ok(())),
            (spending(100, &[(1, 30)]), (1, 31), over(130, 1)),
            (spending(u128::MAX, &[(1, 30)]), (2, 1), over(u128::MAX, 1)),
        ] {
            assert_eq!(allows(&spending, version_of, worst, true), expected, "{spending:?}, {worst}");
        }
    }

    #[test]
    fn what_need_not_go_out_leaves_an_eighth_of_all_that_is_out_for_raising_it() {
        for (spending, (version_of, worst), expected) in [
            (spending(0, &[]), (1, 88), Ok(())),
            (spending(0, &[]), (1, 89), over(0, 101)),
            (spending(28, &[(1, 40)]), (2, 24), Ok(())),
            (spending(28, &[(1, 40)]), (2, 25), over(73, 29)),
            (spending(28, &[(1, 20), (2, 20)]), (2, 44), Ok(())),
            (spending(28, &[(1, 20), (2, 20)]), (2, 45), over(73, 29)),
            (spending(100, &[(1, 40)]), (1, 40), Ok(())),
        ] {
            assert_eq!(allows(&spending, version_of, worst, false), expected, "{spending:?}, {worst}");
        }
    }

    #[test]
    fn a_budget_that_is_used_up_has_room_to_raise_by_a_tenth_all_that_is_out() {
        let mut full = spending(10, &[]);
        for number in 0..=u8::MAX {
            if allows(&full, number, 9, false).is_ok() {
                full.reserve(id(number), 9);
            }
        }
        for number in 0..8 {
            assert_eq!(full.pending.get(&id(number)), Some(&9), "{full:?}");
            assert_eq!(allows(&full, number, 10, true), Ok(()), "{full:?}");
            full.reserve(id(number), 10);
        }
        assert_eq!((full.pending.len(), full.committed()), (8, 90));
    }

    #[test]
    fn a_day_begins_at_midnight_in_utc() {
        let at = Timestamp::from_seconds;
        // 2026-11-21T00:00:00Z
        let midnight = 1_795_219_200;
        for (now, day) in [(midnight, midnight), (midnight + 86_399, midnight), (midnight - 1, midnight - 86_400)] {
            assert_eq!(day_start(at(now)), at(day));
        }
    }
}
