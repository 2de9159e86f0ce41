//! A database transaction that is committed or undone, or leaves nothing of itself behind.
//!
//! sqlx counts how deep its transactions are nested, and loses count when SQLite rolls one back by itself, as it does on a full
//! disk (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>): from then on its commits
//! release savepoints of a transaction that is never committed, and report success. So a connection on which anything went
//! wrong is closed here and never used again.

use super::{
    StoreError,
    bounded::{Connection, Pool},
};
use std::ops::{Deref, DerefMut};

/// A transaction. Dropped without [`Write::commit`] or [`Write::undo`], it closes its connection, which undoes it.
#[derive(Debug)]
pub(super) struct Write {
    connection: Connection,
    over: bool,
}

impl Write {
    /// Begins one.
    pub(super) async fn begin(pool: &Pool) -> Result<Self, StoreError> {
        let mut write = Self { connection: pool.acquire().await?, over: false };
        sqlx::raw_sql("BEGIN").execute(&mut *write).await?;
        Ok(write)
    }

    /// When this returns `Ok`, all of it is on disk.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.commit_and(|| ()).await
    }

    /// As [`Self::commit`]; and when it is on disk this is done, before anybody else has the connection. On SQLite, where one
    /// connection writes, nobody else writes or counts in between.
    pub(super) async fn commit_and(mut self, then: impl FnOnce()) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut *self).await?;
        self.over = true;
        then();
        Ok(())
    }

    /// Leaves nothing of it behind, for a reason of our own: nothing went wrong on the connection, and it is used again.
    pub(super) async fn undo(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("ROLLBACK").execute(&mut *self).await?;
        self.over = true;
        Ok(())
    }
}

impl Deref for Write {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.over {
            self.connection.close_on_drop();
        }
    }
}
