//! Reading the change feed: registrations in the order of their latest changes.
//!
//! Nothing is kept for it. A registration that changes moves to the end, so that whoever reads slowly sees the latest
//! state of each one, and every position stays readable. How the numbers are made: `change_number`.

use super::{
    Store, StoreError,
    engine::Engine,
    query::query,
    rows::{self, RowReader},
};
use crate::{
    registration::{Registration, RegistrationId},
    telemetry::spans,
};

/// On PostgreSQL: below the oldest transaction that was still running when the statement began.
const PG_READABLE_SQL: &str = "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)";
/// As [`PG_READABLE_SQL`], without the transactions of other databases of the server, which may run for hours. It looks
/// at all locks of the server. A transaction is another database's if it has locked anything there; of one that has
/// ended in between no lock is left, and it is waited for.
const PG_READABLE_HERE_SQL: &str = "(SELECT COALESCE((SELECT MIN(CAST(CAST(running AS TEXT) AS BIGINT)) \
    FROM pg_snapshot_xip(pg_current_snapshot()) AS running WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_locks held \
    JOIN pg_catalog.pg_locks elsewhere ON elsewhere.virtualtransaction = held.virtualtransaction \
    WHERE held.locktype = 'transactionid' AND held.transactionid = CAST(running AS XID) AND held.granted \
    AND held.mode = 'ExclusiveLock' AND elsewhere.database NOT IN (0, (SELECT oid FROM pg_catalog.pg_database \
    WHERE datname = current_database())))), CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT)))";
const IS_CHANGED_SQL: &str = "SELECT 1 FROM registrations WHERE (change_number, id) > ($1, $2) LIMIT 1";
const ANYTHING_SQL: &str = "9223372036854775807";

/// A place in the feed: that of a change which was committed, so that a standby which takes over has it too. Several
/// registrations that changed together have one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChangePosition {
    number: i64,
    id: RegistrationId,
}

/// A position, and the history of the database that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangeCursor {
    pub history: [u8; 8],
    pub position: ChangePosition,
}

/// The latest state of a registration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub position: ChangePosition,
    pub registration: Registration,
}

#[derive(Clone, Debug)]
pub struct ChangePage {
    /// In the order of their positions.
    pub changes: Vec<Change>,
    /// The latest one; `None` without changes.
    pub history: Option<[u8; 8]>,
    /// Whether there may be more behind them.
    pub is_full: bool,
}

/// How many changes are read at once: few sizes, so that each statement is prepared once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageSize {
    Small,
    Large,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CursorCheck {
    Known,
    /// Of another database, or of a time that a restored backup does not have.
    Foreign,
}

/// Which running transactions of a PostgreSQL server a reader waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitsFor {
    AllDatabases,
    /// Costs more.
    ThisDatabase,
}

impl ChangePosition {
    pub const BEGINNING: Self = Self { number: 0, id: RegistrationId::from_bytes([0; 16]) };
}

impl ChangeCursor {
    pub const BYTES: usize = 32;

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.history);
        bytes[8..16].copy_from_slice(&self.position.number.to_be_bytes());
        bytes[16..].copy_from_slice(self.position.id.as_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let (mut history, mut number, mut id) = ([0; 8], [0; 8], [0; 16]);
        history.copy_from_slice(&bytes[..8]);
        number.copy_from_slice(&bytes[8..16]);
        id.copy_from_slice(&bytes[16..]);
        let position = ChangePosition { number: i64::from_be_bytes(number), id: RegistrationId::from_bytes(id) };
        Self { history, position }
    }
}

impl PageSize {
    pub const fn rows(self) -> usize {
        match self {
            Self::Small => 50,
            Self::Large => 500,
        }
    }
}

