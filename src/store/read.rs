//! Reading registrations and the queue.

use super::{
    QueuedRegistration, Store, StoreError,
    bind::{bind_ids, clamp},
    query::query,
    rows::{self, RowReader},
    sql::{UNINDEXED_STATE, chunks, placeholders},
};
use crate::{
    registration::{Registration, RegistrationId, State, Timestamp},
    telemetry::spans,
};

/// Ids grow with time, so that the first one in the index is the oldest.
pub(super) const OLDEST_QUEUED_SQL: &str =
    "SELECT created_at FROM registrations WHERE state = 'queued' ORDER BY id LIMIT 1";

pub(super) const UNFINISHED_BY_STATE_SQL: &str = "SELECT state, COUNT(*) FROM registrations \
     WHERE state IN ('queued', 'signed', 'submitted', 'included') GROUP BY state";

pub(super) fn queued_sql() -> String {
    format!("{} WHERE state = 'queued' AND retry_at <= $1 ORDER BY id LIMIT $2", rows::SELECT_QUEUED)
}

impl Store {
    pub async fn get(&self, id: RegistrationId) -> Result<Option<Registration>, StoreError> {
        Ok(self.select_by_ids("get", &[id]).await?.pop())
    }

    /// Those that exist, in no order.
    pub async fn get_all(&self, ids: &[RegistrationId]) -> Result<Vec<Registration>, StoreError> {
        self.select_by_ids("get_all", ids).await
    }

    async fn select_by_ids(&self, name: &'static str, ids: &[RegistrationId]) -> Result<Vec<Registration>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in chunks(ids) {
            let sql = format!("{} WHERE r.id IN ({})", rows::SELECT_REGISTRATION, placeholders(1, chunk.len()));
            let query = bind_ids(query(sql), &chunk);
            for row in spans::db(name, query.fetch_all(&self.reader)).await? {
                found.push(rows::read_registration(&row)?);
            }
        }
        Ok(found)
    }

    /// The revisions of those that exist, in no order.
    pub async fn revisions(&self, ids: &[RegistrationId]) -> Result<Vec<(RegistrationId, i64)>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in chunks(ids) {
            let sql = format!("SELECT id, revision FROM registrations WHERE id IN ({})", placeholders(1, chunk.len()));
            let query = bind_ids(query(sql), &chunk);
            for row in spans::db("revisions", query.fetch_all(&self.reader)).await? {
                let mut c = RowReader::new(&row);
                found.push((c.registration_id()?, c.get()?));
            }
        }
        Ok(found)
    }

    /// Of all replicas, for each state that is neither confirmed nor failed.
    pub async fn unfinished_by_state(&self) -> Result<Vec<(State, u64)>, StoreError> {
        let mut counts = Vec::new();
        let query = query(UNFINISHED_BY_STATE_SQL);
        for row in spans::db("unfinished_by_state", query.fetch_all(&self.reader)).await? {
            let mut c = RowReader::new(&row);
            counts.push((c.code()?, c.number()?));
        }
        Ok(counts)
    }

    /// When the oldest queued registration was accepted.
    pub async fn oldest_queued(&self) -> Result<Option<Timestamp>, StoreError> {
        let query = query(OLDEST_QUEUED_SQL);
        let found = spans::db("oldest_queued", query.fetch_optional(&self.reader)).await?;
        found.map_or(Ok(None), |row| RowReader::new(&row).time())
    }

    /// At most `limit` queued registrations that are due, oldest first.
    pub async fn queued(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedRegistration>, StoreError> {
        let query = query(queued_sql()).bind(now).bind(clamp(limit));
        let found = spans::db("queued", query.fetch_all(&self.reader)).await?;
        found.iter().map(|row| rows::read_queued(&mut RowReader::new(row))).collect()
    }

    /// Of these, the queued registrations that are due, in no order.
    pub async fn queued_among(
        &self,
        now: Timestamp,
        ids: &[RegistrationId],
    ) -> Result<Vec<QueuedRegistration>, StoreError> {
        let mut found = Vec::new();
        for chunk in chunks(ids) {
            let sql = format!(
                "{} WHERE {UNINDEXED_STATE} = 'queued' AND retry_at <= $1 AND id IN ({})",
                rows::SELECT_QUEUED,
                placeholders(2, chunk.len())
            );
            let query = bind_ids(query(sql).bind(now), &chunk);
            for row in spans::db("queued_among", query.fetch_all(&self.reader)).await? {
                found.push(rows::read_queued(&mut RowReader::new(&row))?);
            }
        }
        Ok(found)
    }
}
