//! The only room that names sqlx: what must survive is written here before anything is done or said.
//!
//! One set of statements serves SQLite now and PostgreSQL later (`$1`, `RETURNING`, `ON CONFLICT`, `BYTEA`). SQLite has one
//! writing connection, so that writers queue up instead of colliding, and several that read.

mod accept;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod conformance;
mod error;
mod lease;
mod open;
mod progress;
mod read;
mod recover;
mod rows;
mod settings;
mod settle;
mod sign;
mod sql;
mod write;

#[cfg(test)]
pub(crate) use audit::{Audit, Carried};
pub use accept::{AcceptError, Accepted, Acceptor, Intake};
pub use error::{OpenError, StoreError};
pub use lease::Lease;
pub use open::{OtherRegistry, Registry};
pub use progress::Inclusion;
pub use read::{Filter, QueuedRegistration};
pub use recover::{Attempt, Member, OpenTransaction, UnfinalizedBlock};
pub use settings::{InvalidDatabaseUrl, Settings};
pub use settle::Found;
pub use sign::NewTransaction;

use sqlx::AnyPool;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    writer: AnyPool,
    reader: AnyPool,
    /// Registrations that are neither confirmed nor failed.
    unfinished: Arc<AtomicU64>,
    queue_limit: u64,
    leases: Arc<lease::Leases>,
    _lock: Arc<open::FileLock>,
}

impl Store {
    /// How many registrations are neither confirmed nor failed.
    pub fn unfinished(&self) -> u64 {
        self.unfinished.load(Ordering::Relaxed)
    }

    fn finished(&self, count: u64) {
        // Wrapping below zero would close the queue for good; a reorg can bring settled work back.
        let _ =
            self.unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(count)));
    }

    /// Counts the unfinished again, after a write of which it is not known whether it went through.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn recount(&self) -> Result<(), StoreError> {
        self.unfinished.store(open::unfinished(&self.reader).await?, Ordering::Relaxed);
        Ok(())
    }

    fn begun(&self, count: u64) {
        self.unfinished.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether the database answers.
    pub async fn is_usable(&self) -> bool {
        sqlx::query("SELECT 1").fetch_one(&self.reader).await.is_ok()
    }

    /// Finishes what is being written, gives up the leases and closes the database.
    pub async fn close(&self) {
        self.leases.close().await;
        self.writer.close().await;
        self.reader.close().await;
    }
}
