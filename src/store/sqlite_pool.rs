//! Connections to an SQLite file. Each has a thread, which keeps its statements prepared.

use super::query::{Answer, Query, Row, Value};
use futures_util::FutureExt;
use parking_lot::Mutex;
use rusqlite::{
    CachedStatement, Connection, OpenFlags, Statement,
    types::{ToSqlOutput, ValueRef},
};
use sqlx::{Error, error::ErrorKind};
use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt, io,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

/// More than there are statements.
const PREPARED_STATEMENTS: usize = 256;

/// What each new connection of a pool is, and how long callers wait for one.
#[derive(Clone, Debug)]
pub(super) struct SqliteOptions {
    pub(super) path: PathBuf,
    /// Statements that it begins with.
    pub(super) set: String,
    pub(super) connections: u32,
    pub(super) acquire_timeout: Duration,
}

/// A fixed number of connections, which are opened when they are needed.
#[derive(Clone, Debug)]
pub(super) struct SqlitePool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: SqliteOptions,
    idle: Mutex<State>,
    /// One for each connection that may be in use.
    permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    workers: Vec<Worker>,
    is_closed: bool,
}

/// The thread of a connection. It ends when this is dropped.
#[derive(Debug)]
struct Worker(mpsc::Sender<Job>);

enum Job {
    Run(Box<dyn FnOnce(&Connection) + Send>),
    /// Closes the connection, and then drops what is held.
    Close(Box<dyn Send>),
}

/// Returns to its pool when dropped.
#[derive(Debug)]
pub(super) struct SqliteConnection {
    /// `None` once it is dropped.
    worker: Option<Worker>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Shared>,
    closes: bool,
    /// Whether the next statement begins a transaction: that saves a wait for the thread.
    begins: bool,
}

impl SqlitePool {
    pub(super) fn new(options: SqliteOptions) -> Self {
        let permits = Arc::new(Semaphore::new(options.connections as usize));
        Self(Arc::new(Shared { options, idle: Mutex::default(), permits }))
    }

    /// Opens one if none is idle. [`Error::PoolTimedOut`] when the pool's acquire timeout has passed.
    pub(super) async fn acquire(&self) -> Result<SqliteConnection, Error> {
        timeout(self.0.options.acquire_timeout, self.acquire_or_wait()).await.unwrap_or(Err(Error::PoolTimedOut))
    }

    async fn acquire_or_wait(&self) -> Result<SqliteConnection, Error> {
        if self.0.idle.lock().is_closed {
            return Err(Error::PoolClosed);
        }
        let permits = Arc::clone(&self.0.permits);
        let permit = permits.acquire_owned().await.map_err(|_| Error::PoolClosed)?;
        let idle = {
            let mut idle = self.0.idle.lock();
            if idle.is_closed {
                return Err(Error::PoolClosed);
            }
            idle.workers.pop()
        };
        let worker = match idle {
            Some(worker) => worker,
            None => Worker::open(self.0.options.clone()).await?,
        };
        let pool = Arc::clone(&self.0);
        Ok(SqliteConnection { worker: Some(worker), permit: Some(permit), pool, closes: false, begins: false })
    }

    /// Waits for the connections that are in use, and closes all.
    pub(super) async fn close(&self) {
        self.0.idle.lock().is_closed = true;
        // The semaphore is never closed.
        let _all = Arc::clone(&self.0.permits).acquire_many_owned(self.0.options.connections).await;
        let workers = std::mem::take(&mut self.0.idle.lock().workers);
        for worker in workers {
            worker.close().await;
        }
    }

    /// Whether no connection is in use.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.0.permits.available_permits() == self.0.options.connections as usize || self.0.idle.lock().is_closed
    }
}

impl SqliteConnection {
    pub(super) fn close_on_drop(&mut self) {
        self.closes = true;
    }

    /// Begins a transaction, with the next statement.
    pub(super) fn begin(&mut self) {
        self.begins = true;
    }

