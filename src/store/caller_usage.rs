//! How much of its quota each caller has used, over all replicas of one database.
//!
//! A caller's row of `caller_usage` stays locked until the registrations that it counts are committed. Unfinished
//! registrations are counted rarely: what was accepted since the last count is at most added to it, so that another
//! count is needed only when that sum reaches the limit.

use super::{
    StoreError, bind::clamp, db_transaction::DbTransaction, handle::COUNT_UNFINISHED_SQL, query::query,
    rows::RowReader, sql::value_placeholders,
};
use crate::registration::{CallerName, CallerQuota, Timestamp};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use tokio::time::Instant;

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
const MIN_COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// A count holds up the other callers' registrations: at most for this share of the time, 1 / 20.
const COUNT_TIME_SHARE: u32 = 20;

/// The limit of a caller that is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallerLimit {
    Unfinished { limit: u64 },
    Daily { limit: u64, resets_in: Duration },
}

/// The last count of each caller's unfinished registrations.
#[derive(Debug, Default)]
pub(super) struct UnfinishedCounts(Mutex<HashMap<CallerName, Counted>>);

#[derive(Clone, Copy, Debug)]
struct Counted {
    unfinished: u64,
    /// `accepted` at the time of the count.
    accepted: u64,
    at: Instant,
    took: Duration,
}

impl Counted {
    /// As many can be unfinished at most.
    fn bound(&self, accepted: u64) -> u64 {
        self.unfinished + accepted.saturating_sub(self.accepted)
    }

    fn may_be_repeated(&self, now: Instant) -> bool {
        now.duration_since(self.at) >= MIN_COUNT_INTERVAL.max(self.took * COUNT_TIME_SHARE)
    }
}

/// What the callers of a commit may still register.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    by_caller: BTreeMap<CallerName, Room>,
}

#[derive(Debug)]
struct Room {
    left: u64,
    limit: CallerLimit,
    /// Registrations of this commit.
    accepted: u64,
}

impl Rooms {
    /// Locks the usage of every caller with a quota until the transaction ends. Takes the callers of a commit, with
    /// the number of their registrations.
    pub(super) async fn lock(
        tx: &mut DbTransaction,
        callers: &BTreeMap<CallerName, (CallerQuota, u64)>,
        counts: &UnfinishedCounts,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let day = now.micros().div_euclid(DAY_MICROS);
        let mut rooms = Self::default();
        let resets_in = (day + 1).saturating_mul(DAY_MICROS).saturating_sub(now.micros());
        let resets_in = Duration::from_micros(u64::try_from(resets_in).unwrap_or_default());
        for (caller, (quota, registrations)) in callers {
            let usage = lock_usage(tx, caller, day).await?;
            let daily = quota.daily_limit.map(|limit| {
                let left = limit.saturating_sub(usage.accepted_on_day);
                (left, CallerLimit::Daily { limit, resets_in })
            });
            let unfinished = match quota.max_unfinished {
                None => None,
                Some(limit) => {
                    let bound = counts.bound(tx, caller, usage.accepted, limit.saturating_sub(*registrations)).await?;
                    Some((limit.saturating_sub(bound), CallerLimit::Unfinished { limit }))
                }
            };
            if let Some((left, limit)) = daily.into_iter().chain(unfinished).min_by_key(|(left, _)| *left) {
                rooms.by_caller.insert(caller.clone(), Room { left, limit, accepted: 0 });
            }
        }
        Ok(rooms)
    }

    /// Takes room for this many registrations, or none.
    ///
    /// # Errors
    /// When the caller has less left.
    pub(super) fn take(&mut self, caller: Option<&CallerName>, count: u64) -> Result<(), CallerLimit> {
        let Some(room) = caller.and_then(|caller| self.by_caller.get_mut(caller)) else { return Ok(()) };
        room.left = room.left.checked_sub(count).ok_or(room.limit)?;
        Ok(())
    }

    /// This many were inserted or restarted.
    pub(super) fn count(&mut self, caller: Option<&CallerName>, count: u64) {
        if let Some(room) = caller.and_then(|caller| self.by_caller.get_mut(caller)) {
            room.accepted += count;
        }
    }

    /// Writes what was counted.
    pub(super) async fn store(self, tx: &mut DbTransaction) -> Result<(), StoreError> {
        for (caller, room) in self.by_caller.into_iter().filter(|(_, room)| room.accepted > 0) {
            query(
                "UPDATE caller_usage SET accepted = accepted + $1, accepted_on_day = accepted_on_day + $2 WHERE caller = $3",
            )
            .bind(clamp(room.accepted))
            .bind(clamp(room.accepted))
            .bind(caller.as_str().to_owned())
            .execute(&mut **tx)
            .await?;
        }
        Ok(())
    }
}

struct Usage {
    accepted: u64,
    accepted_on_day: u64,
}

/// Callers are locked in the order of their names, so that two replicas cannot deadlock. A clock that is behind does not
/// begin an earlier day again.
async fn lock_usage(tx: &mut DbTransaction, caller: &CallerName, day: i64) -> Result<Usage, StoreError> {
    let sql = format!(
        "INSERT INTO caller_usage (caller, accepted, day, accepted_on_day) VALUES {} ON CONFLICT (caller) DO UPDATE SET \
         accepted_on_day = CASE WHEN caller_usage.day < excluded.day THEN 0 ELSE caller_usage.accepted_on_day END, \
         day = CASE WHEN caller_usage.day < excluded.day THEN excluded.day ELSE caller_usage.day END RETURNING accepted, \
         accepted_on_day",
        value_placeholders(1, 1, 4)
    );
    let row =
        query(sql).bind(caller.as_str().to_owned()).bind(0_i64).bind(day).bind(0_i64).fetch_one(&mut **tx).await?;
    let mut c = RowReader::new(&row);
    Ok(Usage { accepted: c.number()?, accepted_on_day: c.number()? })
}

impl UnfinishedCounts {
    /// As many registrations of the caller are unfinished at most. They are counted if they may be more than `enough`.
    async fn bound(
        &self,
        tx: &mut DbTransaction,
        caller: &CallerName,
        accepted: u64,
        enough: u64,
    ) -> Result<u64, StoreError> {
        let known = self.0.lock().get(caller).copied();
        let now = Instant::now();
        if let Some(known) = known
            && (known.bound(accepted) <= enough || !known.may_be_repeated(now))
        {
            return Ok(known.bound(accepted));
        }
        let unfinished = count_unfinished(tx, caller).await?;
        let counted = Counted { unfinished, accepted, at: now, took: now.elapsed() };
        self.0.lock().insert(caller.clone(), counted);
        Ok(unfinished)
    }
}

/// The concatenation keeps the planner from the index on callers, which it would scan for finished registrations.
pub(super) fn count_unfinished_sql() -> String {
    format!("{COUNT_UNFINISHED_SQL} AND (caller || '') = $1")
}

async fn count_unfinished(tx: &mut DbTransaction, caller: &CallerName) -> Result<u64, StoreError> {
    let row = query(count_unfinished_sql()).bind(caller.as_str().to_owned()).fetch_one(&mut **tx).await?;
    RowReader::new(&row).number()
}
