//! A database transaction that is committed, rolled back, or leaves nothing behind.
//!
//! SQLite rolls a transaction back by itself when the disk is full
//! (<https://www.sqlite.org/lang_transaction.html#response_to_errors_within_a_transaction>), and what is written after
//! that is no part of it. So a connection on which anything went wrong is closed here and never used again.

use super::{
    StoreError,
    change_number::ChangeNumbers,
    query::{Query, query},
    timeout_pool::{TimeoutConnection, TimeoutPool},
};
use crate::registration::Timestamp;
use std::ops::{Deref, DerefMut};

/// Dropped before [`DbTransaction::commit_then`] or [`DbTransaction::rollback`] it closes its connection, which undoes
/// it.
#[derive(Debug)]
pub(super) struct DbTransaction {
    connection: TimeoutConnection,
    is_finished: bool,
    /// Of the registrations that it changes.
    pub(super) change_number: i64,
    pub(super) has_changes: bool,
    pub(super) unfinished: UnfinishedChange,
}

/// How a write changes the number of unfinished registrations; applied when it is committed.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct UnfinishedChange {
    pub(super) added: u64,
    pub(super) removed: u64,
}

impl DbTransaction {
    pub(super) async fn begin(pool: &TimeoutPool, numbers: &ChangeNumbers) -> Result<Self, StoreError> {
        Self::begin_after(pool, numbers, None).await
    }

    /// `lock` is a statement that takes a lock before anything else.
    pub(super) async fn begin_after(
        pool: &TimeoutPool,
        numbers: &ChangeNumbers,
        lock: Option<&'static str>,
    ) -> Result<Self, StoreError> {
        let new = |connection, change_number| {
            let unfinished = UnfinishedChange::default();
            Self { connection, is_finished: false, change_number, has_changes: false, unfinished }
        };
        if lock.is_none()
            && let Some((connection, number)) = pool.begin_on_server().await?
        {
            return Ok(new(connection, number));
        }
        let mut tx = new(pool.acquire().await?, 0);
        tx.change_number = numbers.begin(&mut tx.connection, lock).await?;
        Ok(tx)
    }

    /// A statement that changes registrations: every change of what the API shows goes through here, so that none is
    /// without a revision and a number. `set` has further columns, and binds from `$3` on, as `condition` does.
    pub(super) fn change_registrations(&mut self, set: &str, condition: &str, at: Timestamp) -> Query {
        self.has_changes = true;
        let comma = if set.is_empty() { "" } else { ", " };
        let sql = format!(
            "UPDATE registrations SET revision = revision + 1, change_number = $1, updated_at = $2{comma}{set} WHERE \
             {condition}"
        );
        query(sql).bind(self.change_number).bind(at)
    }

    /// When this returns `Ok`, the transaction is on disk. `then` runs before the connection is released: on SQLite,
    /// which has one writer connection, nothing is written or counted in between.
    pub(super) async fn commit_then(mut self, then: impl FnOnce(UnfinishedChange)) -> Result<(), StoreError> {
        self.script("COMMIT").await?;
        self.is_finished = true;
        then(self.unfinished);
        Ok(())
    }

    /// For a reason of our own: nothing went wrong on the connection, and it is used again.
    pub(super) async fn rollback(mut self) -> Result<(), StoreError> {
        self.script("ROLLBACK").await?;
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
