//! Connections on which every statement completes within a time limit or fails.
//!
//! A database server may stop answering without closing its connections: a cable, a frozen machine, a firewall that
//! drops its state. sqlx would wait as long as the operating system does, about 15 minutes. Here a statement fails
//! after a stated time, and its connection, whose state is unknown, is closed and never used again.

use super::{
    database_file::DatabaseFile,
    file_problem::FileProblemKind,
    query::{Answer, Database, Query, Row, Value},
    sessions::Sessions,
    sql::InsertSql,
    sql_errors::{Fault, fault, report_if_unusable, timeout_error},
    sqlite_pool::{SqliteConnection, SqlitePool},
};
use futures_util::{FutureExt, TryStreamExt, future::BoxFuture};
use sqlx::{
    Any, AnyPool, AssertSqlSafe, Either, Error, Executor, ValueRef,
    any::{AnyArguments, AnyRow, AnyTypeInfoKind},
    pool::PoolConnection,
};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::time::{error::Elapsed, timeout};

#[derive(Clone, Debug)]
pub(super) struct TimeoutPool {
    source: Source,
    limit: Duration,
}

/// The connections, and what keeps them from being used on a database that is not ours any more.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(SqlitePool, Arc<DatabaseFile>),
    Server(AnyPool, Arc<Sessions>),
    /// A file that several replicas of one test share.
    #[cfg(test)]
    SharedFile(SqlitePool),
}

#[derive(Debug)]
enum Connection {
    Sqlite(SqliteConnection),
    Server(PoolConnection<Any>),
}

/// Returns to its pool when dropped.
#[derive(Debug)]
pub(super) struct TimeoutConnection {
    connection: Connection,
    limit: Duration,
    source: Source,
}

impl Source {
    async fn acquire(&self) -> Result<Connection, Error> {
        match self {
            Self::File(pool, file) => {
                file.check_present()?;
                let acquired = pool.acquire().await;
                // It may have waited for the one that found the problem, and a new connection fails for it.
                file.check_present()?;
                acquired.map(Connection::Sqlite)
            }
            Self::Server(pool, sessions) => sessions.acquire(pool).await.map(Connection::Server),
            #[cfg(test)]
            Self::SharedFile(pool) => pool.acquire().await.map(Connection::Sqlite),
        }
    }

    /// Records a fault of the database, and returns the result unchanged.
    fn observe<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        match (self, answer.as_ref().err().and_then(fault)) {
            (Self::File(_, file), Some(Fault::Damage)) if file.check_present().is_ok() => {
                file.latch(file.check_header().err().unwrap_or(FileProblemKind::Corrupt));
            }
            (Self::Server(_, sessions), Some(Fault::ReadOnly)) => sessions.retire(),
            _ => {}
        }
        report_if_unusable(answer)
    }
}

impl TimeoutPool {
    pub(super) fn new(source: Source, limit: Duration) -> Self {
        Self { source, limit }
    }

    /// Fails when the pool's acquire timeout has passed.
    pub(super) async fn acquire(&self) -> Result<TimeoutConnection, Error> {
        Ok(self.with_timeout(self.source.observe(self.source.acquire().await)?))
    }

    fn with_timeout(&self, connection: Connection) -> TimeoutConnection {
        TimeoutConnection { connection, limit: self.limit, source: self.source.clone() }
    }

    /// A connection to a server with a new transaction, and the transaction's number; `None` for a file.
    pub(super) async fn begin_on_server(&self) -> Result<Option<(TimeoutConnection, i64)>, Error> {
        let Source::Server(pool, sessions) = &self.source else { return Ok(None) };
        let (connection, number) = self.source.observe(sessions.begin(pool).await)?;
        Ok(Some((self.with_timeout(Connection::Server(connection)), number)))
    }

    /// Closes the connections to a server that are not in use.
    pub(super) fn close_idle(&self) {
        let Source::Server(pool, _) = &self.source else { return };
        for _ in 0..pool.num_idle() {
            pool.try_acquire().iter_mut().for_each(PoolConnection::close_on_drop);
        }
    }

