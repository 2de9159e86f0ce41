//! PostgreSQL: a schema of our own on a server that replicas share, and the settings of its connections.

use super::{
    OpenError,
    servers::Servers,
    session_settings::{PG_ACQUIRE_TIMEOUT, session_sql},
    sessions::Sessions,
    sql_errors::{Fault, fault, sqlstate},
    timeout_pool::{Source, TimeoutPool},
};
use sqlx::{AssertSqlSafe, any::AnyPoolOptions};
use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};
use tokio::time::Instant;
use url::Url;

/// Several, for the server isolates their writes. With the readers, one for notifications and one for leases a replica
/// has at most 12 of the server's connections, 100 by default.
const PG_WRITER_CONNECTIONS: u32 = 4;
const PG_READER_CONNECTIONS: u32 = 6;
/// Bounds what a server process keeps for a session, and how long a changed password or certificate has no effect.
const MAX_SESSION_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Ten times what our slowest statement takes.
pub(super) const PG_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Required by the statements, whatever the server's configuration. A row that another replica has just written is
/// visible to the next statement; and `synchronous_commit` may be stronger than `on`, but never weaker: what is
/// reported as accepted is on disk.
const REQUIRED_SETTINGS_SQL: &str = "SET default_transaction_isolation = 'read committed'; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
/// Parameters of a URL that name certificate or key files, as sqlx reads them.
const CERTIFICATE_PARAMETERS: [&str; 7] =
    ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];

/// Reads the URL and checks the files that it names.
pub(super) fn servers(url: &str) -> Result<Servers, OpenError> {
    let servers = Servers::parse(url).map_err(map_open_error)?;
    check_certificate_files(servers.url())?;
    Ok(servers)
}

/// The writers and the readers.
pub(super) async fn open_pools(
    servers: &Servers,
    sessions: &Arc<Sessions>,
) -> Result<(TimeoutPool, TimeoutPool), OpenError> {
    sessions.look(servers).await.map_err(map_open_error)?;
    let open = async |connections| {
        let pool = connect(servers.url(), connections, sessions).await.map_err(map_open_error)?;
        servers.lead(&pool);
        Ok::<_, OpenError>(TimeoutPool::new(Source::Server(pool, Arc::clone(sessions)), PG_STATEMENT_TIMEOUT))
    };
    Ok((open(PG_WRITER_CONNECTIONS).await?, open(PG_READER_CONNECTIONS).await?))
}

/// sqlx would report a missing file as an unreachable server.
fn check_certificate_files(url: &str) -> Result<(), OpenError> {
    let Ok(url) = Url::parse(url) else { return Ok(()) };
    for (name, value) in url.query_pairs() {
        // The value may also be the certificate itself.
        if CERTIFICATE_PARAMETERS.contains(&&*name) && !value.contains("-----BEGIN") {
            let path = PathBuf::from(&*value);
            File::open(&path).map_err(|error| OpenError::Certificate { path, kind: error.kind() })?;
        }
    }
    Ok(())
}

/// The sessions are checked by [`Sessions::acquire`].
pub(super) async fn connect(
    url: &str,
    connections: u32,
    sessions: &Arc<Sessions>,
) -> Result<sqlx::AnyPool, sqlx::Error> {
    let sessions = Arc::clone(sessions);
    let set = format!("{}{REQUIRED_SETTINGS_SQL}", session_sql());
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PG_ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(MAX_SESSION_LIFETIME)
        .test_before_acquire(false)
        .before_acquire(move |_, session| {
            let is_retired = Instant::now().checked_sub(session.age).is_none_or(|at| sessions.is_retired(at));
            Box::pin(async move { Ok(!is_retired) })
        })
        .after_connect(move |connection, _| {
            let set = AssertSqlSafe(set.clone());
            Box::pin(async move { sqlx::raw_sql(set).execute(&mut *connection).await.map(drop) })
        })
        .connect(url)
        .await
}

