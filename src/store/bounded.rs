//! Connections on which every statement is answered in time, or fails.
//!
//! A database server may fall silent without closing its connections: a cable, a frozen machine, a firewall that forgets. sqlx
//! would wait for it as long as the operating system does, which is a quarter of an hour. Whoever waits here is told after a
//! stated time; the connection, of which it is not known what it still does, is closed and never used again.

use super::{postgres::silent, presence::noticed};
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use sqlx::{
    Any, AnyPool, Either, Error, Execute, Executor, SqlStr,
    any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo},
    pool::PoolConnection,
};
use std::time::Duration;
use tokio::time::timeout;

/// Some connections.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    connections: AnyPool,
    limit: Duration,
}

/// One of a [`Pool`]'s connections; goes back when it drops.
#[derive(Debug)]
pub(super) struct Connection {
    connection: PoolConnection<Any>,
    limit: Duration,
}

impl Pool {
    /// A pool on which no statement takes longer than `limit`.
    pub(super) fn new(connections: AnyPool, limit: Duration) -> Self {
        Self { connections, limit }
    }

    /// One connection, or an error once the pool's own patience is at its end.
    pub(super) async fn acquire(&self) -> Result<Connection, Error> {
        Ok(Connection { connection: noticed(self.connections.acquire().await)?, limit: self.limit })
    }

    /// The connections themselves.
    #[cfg(test)]
    pub(super) fn connections(&self) -> &AnyPool {
        &self.connections
    }

    /// Lets go of every connection.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

impl Connection {
    /// It is closed when it drops, and whatever it had begun is undone.
    pub(super) fn close_on_drop(&mut self) {
        self.connection.close_on_drop();
    }

    async fn in_time<T>(
        limit: Duration,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Error> {
        timeout(limit, answer).await.map_err(|_| silent())
    }

    /// Awaits the answer; one that does not come in time costs the connection.
    fn answered<T>(&mut self, answer: Result<Result<T, Error>, Error>) -> Result<T, Error> {
        if answer.is_err() {
            self.close_on_drop();
        }
        noticed(answer.flatten())
    }
}

type Answers<'e> = BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, Error>>;

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Answers<'e>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let answers = async move {
            let all = self.connection.fetch_many(query).try_collect::<Vec<_>>();
            let answer = Connection::in_time(self.limit, all).await;
            Ok(stream::iter(self.answered(answer)?.into_iter().map(Ok)))
        };
        answers.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        async move {
            let answer = Connection::in_time(self.limit, self.connection.fetch_optional(query)).await;
            self.answered(answer)
        }
        .boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, Result<AnyStatement, Error>>
    where
        'c: 'e,
    {
        async move {
            let answer = Connection::in_time(self.limit, self.connection.prepare_with(sql, parameters)).await;
            self.answered(answer)
        }
        .boxed()
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Answers<'e>
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
    use crate::store::{postgres, testing::server::Database, write::Write};
    use sqlx::Row;
    use std::time::Duration;
    use tokio::time::Instant;

    /// What a quick statement does not take on a busy machine either.
    const LIMIT: Duration = Duration::from_secs(2);

    async fn pool(database: &Database) -> Pool {
        sqlx::any::install_default_drivers();
        Pool::new(postgres::connect(&database.url(), 1).await.unwrap(), LIMIT)
    }

    async fn backend(pool: &Pool) -> i32 {
        sqlx::query("SELECT pg_backend_pid()").fetch_one(pool).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn whoever_waits_too_long_is_told_and_the_connection_is_never_used_again() {
        let database = Database::new().await;
        let pool = pool(&database).await;
        let first = backend(&pool).await;
        assert_eq!(backend(&pool).await, first);
        let begun = Instant::now();
        assert!(matches!(sqlx::query("SELECT pg_sleep(60)").fetch_all(&pool).await, Err(Error::Io(_))));
        assert!(matches!(sqlx::query("SELECT pg_sleep(60)").fetch_optional(&pool).await, Err(Error::Io(_))));
        assert_ne!(backend(&pool).await, first);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_write_that_is_not_answered_in_time_is_undone() {
        let database = Database::new().await;
        database.run("CREATE TABLE public.t (n INTEGER)").await;
        let pool = pool(&database).await;
        let mut write = Write::begin(&pool).await.unwrap();
        sqlx::query("INSERT INTO public.t VALUES (1)").execute(&mut *write).await.unwrap();
        assert!(sqlx::query("SELECT pg_sleep(60)").execute(&mut *write).await.is_err());
        drop(write);
        let count = sqlx::query("SELECT COUNT(*) FROM public.t").fetch_one(&pool).await.unwrap();
        assert_eq!(count.get::<i64, _>(0), 0);
    }
}
