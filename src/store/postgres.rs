//! PostgreSQL: a schema of our own on a server that replicas share, and how its connections are set.

use super::{OpenError, engine::Engine, notifications::NotificationOutbox, schema, timeout_pool::TimeoutPool};
use sqlx::{AssertSqlSafe, any::AnyPoolOptions, postgres::PgConnectOptions};
use std::{fs::File, io, path::PathBuf, str::FromStr, time::Duration};
use url::Url;

/// Our tables stand in a schema of this name, so that a database may hold others beside it.
pub(super) const SCHEMA: &str = "registrar";
/// Several write at once, for the server keeps them apart. With [`READERS`], one that listens and one for leases a replica has
/// at most 12 connections of the server's usual 100.
const PG_WRITER_CONNECTIONS: u32 = 4;
const PG_READER_CONNECTIONS: u32 = 6;
/// A connection is waited for at most this long, so that whoever calls hears soon that the server is gone.
pub(super) const PG_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is waited for at most this long; the longest statement of ours takes a tenth of it.
pub(super) const PG_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How each session is set. The server gives up what nobody waits for any more, frees what a silent replica has locked, and, over
/// TCP, soon sees that a replica is gone.
pub(super) const SESSION_SETTINGS: [(&str, &str); 7] = [
    ("search_path", SCHEMA),
    ("client_min_messages", "warning"),
    ("statement_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "3"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "3"),
];
/// What the statements lean on, however the server is set. A row that another replica has just written is seen by the next
/// statement; and `synchronous_commit` may be stronger than `on`, but never weaker: what is said to be accepted is on disk.
const REQUIRED_SETTINGS_SQL: &str = "SET default_transaction_isolation = 'read committed'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
/// The parameters of a URL that name files of certificates and keys, as sqlx reads them.
const CERTIFICATE_PARAMETERS: [&str; 7] =
    ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];

/// Connects, makes the schema when absent, and brings it up to date.
pub(super) async fn open(url: &str) -> Result<(Engine, TimeoutPool, TimeoutPool), OpenError> {
    let options = PgConnectOptions::from_str(url).map_err(map_open_error)?.options(SESSION_SETTINGS);
    check_certificate_files(url)?;
    schema::migrate_schema(url).await?;
    let writer = connect(url, PG_WRITER_CONNECTIONS).await.map_err(map_open_error)?;
    let reader = connect(url, PG_READER_CONNECTIONS).await.map_err(map_open_error)?;
    Ok((
        Engine::Postgres { options: Box::new(options), outbox: NotificationOutbox::new() },
        TimeoutPool::new(writer, PG_STATEMENT_TIMEOUT),
        TimeoutPool::new(reader, PG_STATEMENT_TIMEOUT),
    ))
}

/// Whether the certificates and keys that the URL names can be read: sqlx would call a file that is missing a server that is.
fn check_certificate_files(url: &str) -> Result<(), OpenError> {
    let Ok(url) = Url::parse(url) else { return Ok(()) };
    for (name, value) in url.query_pairs() {
        // What is no name of a file is the certificate itself.
        if CERTIFICATE_PARAMETERS.contains(&&*name) && !value.contains("-----BEGIN") {
            let path = PathBuf::from(&*value);
            File::open(&path).map_err(|error| OpenError::Certificate { path, kind: error.kind() })?;
        }
    }
    Ok(())
}

pub(super) async fn connect(url: &str, connections: u32) -> Result<sqlx::AnyPool, sqlx::Error> {
    let set = SESSION_SETTINGS.map(|(name, value)| format!("SET {name} = '{value}'; "));
    let set = format!("{}{REQUIRED_SETTINGS_SQL}", set.concat());
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PG_ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            let set = AssertSqlSafe(set.clone());
            Box::pin(async move { sqlx::raw_sql(set).execute(&mut *connection).await.map(drop) })
        })
        .connect(url)
        .await
}

/// What an operator can do about an error at the start. Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(super) fn map_open_error(error: sqlx::Error) -> OpenError {
    if is_connection_error(&error) {
        return OpenError::Unreachable(error);
    }
    if matches!(error, sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) | sqlx::Error::Io(_)) {
        return OpenError::Tls(error);
    }
    match sqlstate(&error).as_str() {
        "28P01" => OpenError::Unauthenticated,
        "28000" => OpenError::PgHbaRejected(error),
        "3D000" => OpenError::NoDatabase,
        "42501" => OpenError::SchemaPermissionDenied,
        _ => error.into(),
    }
}