    pub(super) async fn run(&mut self, query: Query) -> Result<Answer, Error> {
        self.call(move |connection| run(connection, &query)).await
    }

    /// Runs a statement once with each of the rows' values. Returns how many rows each affected.
    pub(super) async fn run_each(&mut self, sql: String, rows: Vec<Vec<Value>>) -> Result<Vec<u64>, Error> {
        self.call(move |connection| {
            let mut statement = prepare(connection, &sql)?;
            rows.iter().map(|row| execute(&mut statement, row)).collect()
        })
        .await
    }

    /// Runs statements without parameters, and returns nothing of what they return.
    pub(super) async fn script(&mut self, sql: Cow<'static, str>) -> Result<(), Error> {
        self.call(move |connection| connection.execute_batch(&sql)).await
    }

    async fn call<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let begins = std::mem::take(&mut self.begins);
        let Some(worker) = &self.worker else { return Err(stopped()) };
        let work = move |connection: &Connection| {
            if begins {
                connection.execute_batch("BEGIN")?;
            }
            work(connection)
        };
        let answer = worker.call(work).await;
        // The next caller gets a new thread.
        self.closes |= answer.is_none();
        answer.map_or_else(|| Err(stopped()), |answer| answer.map_err(database_error))
    }
}

impl Drop for SqliteConnection {
    fn drop(&mut self) {
        let (Some(worker), Some(permit)) = (self.worker.take(), self.permit.take()) else { return };
        if self.closes {
            // Not before: the next connection would find the file locked by this one.
            let _ = worker.0.send(Job::Close(Box::new(permit)));
        } else {
            self.pool.idle.lock().workers.push(worker);
        }
    }
}

impl Worker {
    async fn open(options: SqliteOptions) -> Result<Self, Error> {
        let (jobs, received) = mpsc::channel();
        let (opened, open) = oneshot::channel();
        let thread = std::thread::Builder::new().name("sqlite".to_owned());
        thread.spawn(move || match open_connection(&options) {
            Ok(connection) => {
                // Fails if the caller has gone, and then there are no jobs.
                let _ = opened.send(Ok(()));
                work(connection, &received);
            }
            Err(error) => drop(opened.send(Err(error))),
        })?;
        open.await.map_err(|_| stopped())?.map_err(database_error)?;
        Ok(Self(jobs))
    }

    /// `None` if the thread has ended.
    async fn call<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> T + Send + 'static) -> Option<T> {
        let (reply, replied) = oneshot::channel();
        self.0.send(Job::Run(Box::new(move |connection| drop(reply.send(work(connection)))))).ok()?;
        replied.await.ok()
    }

    async fn close(self) {
        let (closed, close) = oneshot::channel::<()>();
        if self.0.send(Job::Close(Box::new(closed))).is_ok() {
            // Ends when the sender is dropped.
            close.map(drop).await;
        }
    }
}

fn work(connection: Connection, jobs: &mpsc::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Run(work) => work(&connection),
            Job::Close(held) => {
                drop(connection);
                drop(held);
                return;
            }
        }
    }
}

fn open_connection(options: &SqliteOptions) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&options.path, flags)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    connection.execute_batch(&options.set)?;
    Ok(connection)
}

fn prepare<'c>(connection: &'c Connection, sql: &str) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(&numbered(sql))
}

fn run(connection: &Connection, query: &Query) -> rusqlite::Result<Answer> {
    let mut statement = prepare(connection, &query.sql)?;
    let columns = statement.column_count();
    if columns == 0 {
        let affected = execute(&mut statement, &query.values)?;
        return Ok(Answer { rows: Vec::new(), affected });
    }
    bind(&mut statement, &query.values)?;
    let mut rows = Vec::new();
    let mut found = statement.raw_query();
    while let Some(row) = found.next()? {
        rows.push(read_row(row, columns)?);
    }
    drop(found);
    Ok(Answer { rows, affected: connection.changes() })
}

