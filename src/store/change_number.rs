//! Change numbers: each write that changes registrations has one, and each registration has that of its latest change.
//! The change feed is read in their order.
//!
//! On SQLite, which has one writer, they count. On PostgreSQL the number is the id of the writing transaction: nothing
//! is locked or counted, but a lower number may be committed after a higher one. So the feed is read up to the oldest
//! transaction that may still be running: `PG_READABLE_SQL` and `PG_READABLE_HERE_SQL`.

#[cfg(test)]
use super::query::query;
use super::{StoreError, timeout_pool::TimeoutConnection};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};
use std::sync::atomic::{AtomicI64, Ordering};

/// Of all registrations that were changed last before there was a feed. Every number of a transaction is larger: these
/// begin at 3.
pub(super) const BEFORE_THE_FEED: i64 = 1;
pub(super) const NEWEST_CHANGE_SQL: &str = "SELECT MAX(change_number) FROM registrations";

const PG_NUMBER_SQL: &str = "SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)";
/// Replicas of the previous release do not know the column. What they write has a number by its default, and by the
/// trigger.
const PG_OLD_REPLICAS_SQL: &str = "ALTER TABLE registrations ALTER change_number \
    SET DEFAULT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT); \
    CREATE OR REPLACE FUNCTION set_change_number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    NEW.change_number := CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT); RETURN NEW; END $$; \
    CREATE TRIGGER set_change_number BEFORE UPDATE ON registrations FOR EACH ROW \
    WHEN (NEW.revision <> OLD.revision AND NEW.change_number = OLD.change_number) EXECUTE FUNCTION set_change_number()";
const PG_HAS_TRIGGER_SQL: &str = "SELECT 1 FROM pg_catalog.pg_trigger WHERE tgname = 'set_change_number' \
    AND tgrelid = CAST('registrations' AS REGCLASS)";

/// Where the numbers of this process's writes come from.
#[derive(Debug)]
pub(super) enum ChangeNumbers {
    /// The latest one.
    Counter(AtomicI64),
    TransactionIds,
    /// A file that several replicas of one test share: one more than the largest.
    #[cfg(test)]
    SharedFile,
}

impl ChangeNumbers {
    /// Begins a database transaction, takes the lock, and returns the transaction's number. The number comes last: the
    /// feed waits for a transaction that has one.
    pub(super) async fn begin(
        &self,
        connection: &mut TimeoutConnection,
        lock: Option<&'static str>,
    ) -> Result<i64, StoreError> {
        match self {
            Self::TransactionIds => {
                let lock = lock.unwrap_or_default();
                let rows = connection.script(format!("BEGIN; {lock}; {PG_NUMBER_SQL}")).await?;
                rows.last().ok_or(sqlx::Error::RowNotFound)?.get(0)
            }
            Self::Counter(latest) => {
                connection.begin_in_file();
                // The holder of the only writer connection.
                Ok(latest.fetch_add(1, Ordering::Relaxed) + 1)
            }
            #[cfg(test)]
            Self::SharedFile => {
                connection.script("BEGIN IMMEDIATE").await?;
                let newest = query(NEWEST_CHANGE_SQL).fetch_one(connection).await?;
                Ok(newest.get::<Option<i64>>(0)?.unwrap_or(BEFORE_THE_FEED) + 1)
            }
        }
    }
}

/// The largest number in a database.
pub(super) async fn newest_change(connection: &mut AnyConnection) -> Result<i64, sqlx::Error> {
    let newest = sqlx::query(NEWEST_CHANGE_SQL).fetch_one(connection).await?;
    Ok(newest.try_get::<Option<i64>, _>(0)?.unwrap_or(BEFORE_THE_FEED))
}

/// Prepares a PostgreSQL schema for replicas of the previous release, and for a dump from another cluster, of which the
/// transaction ids are ahead: its registrations get the number of the beginning, and its histories end. Under the
/// migration lock.
pub(super) async fn prepare_postgres(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    if sqlx::raw_sql(PG_HAS_TRIGGER_SQL).fetch_optional(&mut *connection).await?.is_none() {
        sqlx::raw_sql(PG_OLD_REPLICAS_SQL).execute(&mut *connection).await?;
    }
    // In this order: other replicas may be writing.
    let newest = newest_change(connection).await?;
    let next: i64 = sqlx::raw_sql(PG_NUMBER_SQL).fetch_one(&mut *connection).await?.try_get(0)?;
    if newest >= next {
        let renumber = format!(
            "BEGIN; DELETE FROM feed_histories; UPDATE registrations SET change_number = {BEFORE_THE_FEED} WHERE \
             change_number <> {BEFORE_THE_FEED}; COMMIT"
        );
        sqlx::raw_sql(AssertSqlSafe(renumber)).execute(connection).await?;
    }
    Ok(())
}

/// Begins a history, of a process that starts.
pub(super) async fn begin_history(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let id = uuid::Uuid::new_v4().as_bytes()[..8].to_vec();
    sqlx::query("INSERT INTO feed_histories (number, id) SELECT COALESCE(MAX(number), 0) + 1, $1 FROM feed_histories")
        .bind(id.clone())
        .execute(&mut *connection)
        .await?;
    // Every cursor that names an earlier one was read before this statement, so that its number is not larger.
    sqlx::query(
        "UPDATE feed_histories SET last_change = (SELECT COALESCE(MAX(change_number), 0) FROM registrations) WHERE \
         last_change IS NULL AND number < (SELECT number FROM feed_histories WHERE id = $1)",
    )
    .bind(id)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    /// Whatever changes a registration elsewhere would be missing from the feed.
    #[test]
    fn no_other_statement_changes_what_the_feed_shows() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
        let mut statements = 0;
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() || path.ends_with("db_transaction.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            if path.to_string_lossy().ends_with("_tests.rs") {
                continue;
            }
            for (_, statement) in code.match_indices("UPDATE registrations SET ").map(|(at, _)| code.split_at(at)) {
                statements += 1;
                let set = &statement["UPDATE registrations SET ".len()..];
                let is_hidden = ["claimed_by", "claimed_until", "retry_at", "change_number"]
                    .iter()
                    .any(|column| set.starts_with(column));
                assert!(is_hidden, "{}: use change_registrations: {}", path.display(), &set[..60]);
            }
            assert!(!code.contains("revision + 1"), "{}", path.display());
        }
        assert!(statements >= 4, "the statements are written in another way: {statements}");
    }
}