    /// Whether no connection is in use.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        match &self.source {
            Source::File(pool, _) | Source::SharedFile(pool) => pool.is_idle(),
            Source::Server(pool, _) => pool.is_closed() || pool.num_idle() == pool.size() as usize,
        }
    }

    pub(super) async fn close(&self) {
        match &self.source {
            Source::File(pool, _) => pool.close().await,
            Source::Server(pool, _) => pool.close().await,
            #[cfg(test)]
            Source::SharedFile(pool) => pool.close().await,
        }
    }
}

impl TimeoutConnection {
    /// Closes it when it is dropped, which rolls back its transaction.
    pub(super) fn close_on_drop(&mut self) {
        match &mut self.connection {
            Connection::Sqlite(connection) => connection.close_on_drop(),
            Connection::Server(connection) => connection.close_on_drop(),
        }
    }

    /// Begins a transaction in a file, with the next statement.
    pub(super) fn begin_in_file(&mut self) {
        if let Connection::Sqlite(connection) = &mut self.connection {
            connection.begin();
        }
    }

    /// Inserts rows, each with the values of `columns` columns: on SQLite one by one, on a server many by a statement.
    /// Returns how many of the next rows each statement had, and how many it inserted.
    pub(super) async fn insert(
        &mut self,
        insert: &InsertSql,
        rows: Vec<Vec<Value>>,
    ) -> Result<Vec<(usize, u64)>, Error> {
        if let Connection::Sqlite(connection) = &mut self.connection {
            let answer = timeout(self.limit, connection.run_each(insert.for_rows(1), rows)).await;
            let inserted = self.close_if_timed_out(answer)?;
            return Ok(inserted.into_iter().map(|count| (1, count)).collect());
        }
        let mut inserted = Vec::new();
        let mut rows = rows.into_iter();
        for chunk in insert.chunks(rows.len()) {
            let mut values: Vec<Value> = rows.by_ref().take(chunk.rows).flatten().collect();
            for _ in chunk.rows..chunk.padded_to {
                values.extend_from_within(values.len() - insert.columns..);
            }
            let query = Query { sql: insert.for_rows(chunk.padded_to).into(), values };
            inserted.push((chunk.rows, self.run_query(query).await?.affected));
        }
        Ok(inserted)
    }

    /// Runs statements without parameters. Returns the rows of a server's answer.
    pub(super) async fn script(&mut self, sql: impl Into<Cow<'static, str>>) -> Result<Vec<Row>, Error> {
        let sql = sql.into();
        let answer = match &mut self.connection {
            Connection::Sqlite(connection) => {
                timeout(self.limit, connection.script(sql)).await.map(|done| done.map(|()| Vec::new()))
            }
            Connection::Server(connection) => {
                let rows = sqlx::raw_sql(AssertSqlSafe(sql.into_owned())).fetch_all(&mut **connection);
                timeout(self.limit, rows).await.map(|rows| rows?.iter().map(read_row).collect())
            }
        };
        self.close_if_timed_out(answer)
    }

    async fn run_query(&mut self, query: Query) -> Result<Answer, Error> {
        let answer = match &mut self.connection {
            Connection::Sqlite(connection) => timeout(self.limit, connection.run(query)).await,
            Connection::Server(connection) => timeout(self.limit, run_on_server(connection, query)).await,
        };
        self.close_if_timed_out(answer)
    }

    /// Closes the connection on a timeout, and unwraps the answer.
    fn close_if_timed_out<T>(&mut self, answer: Result<Result<T, Error>, Elapsed>) -> Result<T, Error> {
        if answer.is_err() {
            self.close_on_drop();
        }
        self.source.observe(answer.unwrap_or_else(|_| Err(timeout_error())))
    }
}

async fn run_on_server(connection: &mut PoolConnection<Any>, query: Query) -> Result<Answer, Error> {
    let mut arguments = AnyArguments::default();
    for value in query.values {
        let added = match value {
            Value::Integer(number) => sqlx::Arguments::add(&mut arguments, number),
            Value::Text(text) => sqlx::Arguments::add(&mut arguments, text.map(Cow::into_owned)),
            Value::Bytes(bytes) => sqlx::Arguments::add(&mut arguments, bytes),
        };
        added.map_err(Error::Encode)?;
    }
    let statement = sqlx::query_with(AssertSqlSafe(query.sql.into_owned()), arguments);
    let mut answer = Answer::default();
    let mut parts = connection.fetch_many(statement);
    while let Some(part) = parts.try_next().await? {
        match part {
            Either::Left(done) => answer.affected += done.rows_affected(),
            Either::Right(row) => answer.rows.push(read_row(&row)?),
        }
    }
    drop(parts);
    Ok(answer)
}

