//! Connections on which every statement completes within a time limit or fails.
//!
//! A database server may stop answering without closing its connections: a cable, a frozen machine, a firewall that
//! drops its state. sqlx would wait as long as the operating system does, about 15 minutes. Here a statement fails
//! after a stated time, and its connection, whose state is unknown, is closed and never used again.

use super::{
    database_file::DatabaseFile,
    file_problem::FileProblemKind,
    sessions::Sessions,
    sql::with_positional_parameters,
    sql_errors::{Fault, fault, report_if_unusable, timeout_error},
};
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use sqlx::{
    Any, AnyPool, AssertSqlSafe, Either, Error, Execute, Executor, SqlSafeStr, SqlStr,
    any::{AnyArguments, AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo},
    pool::PoolConnection,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

#[derive(Clone, Debug)]
pub(super) struct TimeoutPool {
    connections: AnyPool,
    limit: Duration,
    guard: Guard,
}

/// Keeps connections from being used on a database that is not ours any more.
#[derive(Clone, Debug)]
pub(super) enum Guard {
    File(Arc<DatabaseFile>),
    Sessions(Arc<Sessions>),
    /// A file that several replicas of one test share.
    #[cfg(test)]
    SharedFile,
}

impl Guard {
    async fn acquire(&self, pool: &AnyPool) -> Result<PoolConnection<Any>, Error> {
        match self {
            Self::File(file) => {
                file.check_present()?;
                let acquired = pool.acquire().await;
                // It may have waited for the one that found the problem, and a new connection fails for it.
                file.check_present()?;
                acquired
            }
            Self::Sessions(sessions) => sessions.acquire(pool).await,
            #[cfg(test)]
            Self::SharedFile => pool.acquire().await,
        }
    }

    /// The statement as its engine reads it fastest.
    fn prepare<'q>(&self, mut query: impl Execute<'q, Any>) -> Result<Statement, Error> {
        let arguments = query.take_arguments().map_err(Error::Encode)?;
        let sql = query.sql();
        let positional = match self {
            Self::Sessions(_) => None,
            Self::File(_) => with_positional_parameters(sql.as_str()),
            #[cfg(test)]
            Self::SharedFile => with_positional_parameters(sql.as_str()),
        };
        Ok((positional.map_or(sql, |sql| AssertSqlSafe(sql).into_sql_str()), arguments))
    }

    /// Records a fault of the database, and returns the result unchanged.
    fn observe<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        match (self, answer.as_ref().err().and_then(fault)) {
            (Self::File(file), Some(Fault::Damage)) if file.check_present().is_ok() => {
                file.latch(file.check_header().err().unwrap_or(FileProblemKind::Corrupt));
            }
            (Self::Sessions(sessions), Some(Fault::ReadOnly)) => sessions.retire(),
            _ => {}
        }
        report_if_unusable(answer)
    }
}

type Statement = (SqlStr, Option<AnyArguments>);

/// Returns to its pool when dropped.
#[derive(Debug)]
pub(super) struct TimeoutConnection {
    connection: PoolConnection<Any>,
    limit: Duration,
    guard: Guard,
}

impl TimeoutPool {
    pub(super) fn new(connections: AnyPool, limit: Duration, guard: Guard) -> Self {
        Self { connections, limit, guard }
    }

    /// Fails when the pool's acquire timeout has passed.
    pub(super) async fn acquire(&self) -> Result<TimeoutConnection, Error> {
        let connection = self.guard.observe(self.guard.acquire(&self.connections).await)?;
        Ok(TimeoutConnection { connection, limit: self.limit, guard: self.guard.clone() })
    }

    /// Closes the connections that are not in use.
    pub(super) fn close_idle(&self) {
        for _ in 0..self.connections.num_idle() {
            self.connections.try_acquire().iter_mut().for_each(PoolConnection::close_on_drop);
        }
    }

