//! SQLite: how a file is opened, and the settings of its connections.

use super::{
    OpenError,
    change_number::{ChangeNumbers, begin_history, newest_change},
    database_file::{DatabaseFile, FileStamp},
    file_problem::FileProblemKind,
    migrations::{check_owner, migrator, version},
    sql_errors::{Fault, fault},
    sqlite_pool::{SqliteOptions, SqlitePool},
    timeout_pool::{Source, TimeoutPool},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sqlx::{AnyConnection, Connection, Row};
use std::{path::Path, sync::Arc, time::Duration};

/// Every commit is on disk when it returns (`FULL`), and readers never wait for the writer (`WAL`). Hashes are random,
/// so that in a large database each commit touches other pages of their index: with a log of 32 MB instead of 4, a page
/// that several commits touch is copied into the database once. A log that grew larger, because another program had a
/// read transaction open, is cut to 64 MiB when it is used from its beginning again.
const PRAGMAS: &str = "PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                       PRAGMA busy_timeout = 5000; \
                       PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000; PRAGMA wal_autocheckpoint = 8000; \
                       PRAGMA journal_size_limit = 67108864;";
pub(super) const SQLITE_READER_CONNECTIONS: u32 = 4;
/// After this the store counts as unusable.
const SQLITE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Only for a disk that stops answering: otherwise a file access succeeds or fails by itself.
pub(super) const SQLITE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// A larger file is not read as a whole when something else has written to it: this takes about 50 ms.
const MAX_QUICK_CHECK_BYTES: u64 = 16 * 1024 * 1024;
const HEADER_ATTEMPTS: u32 = 5;
const HEADER_RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// sqlx decodes the path of its URL; a directory separator has to stay one for the URL's parser.
const PATH_ENCODE_SET: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Opens the file, creates it when absent, and migrates its schema. Returns the file, the writer, the readers and the
/// numbers of changes.
pub(super) async fn open(
    path: &Path,
) -> Result<(Arc<DatabaseFile>, TimeoutPool, TimeoutPool, ChangeNumbers), OpenError> {
    let file = Arc::new(DatabaseFile::lock(path)?);
    refuse_foreign(&url(file.path(), "ro")).await?;
    let mut connection = connect(&url(file.path(), "rw")).await?;
    migrator().run(&mut connection).await?;
    begin_history(&mut connection).await?;
    let numbers = ChangeNumbers::Counter(newest_change(&mut connection).await?.into());
    connection.close().await?;
    // A single writer, so that writers queue instead of colliding.
    let [writer, reader] = [1, SQLITE_READER_CONNECTIONS].map(|connections| {
        let pool = pool(file.path(), connections, String::new());
        TimeoutPool::new(Source::File(pool, Arc::clone(&file)), SQLITE_STATEMENT_TIMEOUT)
    });
    // The writer opens its connection, and with it the log.
    drop(writer.acquire().await?);
    file.log_opened().map_err(sqlx::Error::from)?;
    Ok((file, writer, reader, numbers))
}

/// For sqlx, with this `mode`: `ro`, `rw`, or `rwc` to create the file. The path is absolute and without symbolic
/// links, so that it is the same file for us, sqlx and SQLite, whatever its name is made of.
pub(super) fn url(path: &Path, mode: &str) -> String {
    format!("sqlite://{}?mode={mode}", percent_encode(path.as_os_str().as_encoded_bytes(), &PATH_ENCODE_SET))
}

/// With the settings of all connections.
pub(super) async fn connect(url: &str) -> Result<AnyConnection, sqlx::Error> {
    let mut connection = AnyConnection::connect(url).await?;
    sqlx::raw_sql(PRAGMAS).execute(&mut connection).await?;
    Ok(connection)
}

/// Runs `statements` on each new connection too.
pub(super) fn pool(path: &Path, connections: u32, statements: String) -> SqlitePool {
    let set = format!("{PRAGMAS} {statements}");
    SqlitePool::new(SqliteOptions { path: path.to_owned(), set, connections, acquire_timeout: SQLITE_ACQUIRE_TIMEOUT })
}

/// Compares the content of a file that something else has written to with what was written last, through a new
/// connection. A program that takes a backup may do a checkpoint, which changes no content.
pub(super) async fn verify(file: &DatabaseFile, stamp: FileStamp) -> Result<(), sqlx::Error> {
    for attempt in 1.. {
        match file.check_header() {
            Ok(()) => break,
            // During another program's checkpoint the header is ahead of the length.
            Err(FileProblemKind::Truncated) if attempt < HEADER_ATTEMPTS => {
                tokio::time::sleep(HEADER_RETRY_INTERVAL).await;
            }
            Err(kind) => return Err(file.latch(kind).into()),
        }
    }
    match is_intact(file, stamp).await {
        Ok(true) => {
            file.verified(stamp);
            Ok(())
        }
        Ok(false) => Err(file.latch(FileProblemKind::OtherContent).into()),
        Err(error) if fault(&error) == Some(Fault::Damage) => Err(file.latch(FileProblemKind::OtherContent).into()),
        Err(error) => Err(error),
    }
}

async fn is_intact(file: &DatabaseFile, stamp: FileStamp) -> Result<bool, sqlx::Error> {
    let mut connection = AnyConnection::connect(&url(file.path(), "rw")).await?;
    let probe = sqlx::query("SELECT MAX(probed_at) FROM write_probes").fetch_one(&mut connection).await?;
    let probe: Option<i64> = probe.try_get(0)?;
    let has_probe = file.latest_probe().is_none_or(|latest| probe >= Some(latest.micros()));
    let is_sound = !has_probe || stamp.length() > MAX_QUICK_CHECK_BYTES || {
        let check = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut connection).await?;
        check.try_get::<String, _>(0)? == "ok"
    };
    connection.close().await?;
    Ok(has_probe && is_sound)
}

/// Read-only: a foreign database must not be changed.
async fn refuse_foreign(url: &str) -> Result<(), OpenError> {
    let mut connection = AnyConnection::connect(url).await?;
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .fetch_all(&mut connection)
        .await?;
    let names = tables.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    let version = version(&mut connection, &names).await?;
    connection.close().await?;
    check_owner(version, &names)
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
                caller: None,
                trace: propagation::extract(&http::HeaderMap::new()).into(),
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