fn read_row(row: &AnyRow) -> Result<Row, Error> {
    use sqlx::Row as _;
    let mut read = Row::with_capacity(row.len());
    for index in 0..row.len() {
        let value = row.try_get_raw(index)?;
        let kind = value.type_info().kind();
        if value.is_null() {
            read.push_null();
            continue;
        }
        match kind {
            AnyTypeInfoKind::Bool => read.push_integer(i64::from(row.try_get::<bool, _>(index)?)),
            AnyTypeInfoKind::SmallInt | AnyTypeInfoKind::Integer | AnyTypeInfoKind::BigInt => {
                read.push_integer(row.try_get(index)?);
            }
            AnyTypeInfoKind::Text => read.push_text(row.try_get::<&str, _>(index)?.as_bytes()),
            AnyTypeInfoKind::Blob => read.push_bytes(row.try_get(index)?),
            AnyTypeInfoKind::Real | AnyTypeInfoKind::Double => read.push_real(row.try_get(index)?),
            AnyTypeInfoKind::Null => read.push_null(),
        }
    }
    Ok(read)
}

impl<'c> Database<'c> for &'c mut TimeoutConnection {
    fn run<'e>(self, query: Query) -> BoxFuture<'e, Result<Answer, Error>>
    where
        'c: 'e,
    {
        self.run_query(query).boxed()
    }
}

impl<'p> Database<'p> for &'p TimeoutPool {
    fn run<'e>(self, query: Query) -> BoxFuture<'e, Result<Answer, Error>>
    where
        'p: 'e,
    {
        async move { self.acquire().await?.run_query(query).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        change_number::ChangeNumbers, db_transaction::DbTransaction, postgres, query::query, testing::server::Database,
    };
    use tokio::time::Instant;

    /// More than a quick statement takes on a busy machine.
    const TEST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

    async fn pool(database: &Database) -> TimeoutPool {
        sqlx::any::install_default_drivers();
        let sessions = Arc::new(Sessions::default());
        let connections = postgres::connect(&database.url(), 1, &sessions).await.unwrap();
        TimeoutPool::new(Source::Server(connections, sessions), TEST_STATEMENT_TIMEOUT)
    }

    async fn backend(pool: &TimeoutPool) -> i64 {
        query("SELECT pg_backend_pid()").fetch_one(pool).await.unwrap().get(0).unwrap()
    }

    #[tokio::test]
    async fn a_statement_that_times_out_fails_and_its_connection_is_never_used_again() {
        let database = Database::new().await;
        let pool = pool(&database).await;
        let first = backend(&pool).await;
        assert_eq!(backend(&pool).await, first);
        let started = Instant::now();
        assert!(matches!(query("SELECT pg_sleep(60)").fetch_all(&pool).await, Err(Error::Io(_))));
        assert!(matches!(query("SELECT pg_sleep(60)").fetch_optional(&pool).await, Err(Error::Io(_))));
        assert_ne!(backend(&pool).await, first);
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_write_that_times_out_is_rolled_back() {
        let database = Database::new().await;
        database.run("CREATE TABLE public.t (n INTEGER)").await;
        let pool = pool(&database).await;
        let mut tx = DbTransaction::begin(&pool, &ChangeNumbers::TransactionIds).await.unwrap();
        query("INSERT INTO public.t VALUES (1)").execute(&mut *tx).await.unwrap();
        assert!(query("SELECT pg_sleep(60)").execute(&mut *tx).await.is_err());
        drop(tx);
        let count = query("SELECT COUNT(*) FROM public.t").fetch_one(&pool).await.unwrap();
        assert_eq!(count.get::<i64>(0).unwrap(), 0);
    }
}
