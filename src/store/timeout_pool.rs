//! Connections on which every statement completes within a time limit or fails.
//!
//! A database server may stop answering without closing its connections: a cable, a frozen machine, a firewall that
//! drops its state. sqlx would wait as long as the operating system does, about 15 minutes. Here a statement fails
//! after a stated time, and its connection, whose state is unknown, is closed and never used again.

use super::sql_errors::{report_if_unreachable, timeout_error};
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use sqlx::{
    Any, AnyPool, Either, Error, Execute, Executor, SqlStr,
    any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo},
    pool::PoolConnection,
};
use std::time::Duration;
use tokio::time::timeout;

#[derive(Clone, Debug)]
pub(super) struct TimeoutPool {
    connections: AnyPool,
    limit: Duration,
}

/// Returns to its pool when dropped.
#[derive(Debug)]
pub(super) struct TimeoutConnection {
    connection: PoolConnection<Any>,
    limit: Duration,
}

impl TimeoutPool {
    pub(super) fn new(connections: AnyPool, limit: Duration) -> Self {
        Self { connections, limit }
    }

    /// Fails when the pool's acquire timeout has passed.
    pub(super) async fn acquire(&self) -> Result<TimeoutConnection, Error> {
        Ok(TimeoutConnection {
            connection: report_if_unreachable(self.connections.acquire().await)?,
            limit: self.limit,
        })
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
        report_if_unreachable(answer.flatten())
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
    use crate::store::{db_transaction::DbTransaction, postgres, testing::server::Database};
    use sqlx::Row;
    use std::time::Duration;
    use tokio::time::Instant;

    /// More than a quick statement takes on a busy machine.
    const TEST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

    async fn pool(database: &Database) -> TimeoutPool {
        sqlx::any::install_default_drivers();
        TimeoutPool::new(postgres::connect(&database.url(), 1).await.unwrap(), TEST_STATEMENT_TIMEOUT)
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
        let mut tx = DbTransaction::begin(&pool).await.unwrap();
        sqlx::query("INSERT INTO public.t VALUES (1)").execute(&mut *tx).await.unwrap();
        assert!(sqlx::query("SELECT pg_sleep(60)").execute(&mut *tx).await.is_err());
        drop(tx);
        let count = sqlx::query("SELECT COUNT(*) FROM public.t").fetch_one(&pool).await.unwrap();
        assert_eq!(count.get::<i64, _>(0), 0);
    }
}
