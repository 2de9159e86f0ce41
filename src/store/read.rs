//! Reading registrations: one, a page, what changed, what is queued.

use super::{
    Store, StoreError,
    rows::{self, Columns},
    sql::list,
};
use crate::registration::{CaseId, DocumentHash, Registration, RegistrationId, State, Timestamp, TraceContext, UserId};
use sqlx::AssertSqlSafe;

/// Which registrations a page lists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Only these states; empty means all.
    pub states: Vec<State>,
    /// Only this case.
    pub case_id: Option<CaseId>,
    /// Only this document.
    pub document_hash: Option<DocumentHash>,
}

/// What a lane needs to know of queued work.
#[derive(Clone, Debug)]
pub struct QueuedRegistration {
    /// Its id.
    pub id: RegistrationId,
    /// The document.
    pub document_hash: DocumentHash,
    /// The case.
    pub case_id: CaseId,
    /// The caller's opaque id of its end user.
    pub user_id: Option<UserId>,
    /// Where its journey hangs in its trace.
    pub trace: TraceContext,
    /// When it was accepted.
    pub created: Timestamp,
    /// How many transactions that carried it have reverted.
    pub reverts: u32,
}

/// Ids grow with time, so that the first one in the index is the oldest.
pub(super) const OLDEST_QUEUED: &str =
    "SELECT created_at FROM registrations WHERE state = 'queued' ORDER BY id LIMIT 1";

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
            let sql = format!("{} WHERE r.id IN ({})", rows::REGISTRATION, list(1, chunk.len()));
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for id in chunk {
                query = query.bind(id.as_bytes().to_vec());
            }
            for row in query.fetch_all(&self.reader).await? {
                found.push(rows::registration(&row)?);
            }
        }
        Ok(found)
    }

    /// One registration by its pair.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find(&self, document: DocumentHash, case_id: &CaseId) -> Result<Option<Registration>, StoreError> {
        let filter = Filter { document_hash: Some(document), case_id: Some(case_id.clone()), ..Filter::default() };
        Ok(self.list(&filter, None, 1).await?.pop())
    }

    /// At most `limit` registrations, newest first, from those before `before` on.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(
        &self,
        filter: &Filter,
        before: Option<RegistrationId>,
        limit: u32,
    ) -> Result<Vec<Registration>, StoreError> {
        let mut conditions = Vec::new();
        let mut bound = 0;
        let mut place = || {
            bound += 1;
            bound
        };
        if before.is_some() {
            conditions.push(format!("r.id < ${}", place()));
        }
        if filter.document_hash.is_some() {
            conditions.push(format!("r.document_hash = ${}", place()));
        }
        if filter.case_id.is_some() {
            conditions.push(format!("r.case_id = ${}", place()));
        }
        if !filter.states.is_empty() {
            let codes: Vec<_> = filter.states.iter().map(|_| format!("${}", place())).collect();
            conditions.push(format!("r.state IN ({})", codes.join(", ")));
        }
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("{}{condition} ORDER BY r.id DESC LIMIT ${}", rows::REGISTRATION, place());
        let mut query = sqlx::query(AssertSqlSafe(sql));
        if let Some(before) = before {
            query = query.bind(before.as_bytes().to_vec());
        }
        if let Some(document) = filter.document_hash {
            query = query.bind(document.as_bytes().to_vec());
        }
        if let Some(case_id) = &filter.case_id {
            query = query.bind(case_id.as_str().to_owned());
        }
        for state in &filter.states {
            query = query.bind(state.code());
        }
        let found = query.bind(i64::from(limit)).fetch_all(&self.reader).await?;
        found.iter().map(rows::registration).collect()
    }

    /// When the oldest registration that is queued was accepted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn oldest_queued(&self) -> Result<Option<Timestamp>, StoreError> {
        let found = sqlx::query(OLDEST_QUEUED).fetch_optional(&self.reader).await?;
        found.map_or(Ok(None), |row| Columns::of(&row).time())
    }

    /// At most `limit` queued registrations whose time has come, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn queued(&self, now: Timestamp, limit: usize) -> Result<Vec<QueuedRegistration>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(format!(
            "{} WHERE state = 'queued' AND retry_at <= $1 ORDER BY id LIMIT $2",
            rows::QUEUED
        )))
        .bind(now.micros())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.reader)
        .await?;
        found.iter().map(rows::queued).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Settings;
    use sqlx::Row;

    #[tokio::test]
    async fn the_oldest_that_is_queued_is_found_without_looking_at_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::parse(&format!("sqlite://{}/r.db", folder.path().display())).unwrap();
        let store = Store::open(&settings, 1).await.unwrap();

        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {OLDEST_QUEUED}")));

        let steps = plan.fetch_all(&store.reader).await.unwrap();
        let steps: Vec<String> = steps.iter().map(|row| row.get("detail")).collect();
        assert_eq!(steps, ["SEARCH registrations USING INDEX registrations_by_state (state=?)"]);
    }
}
