//! Making our schema on a PostgreSQL server and bringing it up to date, one replica after the other.
//!
//! Whatever happens meanwhile, the start goes on or ends: a server may fall silent between two statements, and another replica may
//! be stopped while it has its turn.

use super::{
    OpenError, open,
    postgres::{PG_STATEMENT_TIMEOUT, SCHEMA, SESSION_SETTINGS, is_connection_error, map_open_error, sqlstate},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Error, Row, migrate::MigrateError};
use std::{future::Future, io, time::Duration};
use tokio::time::timeout;
use tracing::info;

/// Another replica has this long to make the schema or bring it up to date, and whoever has locked a table to let go of it.
const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// A migration takes at most this long: a new index on a large table takes its time. The server gives up first.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(660);
/// The limits of this one connection, over those of every session. They free the turn of a replica that is stopped while it has it.
/// The last one is known since PostgreSQL 14.
const MIGRATION_SESSION_SQL: &str = "SET statement_timeout = '10min'; SET lock_timeout = '60s'; \
    SELECT set_config(name, '10s', false) FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout'";
/// Whose turn it is: a lock of the database's, ended with its connection. The number says `register` in ASCII.
const TRY_MIGRATION_LOCK_SQL: &str = "SELECT pg_try_advisory_lock(8243102910254802290)";
const MIGRATION_LOCK_SQL: &str = "SELECT pg_advisory_lock(8243102910254802290)";

/// Makes the schema when it is absent, and brings it up to date.
pub(super) async fn migrate_schema(url: &str) -> Result<(), OpenError> {
    let mut connection =
        with_timeout(PG_STATEMENT_TIMEOUT, AnyConnection::connect(url)).await.map_err(map_open_error)?;
    let set = SESSION_SETTINGS.map(|(name, value)| format!("SET {name} = '{value}'; ")).concat();
    let set = AssertSqlSafe(format!("{set}{MIGRATION_SESSION_SQL}"));
    with_timeout(PG_STATEMENT_TIMEOUT, sqlx::raw_sql(set).execute(&mut connection)).await.map_err(map_open_error)?;
    acquire_migration_lock(&mut connection).await?;
    let tables = with_timeout(PG_STATEMENT_TIMEOUT, list_tables(&mut connection)).await.map_err(map_open_error)?;
    open::reject_foreign_tables(&tables)?;
    with_timeout(PG_STATEMENT_TIMEOUT, create_schema_if_missing(&mut connection)).await.map_err(map_open_error)?;
    let migrated = timeout(MIGRATION_TIMEOUT, open::migrator().run(&mut connection)).await;
    migrated.map_err(|_| map_open_error(server_timeout_error()))?.map_err(map_migration_error)?;
    with_timeout(PG_STATEMENT_TIMEOUT, connection.close()).await.map_err(map_open_error)
}

/// Returns when no other replica makes or changes the schema, and none can until the connection ends.
async fn acquire_migration_lock(connection: &mut AnyConnection) -> Result<(), OpenError> {
    let tried =
        with_timeout(PG_STATEMENT_TIMEOUT, sqlx::query(TRY_MIGRATION_LOCK_SQL).fetch_one(&mut *connection)).await;
    if tried.and_then(|row| row.try_get(0)).map_err(map_open_error)? {
        return Ok(());
    }
    info!(
        at_most_seconds = MIGRATION_LOCK_TIMEOUT.as_secs(),
        "another replica brings the database up to date: waiting for it"
    );
    match timeout(MIGRATION_LOCK_TIMEOUT, sqlx::query(MIGRATION_LOCK_SQL).execute(connection)).await {
        Ok(locked) => locked.map(drop).map_err(map_lock_error),
        Err(_) => Err(OpenError::Locked),
    }
}

/// The tables that stand in the schema.
async fn list_tables(connection: &mut AnyConnection) -> Result<Vec<String>, Error> {
    let tables = sqlx::query(
        "SELECT CAST(c.relname AS TEXT) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE CAST(n.nspname AS TEXT) = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
    )
    .bind(SCHEMA)
    .fetch_all(connection)
    .await?;
    tables.iter().map(|row| row.try_get(0)).collect()
}