fn execute(statement: &mut Statement<'_>, values: &[Value]) -> rusqlite::Result<u64> {
    bind(statement, values)?;
    Ok(statement.raw_execute()? as u64)
}

fn bind(statement: &mut Statement<'_>, values: &[Value]) -> rusqlite::Result<()> {
    let expected = statement.parameter_count();
    if expected != values.len() {
        return Err(rusqlite::Error::InvalidParameterCount(values.len(), expected));
    }
    for (index, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

fn read_row(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<Row> {
    let mut read = Row::with_capacity(columns);
    for index in 0..columns {
        match row.get_ref(index)? {
            ValueRef::Null => read.push_null(),
            ValueRef::Integer(number) => read.push_integer(number),
            ValueRef::Real(number) => read.push_real(number),
            ValueRef::Text(text) => read.push_text(text),
            ValueRef::Blob(bytes) => read.push_bytes(bytes),
        }
    }
    Ok(read)
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(Some(number)) => ValueRef::Integer(*number),
            Self::Text(Some(text)) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(Some(bytes)) => ValueRef::Blob(bytes),
            Self::Integer(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
        }))
    }
}

/// The statement with `?1` in place of `$1`: SQLite takes `$1` for a name, and numbers names in the order in which they
/// occur (<https://www.sqlite.org/lang_expr.html#parameters>).
fn numbered(sql: &str) -> Cow<'_, str> {
    if !sql.contains('$') {
        return Cow::Borrowed(sql);
    }
    let mut is_literal = false;
    let number = |character| {
        is_literal ^= character == '\'';
        if character == '$' && !is_literal { '?' } else { character }
    };
    Cow::Owned(sql.chars().map(number).collect())
}

/// An error of SQLite, as sqlx has those of its own drivers.
#[derive(Debug)]
struct SqliteError {
    /// Extended: <https://www.sqlite.org/rescode.html#extrc>.
    code: i32,
    message: String,
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.message)
    }
}

impl StdError for SqliteError {}

