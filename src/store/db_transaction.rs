//! A database transaction that is committed or undone, or leaves nothing of itself behind.
//!
//! sqlx counts how deep its transactions are nested, and loses count when SQLite rolls one back by itself, as it does on a full
//! disk (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>): from then on its commits
//! release savepoints of a transaction that is never committed, and report success. So a connection on which anything went
//! wrong is closed here and never used again.

use super::{
    StoreError,
    timeout_pool::{TimeoutConnection, TimeoutPool},
};
use std::ops::{Deref, DerefMut};

/// A transaction. Dropped without [`Write::commit`] or [`Write::undo`], it closes its connection, which undoes it.
#[derive(Debug)]
pub(super) struct DbTransaction {
    connection: TimeoutConnection,
    is_finished: bool,
}

impl DbTransaction {
    /// Begins one.
    pub(super) async fn begin(pool: &TimeoutPool) -> Result<Self, StoreError> {
        let mut write = Self { connection: pool.acquire().await?, is_finished: false };
        sqlx::raw_sql("BEGIN").execute(&mut *write).await?;
        Ok(write)
    }

    /// When this returns `Ok`, all of it is on disk.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.commit_then(|| ()).await
    }

    /// As [`Self::commit`]; and when it is on disk this is done, before anybody else has the connection. On SQLite, where one
    /// connection writes, nobody else writes or counts in between.
    pub(super) async fn commit_then(mut self, then: impl FnOnce()) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut *self).await?;
        self.is_finished = true;
        then();
        Ok(())
    }

    /// Leaves nothing of it behind, for a reason of our own: nothing went wrong on the connection, and it is used again.
    pub(super) async fn rollback(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self).await?;
        self.is_finished = true;
        Ok(())
    }
}

impl Deref for DbTransaction {
    type Target = TimeoutConnection;

    fn deref(&self) -> &TimeoutConnection {
        &self.connection
    }
}

impl DerefMut for DbTransaction {
    fn deref_mut(&mut self) -> &mut TimeoutConnection {
        &mut self.connection
    }
}

impl Drop for DbTransaction {
    fn drop(&mut self) {
        if !self.is_finished {
            self.connection.close_on_drop();
        }
    }
}
