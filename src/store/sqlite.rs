//! SQLite: a file, its lock, and the settings of its connections.

use super::{
    OpenError,
    migrations::{migrator, reject_foreign_tables},
    timeout_pool::TimeoutPool,
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row, any::AnyPoolOptions};
use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

/// Every commit is on disk when it returns (`FULL`), and readers never wait for the writer (`WAL`). Hashes are random,
/// so that in a large database each commit touches other pages of their index: with a log of 32 MB instead of 4, a page
/// that several commits touch is copied into the database once.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; \
                       PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 8000;";
pub(super) const SQLITE_READER_CONNECTIONS: u32 = 4;
/// After this the store counts as unusable.
const SQLITE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Only for a disk that stops answering: otherwise a file access succeeds or fails by itself.
pub(super) const SQLITE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The operating system's lock on the database; freed when dropped, or when the process ends in any way.
#[derive(Debug)]
pub(super) struct FileLock(#[allow(dead_code, reason = "holding it is its use")] File);

/// Opens the file, creates it when absent, and migrates its schema. Returns its lock, the writer and the readers.
pub(super) async fn open(path: &Path) -> Result<(FileLock, TimeoutPool, TimeoutPool), OpenError> {
    let lock = lock_file(path)?;
    let url = format!("sqlite://{}?mode=rwc", path.display());
    if path.exists() {
        refuse_foreign(&format!("sqlite://{}?mode=ro", path.display())).await?;
    }
    // A single one, so that writers queue instead of colliding.
    let writer = connect(&url, 1).await?;
    migrator().run(&writer).await?;
    let reader = connect(&url, SQLITE_READER_CONNECTIONS).await?;
    Ok((lock, TimeoutPool::new(writer, SQLITE_STATEMENT_TIMEOUT), TimeoutPool::new(reader, SQLITE_STATEMENT_TIMEOUT)))
}

/// One process per file, by a lock on a file beside it.
fn lock_file(path: &Path) -> Result<FileLock, OpenError> {
    let not_writable = |error: std::io::Error| OpenError::NotWritable { path: path.to_owned(), kind: error.kind() };
    // Checked first, so that a read-only database is reported as such and no lock file is created beside it.
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

/// Runs `statements` on each new connection too.
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

/// Read-only: a foreign database must not be changed.
async fn refuse_foreign(url: &str) -> Result<(), OpenError> {
    let mut connection = AnyConnection::connect(url).await?;
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    let names = tables.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    reject_foreign_tables(&names)
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
    async fn a_second_store_on_the_same_file_is_rejected() {
        let database = TestDatabase::sqlite();
        let _first = Store::open(&database.settings(), 100).await.unwrap();
        assert!(matches!(Store::open(&database.settings(), 100).await, Err(OpenError::InUse(_))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn unfinished_registrations_are_counted_correctly_while_more_are_accepted() {
        let database = TestDatabase::sqlite();
        let store = Store::open(&database.settings(), 1_000).await.unwrap();
        let (handle, writer) = AcceptHandle::new(store.clone());
        tokio::spawn(writer.run(CancellationToken::new(), || {}));
        for number in 1..=200_u64 {
            let mut document = [0; 32];
            document[24..].copy_from_slice(&number.to_be_bytes());
            let request = NewRegistration {
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
            let (accepted, ()) = tokio::join!(handle.accept(request), counting);
            accepted.unwrap();
            assert_eq!(store.unfinished_count(), number);
        }
    }
}