impl sqlx::error::DatabaseError for SqliteError {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

fn database_error(error: rusqlite::Error) -> Error {
    if let rusqlite::Error::SqliteFailure(failure, message) = error {
        let message = message.unwrap_or_else(|| failure.to_string());
        return Error::Database(Box::new(SqliteError { code: failure.extended_code, message }));
    }
    Error::Protocol(error.to_string())
}

/// The thread has panicked.
fn stopped() -> Error {
    Error::Io(io::Error::other("the thread of the SQLite connection ended"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query::query;
    use tempfile::TempDir;

    /// Of a new file, which is deleted with its folder.
    fn pool(connections: u32) -> (SqlitePool, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (n INTEGER, x BLOB)").unwrap();
        let set = "PRAGMA busy_timeout = 0".to_owned();
        let acquire_timeout = Duration::from_millis(200);
        (SqlitePool::new(SqliteOptions { path, set, connections, acquire_timeout }), folder)
    }

    async fn run(connection: &mut SqliteConnection, sql: &'static str, values: &[i64]) -> Result<Answer, Error> {
        connection.run(values.iter().fold(query(sql), |query, value| query.bind(*value))).await
    }

    #[tokio::test]
    async fn parameters_are_taken_by_their_number_and_left_alone_in_literals() {
        let (pool, _folder) = pool(1);
        let mut connection = pool.acquire().await.unwrap();
        let answer = run(&mut connection, "SELECT $2, '$1 ''$2', $1, $2", &[7, 8]).await.unwrap();
        let row = &answer.rows[0];
        let read = (row.get::<i64>(0).unwrap(), row.get::<&str>(1).unwrap(), row.get::<i64>(2).unwrap());
        assert_eq!(read, (8, "$1 '$2", 7));
        assert_eq!(row.get::<i64>(3).unwrap(), 8);
        for wrong in [&[1][..], &[1, 2, 3]] {
            assert!(matches!(run(&mut connection, "SELECT $2, $1", wrong).await, Err(Error::Protocol(_))));
        }
    }

    #[tokio::test]
    async fn affected_rows_are_counted_and_errors_have_their_extended_code() {
        let (pool, _folder) = pool(1);
        let mut connection = pool.acquire().await.unwrap();
        assert_eq!(run(&mut connection, "INSERT INTO t (n) VALUES ($1), ($2)", &[1, 2]).await.unwrap().affected, 2);
        let returned = run(&mut connection, "UPDATE t SET n = n + $1 RETURNING n", &[1]).await.unwrap();
        assert_eq!((returned.rows.len(), returned.affected), (2, 2));
        connection.script("CREATE UNIQUE INDEX u ON t (n)".into()).await.unwrap();
        let error = run(&mut connection, "INSERT INTO t (n) VALUES ($1)", &[2]).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("2067"));
    }

    #[tokio::test]
    async fn a_transaction_begins_with_its_first_statement_and_each_row_is_counted() {
        let (pool, _folder) = pool(1);
        let mut connection = pool.acquire().await.unwrap();
        connection.script("CREATE UNIQUE INDEX u ON t (n)".into()).await.unwrap();
        connection.begin();
        let insert = "INSERT INTO t (n) VALUES ($1) ON CONFLICT DO NOTHING".to_owned();
        let rows = [1_i64, 2, 1].map(|number| vec![number.into()]).to_vec();
        assert_eq!(connection.run_each(insert, rows).await.unwrap(), [1, 1, 0]);
        connection.script("ROLLBACK".into()).await.unwrap();
        let count = run(&mut connection, "SELECT COUNT(*) FROM t", &[]).await.unwrap();
        assert_eq!(count.rows[0].get::<i64>(0).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_thread_that_panicked_is_replaced() {
        let (pool, _folder) = pool(1);
        let mut connection = pool.acquire().await.unwrap();
        let failed = connection.call(|_| -> rusqlite::Result<()> { panic!("expected by this test") }).await;
        assert!(matches!(failed, Err(Error::Io(_))));
        drop(connection);
        let mut next = pool.acquire().await.unwrap();
        assert_eq!(run(&mut next, "SELECT COUNT(*) FROM t", &[]).await.unwrap().rows.len(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_undoes_its_transaction_before_the_next_one_is_opened() {
        let (pool, _folder) = pool(1);
        let mut first = pool.acquire().await.unwrap();
        first.script("BEGIN IMMEDIATE; INSERT INTO t (n) VALUES (1)".into()).await.unwrap();
        assert!(matches!(pool.acquire().await, Err(Error::PoolTimedOut)));
        first.close_on_drop();
        drop(first);
        let mut second = pool.acquire().await.unwrap();
        second.script("BEGIN IMMEDIATE".into()).await.unwrap();
        let count = run(&mut second, "SELECT COUNT(*) FROM t", &[]).await.unwrap();
        assert_eq!(count.rows[0].get::<i64>(0).unwrap(), 0);
    }

    #[tokio::test]
    async fn a_closed_pool_has_waited_for_its_connections_and_gives_no_others() {
        let (pool, folder) = pool(2);
        let mut used = pool.acquire().await.unwrap();
        used.script("PRAGMA journal_mode = WAL; INSERT INTO t (n) VALUES (1)".into()).await.unwrap();
        let closing = tokio::spawn({
            let pool = pool.clone();
            async move { pool.close().await }
        });
        tokio::task::yield_now().await;
        assert!(matches!(pool.acquire().await, Err(Error::PoolClosed)));
        assert!(!closing.is_finished());
        run(&mut used, "INSERT INTO t (n) VALUES ($1)", &[2]).await.unwrap();
        drop(used);
        closing.await.unwrap();
        assert!(!folder.path().join("r.db-wal").exists(), "the last connection was not closed");
    }
}