/// Whether the server may be there a moment later: nobody answers; it has too many guests; it is starting, shutting down, or was told
/// to hang up. What rustls calls invalid data is a handshake that failed for what was said in it.
pub(super) fn is_connection_error(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Io(error) = error {
        return error.kind() != io::ErrorKind::InvalidData;
    }
    matches!(error, sqlx::Error::PoolTimedOut)
        || ["53300", "57P01", "57P02", "57P03"].contains(&sqlstate(error).as_str())
}

pub(super) fn sqlstate(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|refusal| refusal.code()).unwrap_or_default().into_owned()
}

/// What is said of a server that does not answer.
pub(super) fn timeout_error() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer in time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{NewRegistration, Pair, Timestamp},
        store::{
            AcceptHandle, Settings, Store,
            testing::{TestDatabase, server::Database},
        },
    };
    use futures_util::future::{join_all, try_join_all};
    use sqlx::{Executor, PgConnection, Row};
    use std::time::SystemTime;
    use tokio_util::sync::CancellationToken;

    async fn open(database: &Database) -> Store {
        Store::open(&Settings::Postgres(database.url()), 10_000).await.unwrap()
    }

    async fn open_error(url: String) -> OpenError {
        Store::open(&Settings::Postgres(url), 1).await.unwrap_err()
    }

    fn acceptor(store: &Store) -> AcceptHandle {
        let (acceptor, intake) = AcceptHandle::new(store.clone());
        tokio::spawn(intake.run(CancellationToken::new(), || {}));
        acceptor
    }

    fn request(document: u8, case: &str) -> NewRegistration {
        NewRegistration {
            pair: Pair {
                document_hash: crate::registration::DocumentHash::new([document; 32]).unwrap(),
                case_id: case.parse().unwrap(),
            },
            submitted_as: String::new(),
            user_id: None,
            trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()),
        }
    }

    /// Returns when somebody else in the database waits for a lock.
    async fn wait_for_lock_waiter(connection: &mut PgConnection) {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while connection.fetch_optional(waiting).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn replicas_may_start_together_on_an_empty_database() {
        let database = Database::new().await;
        let stores = join_all((0..4).map(|_| open(&database))).await;
        assert!(stores.iter().all(Store::is_shared));
    }

    #[tokio::test]
    async fn a_pair_that_comes_to_two_replicas_at_once_is_one_registration() {
        let database = Database::new().await;
        // Nobody would untie them in time.
        database.run("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 60000', current_database()); END $$").await;
        let acceptors = [acceptor(&open(&database).await), acceptor(&open(&database).await)];
        for case in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let forth = (1..=200).map(|document| acceptors[0].accept(request(document, case)));
            let back = (1..=200).rev().map(|document| acceptors[1].accept(request(document, case)));
            let (forth, mut back) = tokio::try_join!(try_join_all(forth), try_join_all(back)).unwrap();
            back.reverse();
            for (one, other) in forth.iter().zip(&back) {
                assert_eq!(one.registration.id, other.registration.id);
                assert!(one.is_new != other.is_new, "it began on one replica alone");
            }
        }
    }

    #[tokio::test]
    async fn a_failed_pair_begins_again_on_one_replica_alone() {
        let database = Database::new().await;
        let (one, other) = (open(&database).await, open(&database).await);
        let acceptors = [acceptor(&one), acceptor(&other)];
        let id = acceptors[0].accept(request(1, "a")).await.unwrap().registration.id;
        database.run("UPDATE registrar.registrations SET state = 'failed'").await;
        let mut other_replica = database.connect().await;
        // It begins again on one replica, while the other has seen that it failed.
        other_replica.execute("BEGIN; SELECT 1 FROM registrar.registrations FOR UPDATE").await.unwrap();
        let again = tokio::spawn(async move { acceptors[1].accept(request(1, "a")).await });
        let mut watcher = database.connect().await;
        wait_for_lock_waiter(&mut watcher).await;
        let begin_again = "UPDATE registrar.registrations SET state = 'queued', revision = 7; COMMIT";
        other_replica.execute(begin_again).await.unwrap();
        let again = again.await.unwrap().unwrap();
        assert_eq!((again.registration.id, again.registration.revision, again.is_new), (id, 7, false));
    }

    #[tokio::test]
    async fn a_deadlock_is_not_the_callers_business() {
        let database = Database::new().await;
        let store = open(&database).await;
        let mut other = database.connect().await;
        let insert = |document: &str| {
            let values = format!("'\\x{document}', '\\x{}', 'a', '', 'queued', 1, '\\x01', 1, 1", document.repeat(32));
            AssertSqlSafe(format!(
                "INSERT INTO registrar.registrations (id, document_hash, case_id, submitted_as, state, revision, trace_id, \
                 created_at, updated_at) VALUES ({values})"
            ))
        };
        other.execute("SET deadlock_timeout = '1min'; BEGIN").await.unwrap();
        other.execute(insert("02")).await.unwrap();
        let acceptor = acceptor(&store);
        let accepting =
            tokio::spawn(async move { try_join_all((1..=2).map(|d| acceptor.accept(request(d, "a")))).await });
        let mut watcher = database.connect().await;
        wait_for_lock_waiter(&mut watcher).await;
        // The first pair is the store's, the second one is this transaction's, and each waits for the other's.
        other.execute(insert("01")).await.unwrap();
        other.execute("ROLLBACK").await.unwrap();
        let accepted = accepting.await.unwrap().unwrap();
        assert!(accepted.iter().all(|accepted| accepted.is_new));
        assert_eq!(store.unfinished_count(), 2);
    }

    #[tokio::test]
    async fn a_start_that_is_refused_says_what_to_mend() {
        let database = Database::new().await;
        database.run("CREATE ROLE guest LOGIN PASSWORD 'guest'").await;
        let nobody_there = "postgres://u:p@127.0.0.1:1/d".to_owned();
        assert!(matches!(open_error(nobody_there).await, OpenError::Unreachable(_)));
        assert!(matches!(open_error(database.url_as("registrar", "wrong")).await, OpenError::Unauthenticated));
        assert!(matches!(open_error(database.url_as("nobody", "guest")).await, OpenError::Unauthenticated));
        assert!(matches!(open_error(database.url_as("guest", "guest")).await, OpenError::SchemaPermissionDenied));
        assert!(matches!(open_error(database.url().replace("/test_", "/absent_")).await, OpenError::NoDatabase));
        let no_certificate = format!("{}&sslmode=verify-full&sslrootcert=/absent.crt", database.url());
        assert!(matches!(open_error(no_certificate).await, OpenError::Certificate { .. }));
        database.run("CREATE SCHEMA registrar; CREATE TABLE registrar.thesis (text TEXT)").await;
        let foreign = open_error(database.url()).await;
        assert!(matches!(&foreign, OpenError::Foreign(table) if table == "thesis"), "{foreign}");
        let left = "SELECT 1 FROM pg_tables WHERE schemaname = 'registrar' AND tablename <> 'thesis'";
        assert!(database.connect().await.fetch_optional(left).await.unwrap().is_none(), "it was written to");
    }

    #[test]
    fn only_what_may_pass_by_itself_is_waited_for() {
        let io = |kind| sqlx::Error::Io(io::Error::from(kind));
        for (error, may_pass) in [
            (io(io::ErrorKind::ConnectionRefused), true),
            // A socket that is not there yet, and a name that nobody knows yet.
            (io(io::ErrorKind::NotFound), true),
            (io(io::ErrorKind::Other), true),
            (io(io::ErrorKind::UnexpectedEof), true),
            (sqlx::Error::PoolTimedOut, true),
            (io(io::ErrorKind::InvalidData), false),
            (sqlx::Error::Tls("server does not support TLS".into()), false),
            (sqlx::Error::Protocol("this is no PostgreSQL".to_owned()), false),
        ] {
            let told = map_open_error(error);
            assert_eq!(told.is_transient(), may_pass, "{told}");
        }
    }

    #[tokio::test]
    async fn what_the_server_says_of_its_own_troubles_is_waited_for() {
        let database = Database::new().await;
        let mut connection = database.connect().await;
        for (code, may_pass) in
            [("53300", true), ("57P01", true), ("57P02", true), ("57P03", true), ("28000", false), ("42601", false)]
        {
            let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{code}'; END $$");
            let told = map_open_error(connection.execute(AssertSqlSafe(raise)).await.unwrap_err());
            assert_eq!(told.is_transient(), may_pass, "{code}: {told}");
        }
    }

    #[tokio::test]
    async fn what_is_accepted_is_on_disk_whatever_the_server_is_set_to() {
        let database = Database::new().await;
        database.run("ALTER ROLE registrar SET synchronous_commit = off").await;
        let store = open(&database).await;
        for pool in [&store.reader, &store.writer] {
            let row = sqlx::query("SELECT current_setting('synchronous_commit')").fetch_one(pool).await.unwrap();
            assert_eq!(row.get::<String, _>(0), "on");
        }
    }

    #[tokio::test]
    async fn tables_beside_our_schema_are_nobodys_business() {
        let ground = TestDatabase::postgres().await;
        let TestDatabase::Postgres(database) = &ground else { panic!("another engine") };
        database.run("CREATE TABLE registrations (text TEXT)").await;
        let store = open(database).await;
        assert!(store.queued(Timestamp::from(SystemTime::now()), 1).await.unwrap().is_empty());
    }
}