    #[cfg(test)]
    pub(super) fn connections(&self) -> &AnyPool {
        &self.connections
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

impl TimeoutConnection {
    /// Closes it when it is dropped, which rolls back its transaction.
    pub(super) fn close_on_drop(&mut self) {
        self.connection.close_on_drop();
    }

    async fn with_timeout<T>(
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Error> {
        timeout(limit, answer).await.map_err(|_| timeout_error())
    }

    /// Closes the connection on a timeout (the outer error) and unwraps the answer.
    fn close_if_timed_out<T>(&mut self, answer: Result<Result<T, Error>, Error>) -> Result<T, Error> {
        if answer.is_err() {
            self.close_on_drop();
        }
        self.guard.observe(answer.flatten())
    }
}

type ResultStream<'e> = BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>;

impl<'c> Executor<'c> for &'c mut TimeoutConnection {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> ResultStream<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let answers = async move {
            let query = self.guard.prepare(query)?;
            let all = self.connection.fetch_many(query).try_collect::<Vec<_>>();
            let answer = TimeoutConnection::with_timeout(self.limit, all).await;
            Ok(stream::iter(self.close_if_timed_out(answer)?.into_iter().map(Ok)))
        };
        answers.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        async move {
            let query = self.guard.prepare(query)?;
            let answer = TimeoutConnection::with_timeout(self.limit, self.connection.fetch_optional(query)).await;
            self.close_if_timed_out(answer)
        }
        .boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'c: 'e,
    {
        async move {
            let answer =
                TimeoutConnection::with_timeout(self.limit, self.connection.prepare_with(sql, parameters)).await;
            self.close_if_timed_out(answer)
        }
        .boxed()
    }
}

impl<'p> Executor<'p> for &'_ TimeoutPool {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> ResultStream<'e>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let pool = self.clone();
        let answers = async move {
            let mut connection = pool.acquire().await?;
            let all: Vec<_> = connection.fetch_many(query).try_collect().await?;
            Ok(stream::iter(all.into_iter().map(Ok)))
        };
        answers.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        async move { pool.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::change_number::ChangeNumbers;
    use crate::store::{db_transaction::DbTransaction, postgres, testing::server::Database};
    use sqlx::Row;
    use std::time::Duration;
    use tokio::time::Instant;

    /// More than a quick statement takes on a busy machine.
    const TEST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

    async fn pool(database: &Database) -> TimeoutPool {
        sqlx::any::install_default_drivers();
        let sessions = Arc::new(Sessions::default());
        let connections = postgres::connect(&database.url(), 1, &sessions).await.unwrap();
        TimeoutPool::new(connections, TEST_STATEMENT_TIMEOUT, Guard::Sessions(sessions))
    }

    async fn backend(pool: &TimeoutPool) -> i32 {
        sqlx::query("SELECT pg_backend_pid()").fetch_one(pool).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn a_statement_that_times_out_fails_and_its_connection_is_never_used_again() {
        let database = Database::new().await;
        let pool = pool(&database).await;
        let first = backend(&pool).await;
        assert_eq!(backend(&pool).await, first);
        let started = Instant::now();
        assert!(matches!(sqlx::query("SELECT pg_sleep(60)").fetch_all(&pool).await, Err(Error::Io(_))));
        assert!(matches!(sqlx::query("SELECT pg_sleep(60)").fetch_optional(&pool).await, Err(Error::Io(_))));
        assert_ne!(backend(&pool).await, first);
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_write_that_times_out_is_rolled_back() {
        let database = Database::new().await;
        database.run("CREATE TABLE public.t (n INTEGER)").await;
        let pool = pool(&database).await;
        let mut tx = DbTransaction::begin(&pool, &ChangeNumbers::TransactionIds).await.unwrap();
        sqlx::query("INSERT INTO public.t VALUES (1)").execute(&mut *tx).await.unwrap();
        assert!(sqlx::query("SELECT pg_sleep(60)").execute(&mut *tx).await.is_err());
        drop(tx);
        let count = sqlx::query("SELECT COUNT(*) FROM public.t").fetch_one(&pool).await.unwrap();
        assert_eq!(count.get::<i64, _>(0), 0);
    }
}