/// Makes the schema, if it is not there: who may not make one may still use it.
async fn create_schema_if_missing(connection: &mut AnyConnection) -> Result<(), Error> {
    let there = sqlx::query("SELECT 1 FROM pg_catalog.pg_namespace WHERE CAST(nspname AS TEXT) = $1").bind(SCHEMA);
    if there.fetch_optional(&mut *connection).await?.is_none() {
        let create = AssertSqlSafe(format!("CREATE SCHEMA {SCHEMA}"));
        sqlx::raw_sql(create).execute(connection).await?;
    }
    Ok(())
}

async fn with_timeout<T>(limit: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(server_timeout_error()))
}

fn server_timeout_error() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time"))
}

/// What the server says when a lock was not to be had in time: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn map_lock_error(error: Error) -> OpenError {
    if sqlstate(&error) == "55P03" { OpenError::Locked } else { map_open_error(error) }
}

/// A server that goes away while the schema is brought up to date is as one that was not there.
fn map_migration_error(error: MigrateError) -> OpenError {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = &error else { return error.into() };
    if sqlstate(cause) == "55P03" {
        return OpenError::Locked;
    }
    if is_connection_error(cause) { OpenError::Unreachable(error.into()) } else { error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Settings, Store, testing::server::Database};
    use sqlx::{Executor, PgConnection};

    /// What a timer rounds up, and more.
    const TIMER_SLACK: Duration = Duration::from_secs(1);

    async fn open(url: String) -> Result<Store, OpenError> {
        Store::open(&Settings::Postgres(url), 1).await
    }

    /// Returns when somebody in the database waits for a lock.
    async fn wait_for_lock_waiter(connection: &mut PgConnection) {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while connection.fetch_optional(waiting).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    }

    /// What a start ends with that waits for what is held, and after how long.
    async fn open_while_locked(database: &Database, held: &str) -> (OpenError, Duration) {
        let mut holder = database.connect().await;
        let mut watcher = database.connect().await;
        holder.execute(AssertSqlSafe(held.to_owned())).await.unwrap();
        let pausing = async {
            wait_for_lock_waiter(&mut watcher).await;
            // From here on the clock runs to whatever is waited for, as long as the server says nothing.
            tokio::time::pause();
            tokio::time::Instant::now()
        };
        let (started, begun) = tokio::join!(open(database.url()), pausing);
        let waited = begun.elapsed();
        tokio::time::resume();
        (started.unwrap_err(), waited)
    }

    #[tokio::test]
    async fn a_start_waits_for_another_replicas_turn_and_not_for_ever() {
        let database = Database::new().await;
        let (refusal, waited) = open_while_locked(&database, MIGRATION_LOCK_SQL).await;
        assert!(matches!(refusal, OpenError::Locked) && refusal.is_transient(), "{refusal}");
        assert!(waited < MIGRATION_LOCK_TIMEOUT + TIMER_SLACK, "{waited:?}");
        let after = open(database.url()).await;
        assert!(after.is_ok(), "whoever had it is gone: {after:?}");
    }

    #[tokio::test]
    async fn a_start_ends_when_the_server_does_not_answer_while_the_schema_is_made() {
        let database = Database::new().await;
        let (refusal, waited) = open_while_locked(&database, "BEGIN; CREATE SCHEMA registrar").await;
        assert!(matches!(refusal, OpenError::Unreachable(_)), "{refusal}");
        assert!(waited < PG_STATEMENT_TIMEOUT + TIMER_SLACK, "{waited:?}");
    }

    #[tokio::test]
    async fn a_start_ends_when_the_server_does_not_answer_while_the_schema_is_brought_up_to_date() {
        let database = Database::new().await;
        open(database.url()).await.unwrap();
        let (refusal, waited) = open_while_locked(&database, "BEGIN; LOCK TABLE registrar._sqlx_migrations").await;
        assert!(matches!(refusal, OpenError::Unreachable(_)), "{refusal}");
        assert!(waited < MIGRATION_TIMEOUT + TIMER_SLACK, "{waited:?}");
    }

    #[tokio::test]
    async fn a_table_that_somebody_keeps_locked_is_told_from_a_server_that_is_silent() {
        let database = Database::new().await;
        let mut connection = database.connect().await;
        let raise = "DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '55P03'; END $$";
        let error = connection.execute(raise).await.unwrap_err();
        assert!(matches!(map_migration_error(MigrateError::ExecuteMigration(error, 1)), OpenError::Locked));
    }
}
