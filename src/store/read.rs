//! Reading registrations: one, some, what is queued.

use super::{
    Store, StoreError,
    rows::{self, RowReader},
    sql::placeholders,
};
use crate::registration::{Pair, Registration, RegistrationId, State, Timestamp, TraceContext, UserId};
use sqlx::AssertSqlSafe;

/// What a lane needs to know of queued work.
#[derive(Clone, Debug)]
pub struct QueuedRegistration {
    /// Its id.
    pub id: RegistrationId,
    /// What is registered.
    pub pair: Pair,
    /// The caller's opaque id of its end user.
    pub user_id: Option<UserId>,
    /// Where its journey hangs in its trace.
    pub trace: TraceContext,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// How many transactions that carried it have reverted.
    pub reverts: u32,
}

/// Ids grow with time, so that the first one in the index is the oldest.
pub(super) const OLDEST_QUEUED_SQL: &str =
    "SELECT created_at FROM registrations WHERE state = 'queued' ORDER BY id LIMIT 1";

/// What is unfinished, state by state.
pub(super) const UNFINISHED_BY_STATE_SQL: &str = "SELECT state, COUNT(*) FROM registrations \
     WHERE state IN ('queued', 'signed', 'submitted', 'included') GROUP BY state";

/// The queue in its order.
pub(super) fn queued_sql() -> String {
    format!("{} WHERE state = 'queued' AND retry_at <= $1 ORDER BY id LIMIT $2", rows::SELECT_QUEUED)
}

impl Store {
    /// One registration by its id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        Ok(self.get_all(&[id]).await?.pop())
    }

    /// Those of these registrations that exist, in no order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn get_all(&self, ids: &[RegistrationId]) -> Result<Vec<Registration>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in super::sql::chunks(ids) {
            let sql = format!("{} WHERE r.id IN ({})", rows::SELECT_REGISTRATION, placeholders(1, chunk.len()));
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for id in chunk {
                query = query.bind(id.as_bytes().to_vec());
            }
            for row in query.fetch_all(&self.reader).await? {
                found.push(rows::read_registration(&row)?);
            }
        }
        Ok(found)
    }

    /// The revisions of those of these registrations that exist.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn revisions(&self, ids: &[RegistrationId]) -> Result<Vec<(RegistrationId, i64)>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in super::sql::chunks(ids) {
            let sql = format!("SELECT id, revision FROM registrations WHERE id IN ({})", placeholders(1, chunk.len()));
            let query = sqlx::query(AssertSqlSafe(sql));
            let query = chunk.iter().fold(query, |query, id| query.bind(id.as_bytes().to_vec()));
            for row in query.fetch_all(&self.reader).await? {
                let mut c = RowReader::new(&row);
                found.push((c.registration_id()?, c.get()?));
            }
        }
        Ok(found)
    }

    /// How many registrations are in each state that is neither confirmed nor failed, whichever replica has them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unfinished_by_state(&self) -> Result<Vec<(State, u64)>, StoreError> {
        let mut counts = Vec::new();
        for row in sqlx::query(UNFINISHED_BY_STATE_SQL).fetch_all(&self.reader).await? {
            let mut c = RowReader::new(&row);
            counts.push((c.code()?, c.get::<i64>()?.cast_unsigned()));
        }
        Ok(counts)
    }

    /// When the oldest registration that is queued was accepted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn oldest_queued(&self) -> Result<Option<Timestamp>, StoreError> {
        let found = sqlx::query(OLDEST_QUEUED_SQL).fetch_optional(&self.reader).await?;
        found.map_or(Ok(None), |row| RowReader::new(&row).time())
    }

    /// At most `limit` queued registrations whose time has come, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn queued(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedRegistration>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(queued_sql()))
            .bind(now.micros())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.reader)
            .await?;
        found.iter().map(|row| rows::read_queued(&mut RowReader::new(row))).collect()
    }
}
