//! The only room that names sqlx: what must survive is written here before anything is done or said.
//!
//! One set of statements serves SQLite and PostgreSQL (`$1`, `RETURNING`, `ON CONFLICT`, `BYTEA`). SQLite is a file that one process
//! has for itself; it has one writing connection, so that writers queue up instead of colliding, and several that read. PostgreSQL
//! may be shared by several replicas, and keeps their writes apart itself.

mod accept;
#[cfg(test)]
mod audit;
mod availability;
mod claim;
mod daily_budget;
mod db_transaction;
mod engine;
mod error;
mod held;
mod import;
mod lease;
mod list;
mod new_transaction;
mod notifications;
mod observations;
mod open;
mod open_transactions;
mod postgres;
mod prune;
#[cfg(test)]
mod query_plan_tests;
mod read;
mod registration_state;
mod replace;
mod rows;
mod schema;
mod settings;
#[cfg(test)]
mod shared_sqlite_for_tests;
mod spent_cache;
mod sql;
mod sqlite;
mod timeout_pool;
mod transaction_state;

/// One suite, compiled for each engine.
#[cfg(test)]
#[path = "conformance/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the same suite has to pass on both")]
mod on_postgres;
#[cfg(test)]
#[path = "conformance/mod.rs"]
#[allow(clippy::duplicate_mod, reason = "the same suite has to pass on both")]
mod on_sqlite;
#[cfg(test)]
mod testing;

pub use accept::{AcceptError, AcceptHandle, AcceptWriter, Accepted};
#[cfg(test)]
pub(crate) use audit::{Audit, TransactionMembership};
pub use error::{OpenError, StoreError};
pub use import::{ImportOutcome, ImportedTransaction};
pub use lease::Lease;
pub use list::Filter;
pub use new_transaction::NewTransaction;
pub use notifications::{Changes, NotificationListener};
pub use observations::StoredObservations;
pub use open::{Registry, RegistryMismatch};
pub use open_transactions::{Attempt, BatchMember, OpenTransaction, UnfinalizedBlock};
pub use read::QueuedRegistration;
pub use registration_state::FoundOnChain;
pub use replace::Replacement;
pub use settings::{InvalidDatabaseUrl, Settings};
pub use transaction_state::{AcceptedBy, Inclusion};

use engine::Engine;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use timeout_pool::TimeoutPool;

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    writer: TimeoutPool,
    reader: TimeoutPool,
    /// Registrations that are neither confirmed nor failed.
    unfinished: Arc<AtomicU64>,
    queue_limit: u64,
    leases: Arc<lease::Leases>,
    /// Held by the lane whose turn it is to spend of a budget, with what is known to be spent.
    budget_lock: Arc<tokio::sync::Mutex<Option<spent_cache::SpentCache>>>,
    engine: Arc<Engine>,
    display_name: Arc<str>,
}

impl Store {
    /// Whether other processes may accept and sign in the same database.
    pub fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    /// How many registrations are neither confirmed nor failed.
    pub fn unfinished_count(&self) -> u64 {
        self.unfinished.load(Ordering::Relaxed)
    }

    fn sub_unfinished(&self, count: u64) {
        // Wrapping below zero would close the queue for good; a reorg can bring settled work back.
        let _ =
            self.unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(count)));
    }

    /// Counts the unfinished again, after a write of which it is not known whether it went through, or for what other replicas wrote.
    /// On the connection that writes: on SQLite nothing is written while it counts, nor between a commit and its being counted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn reload_unfinished(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.acquire().await?;
        self.unfinished.store(open::count_unfinished(&mut writer).await?, Ordering::Relaxed);
        Ok(())
    }

    fn add_unfinished(&self, count: u64) {
        self.unfinished.fetch_add(count, Ordering::Relaxed);
    }

    /// Finishes what is being written, gives up the leases and closes the database.
    pub async fn close(&self) {
        self.leases.close().await;
        self.writer.close().await;
        self.reader.close().await;
    }
}