/// By a pooler: PostgreSQL reports a parameter that it does not know by another code.
fn is_rejected_parameter(error: &sqlx::Error) -> bool {
    sqlstate(error) == "08P01" && error.to_string().contains("startup parameter")
}

/// By what an operator can do. Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(super) fn map_open_error(error: sqlx::Error) -> OpenError {
    match fault(&error) {
        Some(Fault::Connection) if !is_rejected_parameter(&error) => return OpenError::Unreachable(error),
        Some(Fault::ReadOnly) => return OpenError::ReadOnlyServer,
        Some(Fault::Connection | Fault::Storage | Fault::Damage) | None => {}
    }
    if is_rejected_parameter(&error) {
        return OpenError::PoolerParameter(error);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{CallerQuota, NewRegistration, Pair, Timestamp},
        store::{
            AcceptHandle, Settings, Store,
            query::query,
            testing::{TestDatabase, server::Database},
        },
    };
    use futures_util::future::{join_all, try_join_all};
    use sqlx::{Executor, PgConnection};
    use std::{io, time::SystemTime};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_util::sync::CancellationToken;

    async fn open(database: &Database) -> Store {
        Store::open(&Settings::Postgres(database.url()), 10_000).await.unwrap()
    }

    async fn open_error(url: String) -> OpenError {
        Store::open(&Settings::Postgres(url), 1).await.unwrap_err()
    }

    fn acceptor(store: &Store) -> AcceptHandle {
        let (handle, writer) = AcceptHandle::new(store.clone());
        tokio::spawn(writer.run(CancellationToken::new(), || {}));
        handle
    }

    fn request(document: u8, case: &str) -> NewRegistration {
        NewRegistration {
            pair: Pair {
                document_hash: crate::registration::DocumentHash::new([document; 32]).unwrap(),
                case_id: case.parse().unwrap(),
            },
            submitted_as: String::new(),
            user_id: None,
            caller: None,
            trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()).into(),
        }
    }

    /// Returns when another session waits for a lock.
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
    async fn a_pair_that_two_replicas_accept_at_once_is_one_registration() {
        let database = Database::new().await;
        // The server would not resolve a deadlock in time.
        database
            .run(
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 60000', \
            current_database()); END $$",
            )
            .await;
        let acceptors = [acceptor(&open(&database).await), acceptor(&open(&database).await)];
        for case in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let forth = (1..=200).map(|document| acceptors[0].accept(request(document, case)));
            let back = (1..=200).rev().map(|document| acceptors[1].accept(request(document, case)));
            let (forth, mut back) = tokio::try_join!(try_join_all(forth), try_join_all(back)).unwrap();
            back.reverse();
            for (first, second) in forth.iter().zip(&back) {
                assert_eq!(first.registration.id, second.registration.id);
                assert!(first.is_new != second.is_new, "exactly one replica accepted it as new");
            }
        }
    }

    #[tokio::test]
    async fn replicas_hold_the_limits_of_a_caller_together() {
        for quota in [
            CallerQuota { max_unfinished: Some(50), daily_limit: None },
            CallerQuota { max_unfinished: None, daily_limit: Some(50) },
        ] {
            let database = Database::new().await;
            let acceptors = [acceptor(&open(&database).await), acceptor(&open(&database).await)];
            let calls = (0..200_u8).map(|number| {
                let request = NewRegistration { caller: "greedy".parse().ok(), ..request(number / 2 + 1, "a") };
                let case_id = if number % 2 == 0 { "even" } else { "odd" }.parse().unwrap();
                let request = NewRegistration { pair: Pair { case_id, ..request.pair.clone() }, ..request };
                acceptors[usize::from(number % 2)].accept_within(request, quota)
            });
            let accepted = join_all(calls).await.into_iter().filter(Result::is_ok).count();
            assert_eq!(accepted, 50, "{quota:?}");
        }
    }

    #[tokio::test]
    async fn a_failed_pair_is_restarted_by_one_replica() {
        let database = Database::new().await;
        let (first, second) = (open(&database).await, open(&database).await);
        let acceptors = [acceptor(&first), acceptor(&second)];
        let id = acceptors[0].accept(request(1, "a")).await.unwrap().registration.id;
        database.run("UPDATE registrar.registrations SET state = 'failed'").await;
        let mut other_replica = database.connect().await;
        // One replica restarts it, after the other has read that it failed.
        other_replica.execute("BEGIN; SELECT 1 FROM registrar.registrations FOR UPDATE").await.unwrap();
        let again = tokio::spawn(async move { acceptors[1].accept(request(1, "a")).await });
        let mut watcher = database.connect().await;
        wait_for_lock_waiter(&mut watcher).await;
        let restart = "UPDATE registrar.registrations SET state = 'queued', revision = 7; COMMIT";
        other_replica.execute(restart).await.unwrap();
        let again = again.await.unwrap().unwrap();
        assert_eq!((again.registration.id, again.registration.revision, again.is_new), (id, 7, false));
    }

    #[tokio::test]
    async fn a_deadlock_is_retried_without_the_caller_noticing() {
        let database = Database::new().await;
        let store = open(&database).await;
        let mut other = database.connect().await;
        let insert = |document: &str| {
            let values = format!("'\\x{document}', '\\x{}', 'a', '', 'queued', 1, '\\x01', 1, 1", document.repeat(32));
            AssertSqlSafe(format!(
                "INSERT INTO registrar.registrations (id, document_hash, case_id, submitted_as, state, revision, \
                 trace_id, created_at, updated_at) VALUES ({values})"
            ))
        };
        other.execute("SET deadlock_timeout = '1min'; BEGIN").await.unwrap();
        other.execute(insert("02")).await.unwrap();
        let acceptor = acceptor(&store);
        let accepting =
            tokio::spawn(async move { try_join_all((1..=2).map(|d| acceptor.accept(request(d, "a")))).await });
        let mut watcher = database.connect().await;
        wait_for_lock_waiter(&mut watcher).await;
        // The store has inserted the first pair and this transaction the second; each waits for the other.
        other.execute(insert("01")).await.unwrap();
        other.execute("ROLLBACK").await.unwrap();
        let accepted = accepting.await.unwrap().unwrap();
        assert!(accepted.iter().all(|accepted| accepted.is_new));
        assert_eq!(store.unfinished_count(), 2);
    }

    #[tokio::test]
    async fn an_error_at_the_start_names_its_cause() {
        let database = Database::new().await;
        database.run("CREATE ROLE guest LOGIN PASSWORD 'guest'").await;
        let unreachable = "postgres://u:p@127.0.0.1:1/d".to_owned();
        assert!(matches!(open_error(unreachable).await, OpenError::Unreachable(_)));
        assert!(matches!(open_error(database.url_as("registrar", "wrong")).await, OpenError::Unauthenticated));
        assert!(matches!(open_error(database.url_as("nobody", "guest")).await, OpenError::Unauthenticated));
        assert!(matches!(open_error(database.url_as("guest", "guest")).await, OpenError::SchemaPermissionDenied));
        assert!(matches!(open_error(database.url().replace("/test_", "/absent_")).await, OpenError::NoDatabase));
        let missing_certificate = format!("{}&sslmode=verify-full&sslrootcert=/absent.crt", database.url());
        assert!(matches!(open_error(missing_certificate).await, OpenError::Certificate { .. }));
        database.run("CREATE SCHEMA registrar; CREATE TABLE registrar.thesis (text TEXT)").await;
        let foreign = open_error(database.url()).await;
        assert!(matches!(&foreign, OpenError::Foreign(table) if table == "thesis"), "{foreign}");
        let left = "SELECT 1 FROM pg_tables WHERE schemaname = 'registrar' AND tablename <> 'thesis'";
        assert!(database.connect().await.fetch_optional(left).await.unwrap().is_none(), "it was written to");
    }

    #[test]
    fn only_errors_that_waiting_may_resolve_are_transient() {
        let io = |kind| sqlx::Error::Io(io::Error::from(kind));
        for (error, is_transient) in [
            (io(io::ErrorKind::ConnectionRefused), true),
            // A socket or a host name that does not exist yet.
            (io(io::ErrorKind::NotFound), true),
            (io(io::ErrorKind::Other), true),
            (io(io::ErrorKind::UnexpectedEof), true),
            (sqlx::Error::PoolTimedOut, true),
            (io(io::ErrorKind::InvalidData), false),
            (sqlx::Error::Tls("server does not support TLS".into()), false),
            (sqlx::Error::Protocol("not a PostgreSQL server".to_owned()), false),
        ] {
            let mapped = map_open_error(error);
            assert_eq!(mapped.is_transient(), is_transient, "{mapped}");
        }
    }

    /// Answers each login with this error, as a pooler does.
    async fn login_error(code: &str, message: &str) -> OpenError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u:p@{}/d?sslmode=disable", listener.local_addr().unwrap());
        let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
        let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
        let answer = [b"E".as_slice(), &length, fields.as_bytes()].concat();
        let serve = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert_ne!(stream.read(&mut [0; 1_024]).await.unwrap(), 0);
                stream.write_all(&answer).await.unwrap();
            }
        });
        let error = open_error(url).await;
        serve.abort();
        error
    }

    #[tokio::test]
    async fn a_login_that_a_pooler_refuses_for_now_is_tried_again_and_its_words_are_shown() {
        for (source, code, message, is_transient) in [
            ("Neon", "XX000", "Couldn't connect to compute node", true),
            ("Supavisor", "XX000", "Tenant or user not found", true),
            ("Supavisor", "XX000", "MaxClientsInSessionMode: max clients reached", true),
            ("PgBouncer", "08P01", "no more connections allowed (max_client_conn)", true),
            ("RDS", "53300", "remaining connection slots are reserved for roles with the SUPERUSER attribute", true),
            ("any", "57P03", "the database system is starting up", true),
            ("any", "28P01", "password authentication failed", false),
        ] {
            let error = login_error(code, message).await;
            assert_eq!(error.is_transient(), is_transient, "{source}: {error}");
            assert!(!is_transient || error.to_string().contains(message), "{source}: {error}");
        }
    }

    #[tokio::test]
    async fn errors_of_an_overloaded_or_restarting_server_are_transient() {
        let database = Database::new().await;
        let mut connection = database.connect().await;
        for (code, is_transient) in
            [("53300", true), ("57P01", true), ("57P02", true), ("57P03", true), ("28000", false), ("42601", false)]
        {
            let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '{code}'; END $$");
            let mapped = map_open_error(connection.execute(AssertSqlSafe(raise)).await.unwrap_err());
            assert_eq!(mapped.is_transient(), is_transient, "{code}: {mapped}");
        }
    }

    #[tokio::test]
    async fn accepted_work_is_on_disk_whatever_the_servers_configuration() {
        let database = Database::new().await;
        database.run("ALTER ROLE registrar SET synchronous_commit = off").await;
        let store = open(&database).await;
        for pool in [&store.reader, &store.writer] {
            let row = query("SELECT current_setting('synchronous_commit')").fetch_one(pool).await.unwrap();
            assert_eq!(row.get::<String>(0).unwrap(), "on");
        }
    }

    #[tokio::test]
    async fn tables_outside_our_schema_are_ignored() {
        let fixture = TestDatabase::postgres().await;
        let TestDatabase::Postgres(database) = &fixture else { panic!("PostgreSQL") };
        database.run("CREATE TABLE registrations (text TEXT)").await;
        let store = open(database).await;
        assert!(store.queued(Timestamp::from(SystemTime::now()), 1).await.unwrap().is_empty());
    }
}
