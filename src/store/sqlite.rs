//! SQLite: a file, its lock, and how its connections are set.

use super::{OpenError, engine::Engine, open, timeout_pool::TimeoutPool};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row, any::AnyPoolOptions};
use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

/// Every commit is on disk when it returns (`FULL`), and readers never wait for the writer (`WAL`). Hashes come in no order, so that in a
/// large store each commit touches other pages of their index: a log of 32 MB rather than 4 lets a page that is touched again and again
/// be copied into the database once.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; \
                       PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 8000;";
pub(super) const SQLITE_READER_CONNECTIONS: u32 = 4;
/// A connection is waited for at most this long; then the store counts as unusable.
const SQLITE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A file answers, or fails: this only ends what a disk has swallowed.
pub(super) const SQLITE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// Holds the operating system's lock on the database; freed when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct FileLock(#[allow(dead_code, reason = "holding it is its use")] File);

/// Opens the file, makes it when absent, and brings its schema up to date.
pub(super) async fn open(path: &Path) -> Result<(Engine, TimeoutPool, TimeoutPool), OpenError> {
    let lock = lock_file(path)?;
    let url = format!("sqlite://{}?mode=rwc", path.display());
    if path.exists() {
        refuse_foreign(&format!("sqlite://{}?mode=ro", path.display())).await?;
    }
    // One writes, so that writers queue up instead of colliding.
    let writer = connect(&url, 1).await?;
    open::migrator().run(&writer).await?;
    let reader = connect(&url, SQLITE_READER_CONNECTIONS).await?;
    Ok((
        Engine::Sqlite { _lock: lock },
        TimeoutPool::new(writer, SQLITE_STATEMENT_TIMEOUT),
        TimeoutPool::new(reader, SQLITE_STATEMENT_TIMEOUT),
    ))
}

/// One process per file, by the operating system's lock on a file beside it: it ends with the process, however that dies.
fn lock_file(path: &Path) -> Result<FileLock, OpenError> {
    let not_writable = |error: std::io::Error| OpenError::NotWritable { path: path.to_owned(), kind: error.kind() };
    // Looked at first, so that a read-only database is named as such and no lock file is left beside it.
    if path.exists() {
        OpenOptions::new().write(true).open(path).map_err(not_writable)?;
        if path.metadata().map_err(not_writable)?.permissions().readonly() {
            return Err(not_writable(std::io::ErrorKind::PermissionDenied.into()));
        }
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(PathBuf::from(name)).map_err(not_writable)?;
    match file.try_lock() {
        Ok(()) => Ok(FileLock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(not_writable(error)),
    }
}

pub(super) async fn connect(url: &str, connections: u32) -> Result<sqlx::AnyPool, sqlx::Error> {
    connect_with(url, connections, String::new()).await
}

/// Connections that begin with these statements too.
pub(super) async fn connect_with(
    url: &str,
    connections: u32,
    statements: String,
) -> Result<sqlx::AnyPool, sqlx::Error> {
    let set = format!("{PRAGMAS} {statements}");
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(SQLITE_ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            let set = AssertSqlSafe(set.clone());
            Box::pin(async move { sqlx::raw_sql(set).execute(&mut *connection).await.map(drop) })
        })
        .connect(url)
        .await
}

/// Looks without writing anything, for a database that is somebody else's has to stay as it is.
async fn refuse_foreign(url: &str) -> Result<(), OpenError> {
    let mut connection = AnyConnection::connect(url).await?;
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    let names = tables.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    open::reject_foreign_tables(&names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{DocumentHash, NewRegistration, Pair},
        store::{AcceptHandle, Store, testing::TestDatabase},
        telemetry::propagation,
    };
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_second_store_on_the_same_file_is_refused() {
        let ground = TestDatabase::sqlite();
        let _first = Store::open(&ground.settings(), 100).await.unwrap();
        assert!(matches!(Store::open(&ground.settings(), 100).await, Err(OpenError::InUse(_))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_unfinished_is_counted_right_while_more_is_accepted() {
        let ground = TestDatabase::sqlite();
        let store = Store::open(&ground.settings(), 1_000).await.unwrap();
        let (acceptor, intake) = AcceptHandle::new(store.clone());
        tokio::spawn(intake.run(CancellationToken::new(), || {}));
        for number in 1..=200_u64 {
            let mut document = [0; 32];
            document[24..].copy_from_slice(&number.to_be_bytes());
            let asked = NewRegistration {
                pair: Pair { document_hash: DocumentHash::new(document).unwrap(), case_id: "a".parse().unwrap() },
                submitted_as: String::new(),
                user_id: None,
                trace: propagation::extract(&http::HeaderMap::new()),
            };
            let counting = async {
                for _ in 0..5 {
                    store.reload_unfinished().await.unwrap();
                }
            };
            let (accepted, ()) = tokio::join!(acceptor.accept(asked), counting);
            accepted.unwrap();
            assert_eq!(store.unfinished_count(), number);
        }
    }
}
