//! Creates our schema on a PostgreSQL server and migrates it, one replica at a time.
//!
//! Every step has a timeout: the server may stop answering between two statements, and another replica may be stopped
//! while it holds the migration lock.

use super::{
    OpenError,
    change_number::{begin_history, prepare_postgres},
    migrations::{check_owner, migrator, version},
    postgres::{PG_STATEMENT_TIMEOUT, map_open_error},
    servers::Servers,
    session_settings::{SCHEMA, session_sql},
    sql_errors::{Fault, fault, sqlstate, timeout_error, with_timeout},
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Error, PgConnection, Row, migrate::MigrateError};
use std::time::Duration;
use tokio::time::timeout;
use tracing::info;

/// For another replica to create or migrate the schema, and for a session that has locked a table to release it.
const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// A new index on a large table takes minutes. The server's own timeout, 10 minutes, comes first.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(660);
/// Overrides the timeouts of every other session. They release the lock of a replica that is stopped while it holds it.
/// `idle_session_timeout` exists since PostgreSQL 14.
const MIGRATION_SESSION_SQL: &str = "SET statement_timeout = '10min'; SET lock_timeout = '60s'; \
    SELECT set_config(name, '10s', false) FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout'";
/// The migration lock ends with its connection. The number is `register` in ASCII.
const TRY_MIGRATION_LOCK_SQL: &str = "SELECT pg_try_advisory_lock(8243102910254802290)";
/// The order of the default collation changes with the operating system, and then the indexes are wrong
/// (<https://wiki.postgresql.org/wiki/Locale_data_changes>). Only in a new schema: on one in use, prepared statements of
/// running replicas would fail.
const COLLATION_SQL: &str = "ALTER TABLE registrations ALTER case_id TYPE TEXT COLLATE \"C\", \
    ALTER state TYPE TEXT COLLATE \"C\", ALTER user_id TYPE TEXT COLLATE \"C\", ALTER caller TYPE TEXT COLLATE \"C\", \
    ALTER blocked TYPE TEXT COLLATE \"C\"";
/// As [`COLLATION_SQL`], of a table that the running replicas of an earlier release do not use.
const USAGE_COLLATION_SQL: &str = "ALTER TABLE caller_usage ALTER caller TYPE TEXT COLLATE \"C\"";
const BACKEND_PROCESS_SQL: &str = "SELECT pg_backend_pid()";
const MIGRATION_LOCK_SQL: &str = "SELECT pg_advisory_lock(8243102910254802290)";

pub(super) async fn migrate_schema(servers: &Servers) -> Result<(), OpenError> {
    // This may lead to another of several servers.
    let other = answered(servers.connect()).await?;
    let mut connection = answered(AnyConnection::connect(servers.url())).await?;
    check_pooler(&mut connection, other).await?;
    let settings = AssertSqlSafe(format!("{}{MIGRATION_SESSION_SQL}", session_sql()));
    answered(sqlx::raw_sql(settings).execute(&mut connection)).await?;
    acquire_migration_lock(&mut connection).await?;
    let tables = answered(list_tables(&mut connection)).await?;
    check_owner(answered(version(&mut connection, &tables)).await?, &tables)?;
    answered(create_schema_if_missing(&mut connection)).await?;
    let migrated = timeout(MIGRATION_TIMEOUT, migrator().run(&mut connection)).await;
    migrated.map_err(|_| map_open_error(timeout_error()))?.map_err(map_migration_error)?;
    if tables.is_empty() {
        answered(sqlx::raw_sql(COLLATION_SQL).execute(&mut connection)).await?;
    }
    if !tables.iter().any(|table| table == "caller_usage") {
        answered(sqlx::raw_sql(USAGE_COLLATION_SQL).execute(&mut connection)).await?;
    }
    let prepared = timeout(MIGRATION_TIMEOUT, prepare_postgres(&mut connection)).await;
    prepared.map_err(|_| map_open_error(timeout_error()))?.map_err(map_open_error)?;
    answered(begin_history(&mut connection)).await?;
    answered(connection.close()).await
}

/// Two sessions at once have two processes of the server, unless a pooler shares one between transactions. Nothing is
/// prepared: on a shared process the names of the two would collide.
async fn check_pooler(connection: &mut AnyConnection, mut other: PgConnection) -> Result<(), OpenError> {
    let ours = answered(sqlx::raw_sql(BACKEND_PROCESS_SQL).fetch_one(&mut *connection)).await?;
    let others = answered(sqlx::raw_sql(BACKEND_PROCESS_SQL).fetch_one(&mut other)).await?;
    answered(other.close()).await?;
    let process: i32 = ours.try_get(0).map_err(map_open_error)?;
    if others.try_get::<i32, _>(0).map_err(map_open_error)? == process { Err(OpenError::PoolerMode) } else { Ok(()) }
}

/// With the timeout of a short statement.
async fn answered<T>(statement: impl Future<Output = Result<T, Error>>) -> Result<T, OpenError> {
    with_timeout(PG_STATEMENT_TIMEOUT, statement).await.map_err(map_open_error)
}

/// Once this returns, no other replica creates or migrates the schema until the connection ends.
async fn acquire_migration_lock(connection: &mut AnyConnection) -> Result<(), OpenError> {
    let row = answered(sqlx::query(TRY_MIGRATION_LOCK_SQL).fetch_one(&mut *connection)).await?;
    if row.try_get(0).map_err(map_open_error)? {
        return Ok(());
    }
    info!(
        at_most_seconds = MIGRATION_LOCK_TIMEOUT.as_secs(),
        "waiting for another replica to finish the database migration"
    );
    match timeout(MIGRATION_LOCK_TIMEOUT, sqlx::query(MIGRATION_LOCK_SQL).execute(connection)).await {
        Ok(locked) => locked.map(drop).map_err(map_lock_error),
        Err(_) => Err(OpenError::Locked),
    }
}