impl Store {
    /// The latest changes after a position, in order. On PostgreSQL a change may be committed and still be held back:
    /// until no transaction is running that may commit one before it.
    pub async fn changes_after(
        &self,
        after: ChangePosition,
        size: PageSize,
        waits_for: WaitsFor,
    ) -> Result<ChangePage, StoreError> {
        let sql = changes_sql(self.readable_sql(waits_for), size);
        let query = query(sql).bind(after.number).bind(after.id);
        let found = spans::db("changes_after", query.fetch_all(&self.reader)).await?;
        let mut changes = Vec::with_capacity(found.len());
        let mut history = None;
        for row in &found {
            let (number, latest_history, registration) = rows::read_change(row)?;
            history = Some(latest_history);
            changes.push(Change { position: ChangePosition { number, id: registration.id }, registration });
        }
        Ok(ChangePage { is_full: changes.len() == size.rows(), changes, history })
    }

    /// The position of the newest change that can be read.
    pub async fn newest_change(&self) -> Result<ChangeCursor, StoreError> {
        let sql = newest_sql(self.readable_sql(WaitsFor::ThisDatabase));
        let row = spans::db("newest_change", query(sql).fetch_one(&self.reader)).await?;
        let mut c = RowReader::new(&row);
        let history = c.bytes()?;
        let (number, id) = (c.get::<Option<i64>>()?, c.optional_bytes()?);
        let newest = number.zip(id).map(|(number, id)| ChangePosition { number, id: RegistrationId::from_bytes(id) });
        Ok(ChangeCursor { history, position: newest.unwrap_or(ChangePosition::BEGINNING) })
    }

    /// Whether a change after this position is committed, even if it is held back.
    pub async fn has_changes_after(&self, after: ChangePosition) -> Result<bool, StoreError> {
        let query = query(IS_CHANGED_SQL).bind(after.number).bind(after.id);
        Ok(spans::db("has_changes_after", query.fetch_optional(&self.reader)).await?.is_some())
    }

    /// Whether a cursor can be continued from.
    pub async fn check_cursor(&self, cursor: &ChangeCursor) -> Result<CursorCheck, StoreError> {
        let query = query(
            "SELECT COALESCE(last_change, (SELECT MAX(change_number) FROM registrations), 0) FROM feed_histories \
             WHERE id = $1",
        )
        .bind(cursor.history.to_vec());
        let found = spans::db("check_cursor", query.fetch_optional(&self.reader)).await?;
        let last = found.map(|row| RowReader::new(&row).get::<i64>()).transpose()?;
        let is_known = last.is_some_and(|last| (0..=last).contains(&cursor.position.number));
        Ok(if is_known { CursorCheck::Known } else { CursorCheck::Foreign })
    }

    /// Returns after the next commit by this process that changes registrations; at once if there was one since the
    /// last call. For one task.
    pub async fn changes_committed(&self) {
        self.changes_committed.notified().await;
    }

    fn readable_sql(&self, waits_for: WaitsFor) -> &'static str {
        match (&*self.engine, waits_for) {
            (Engine::Sqlite(_), _) => ANYTHING_SQL,
            #[cfg(test)]
            (Engine::SharedFile(_), _) => ANYTHING_SQL,
            (Engine::Postgres { .. }, WaitsFor::AllDatabases) => PG_READABLE_SQL,
            (Engine::Postgres { .. }, WaitsFor::ThisDatabase) => PG_READABLE_HERE_SQL,
        }
    }
}

/// The limit is in the text: PostgreSQL could plan an unknown one by sorting all rows.
fn changes_sql(readable: &str, size: PageSize) -> String {
    format!(
        "{} WHERE (r.change_number, r.id) > ($1, $2) AND r.change_number < {readable} ORDER BY r.change_number, r.id \
         LIMIT {}",
        rows::SELECT_CHANGE,
        size.rows()
    )
}

fn newest_sql(readable: &str) -> String {
    format!(
        "SELECT h.id, c.change_number, c.id FROM (SELECT id FROM feed_histories ORDER BY number DESC LIMIT 1) h LEFT \
         JOIN (SELECT change_number, id FROM registrations WHERE change_number < {readable} ORDER BY change_number \
         DESC, id DESC LIMIT 1) c ON 1 = 1"
    )
}

#[cfg(test)]
#[path = "change_feed_tests.rs"]
mod tests;
