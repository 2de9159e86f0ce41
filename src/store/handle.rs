//! The handle on an open database, and its count of unfinished registrations.

use super::{
    Lease, StoreError,
    change_number::ChangeNumbers,
    engine::Engine,
    lease::Leases,
    probe::Probe,
    query::{Database, query},
    spent_cache::SpentCache,
    timeout_pool::TimeoutPool,
};
use crate::telemetry::spans;
use alloy::primitives::Address;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::Notify;

/// Registrations that are neither confirmed nor failed.
pub(super) const COUNT_UNFINISHED_SQL: &str =
    "SELECT COUNT(*) FROM registrations WHERE state IN ('queued', 'signed', 'submitted', 'included')";

#[derive(Clone, Debug)]
pub struct Store {
    pub(super) writer: TimeoutPool,
    pub(super) reader: TimeoutPool,
    pub(super) unfinished: Arc<AtomicU64>,
    pub(super) queue_limit: u64,
    pub(super) leases: Arc<Leases>,
    /// Held by the sender that spends from the daily budget, with what is known to be spent.
    pub(super) budget_lock: Arc<tokio::sync::Mutex<Option<SpentCache>>>,
    pub(super) engine: Arc<Engine>,
    pub(super) change_numbers: Arc<ChangeNumbers>,
    /// Notified after each commit that changed registrations.
    pub(super) changes_committed: Arc<Notify>,
    pub(super) probe: Arc<Probe>,
    pub(super) display_name: Arc<str>,
}

impl Store {
    /// Whether other processes may accept and sign in the same database.
    pub fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    /// Engine and location of the database, without user and password.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// Number of registrations that are neither confirmed nor failed, on all replicas as of the last reload.
    pub fn unfinished_count(&self) -> u64 {
        self.unfinished.load(Ordering::Relaxed)
    }

    pub(super) fn add_unfinished(&self, count: u64) {
        self.unfinished.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn sub_unfinished(&self, count: u64) {
        // Wrapping below zero would close the queue for good; a reorg can bring settled work back.
        let _ =
            self.unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(count)));
    }

    /// Counts again: after a write whose outcome is unknown, and because other replicas write too. Uses the writer
    /// connection, so that on SQLite nothing is written during the count, nor between a commit and the update of the
    /// counter.
    pub async fn reload_unfinished(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.acquire().await?;
        self.unfinished.store(count_unfinished(&mut writer).await?, Ordering::Relaxed);
        Ok(())
    }

    /// `None` while another replica holds the signer's lease.
    pub async fn acquire_lease(&self, signer: Address) -> Result<Option<Lease>, StoreError> {
        spans::db("acquire_lease", self.leases.acquire(&self.writer, signer)).await
    }

    /// Whether the lease is still this process's; if not, it is no longer held here. On an error that is not known.
    pub async fn renew_lease(&self, lease: Lease) -> Result<bool, StoreError> {
        spans::db("renew_lease", self.leases.renew(&self.writer, lease)).await
    }

    /// Whether this process holds the signer's lease, as far as it knows.
    pub fn holds_lease(&self, signer: Address) -> bool {
        self.leases.holds(signer)
    }

    /// Whether no other process can hold the signer's lease: the latest renewal succeeded, and not long ago. A replica
    /// that is cut off returns `false` before another one takes over.
    pub fn is_lease_current(&self, signer: Address) -> bool {
        self.leases.is_current(signer)
    }

    /// Finishes pending writes, gives up the leases and closes the database.
    pub async fn close(&self) {
        self.leases.close().await;
        self.writer.close().await;
        self.reader.close().await;
    }
}

pub(super) async fn count_unfinished<'c>(on: impl Database<'c>) -> Result<u64, StoreError> {
    let row = query(COUNT_UNFINISHED_SQL).fetch_one(on).await?;
    Ok(row.get::<i64>(0)?.cast_unsigned())
}