async fn list_tables(connection: &mut AnyConnection) -> Result<Vec<String>, Error> {
    let tables = sqlx::query(
        "SELECT CAST(c.relname AS TEXT) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = \
         c.relnamespace WHERE CAST(n.nspname AS TEXT) = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
    )
    .bind(SCHEMA)
    .fetch_all(connection)
    .await?;
    tables.iter().map(|row| row.try_get(0)).collect()
}

/// Not `IF NOT EXISTS`, which needs the right to create a schema even if it exists.
async fn create_schema_if_missing(connection: &mut AnyConnection) -> Result<(), Error> {
    let existing = sqlx::query("SELECT 1 FROM pg_catalog.pg_namespace WHERE CAST(nspname AS TEXT) = $1").bind(SCHEMA);
    if existing.fetch_optional(&mut *connection).await?.is_none() {
        let create = AssertSqlSafe(format!("CREATE SCHEMA {SCHEMA}"));
        sqlx::raw_sql(create).execute(connection).await?;
    }
    Ok(())
}

/// SQLSTATE 55P03 is `lock_not_available`: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn map_lock_error(error: Error) -> OpenError {
    if sqlstate(&error) == "55P03" { OpenError::Locked } else { map_open_error(error) }
}

/// A server that disappears during a migration is reported like one that was not there. A deadlock (40P01) with the
/// writes of running replicas is a lock that is waited for: they write to several tables, and so do migrations.
fn map_migration_error(error: MigrateError) -> OpenError {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = &error else { return error.into() };
    if ["55P03", "40P01"].contains(&sqlstate(cause).as_str()) {
        return OpenError::Locked;
    }
    match fault(cause) {
        Some(Fault::Connection) => OpenError::Unreachable(error.into()),
        Some(Fault::ReadOnly) => OpenError::ReadOnlyServer,
        Some(Fault::Storage | Fault::Damage) | None => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Settings, Store, testing::server::Database};
    use sqlx::{Executor, PgConnection};

    /// More than a timer rounds up.
    const TIMER_SLACK: Duration = Duration::from_secs(1);

    async fn open(url: String) -> Result<Store, OpenError> {
        Store::open(&Settings::Postgres(url), 1).await
    }

    /// Returns when a session waits for a lock.
    async fn wait_for_lock_waiter(connection: &mut PgConnection) {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while connection.fetch_optional(waiting).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    }

    /// Opens the database while a session holds a lock; the error, and the time until it.
    async fn open_while_locked(database: &Database, lock: &str) -> (OpenError, Duration) {
        let mut holder = database.connect().await;
        let mut watcher = database.connect().await;
        holder.execute(AssertSqlSafe(lock.to_owned())).await.unwrap();
        let pause_clock = async {
            wait_for_lock_waiter(&mut watcher).await;
            // From here on the clock advances to the next timer whenever the server is silent.
            tokio::time::pause();
            tokio::time::Instant::now()
        };
        let (opened, paused_at) = tokio::join!(open(database.url()), pause_clock);
        let waited = paused_at.elapsed();
        tokio::time::resume();
        (opened.unwrap_err(), waited)
    }

    #[tokio::test]
    async fn a_start_waits_for_another_replicas_migration_until_a_timeout() {
        let database = Database::new().await;
        let (error, waited) = open_while_locked(&database, MIGRATION_LOCK_SQL).await;
        assert!(matches!(error, OpenError::Locked) && error.is_transient(), "{error}");
        assert!(waited < MIGRATION_LOCK_TIMEOUT + TIMER_SLACK, "{waited:?}");
        let after = open(database.url()).await;
        assert!(after.is_ok(), "the lock is free again: {after:?}");
    }

    #[tokio::test]
    async fn a_start_fails_when_the_server_stops_answering_while_the_schema_is_created() {
        let database = Database::new().await;
        let (error, waited) = open_while_locked(&database, "BEGIN; CREATE SCHEMA registrar").await;
        assert!(matches!(error, OpenError::Unreachable(_)), "{error}");
        assert!(waited < PG_STATEMENT_TIMEOUT + TIMER_SLACK, "{waited:?}");
    }

    #[tokio::test]
    async fn a_start_fails_when_the_server_stops_answering_during_a_migration() {
        let database = Database::new().await;
        open(database.url()).await.unwrap();
        let (error, waited) = open_while_locked(&database, "BEGIN; LOCK TABLE registrar._sqlx_migrations").await;
        assert!(matches!(error, OpenError::Unreachable(_)), "{error}");
        assert!(waited < MIGRATION_TIMEOUT + TIMER_SLACK, "{waited:?}");
    }

    #[tokio::test]
    async fn text_in_indexes_does_not_depend_on_the_locale() {
        let database = Database::new().await;
        open(database.url()).await.unwrap();
        let other = "SELECT a.attname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_attribute a ON \
                     a.attrelid = t.oid AND a.attnum = ANY (i.indkey) JOIN pg_collation c ON c.oid = a.attcollation \
                     WHERE t.relnamespace = 'registrar'::regnamespace AND c.collname <> 'C' AND t.relname <> \
                     '_sqlx_migrations'";
        assert!(database.connect().await.fetch_all(other).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_locked_table_is_distinguished_from_a_silent_server() {
        let database = Database::new().await;
        let mut connection = database.connect().await;
        for code in ["55P03", "40P01"] {
            let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{code}'; END $$");
            let error = connection.execute(AssertSqlSafe(raise)).await.unwrap_err();
            assert!(matches!(map_migration_error(MigrateError::ExecuteMigration(error, 1)), OpenError::Locked));
        }
    }
}
