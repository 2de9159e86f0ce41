//! The only room that names sqlx: what must survive is written here before anything is done or said.
//!
//! One set of statements serves SQLite and PostgreSQL (`$1`, `RETURNING`, `ON CONFLICT`, `BYTEA`). SQLite is a file that one process
//! has for itself; it has one writing connection, so that writers queue up instead of colliding, and several that read. PostgreSQL
//! may be shared by several replicas, and keeps their writes apart itself.

mod accept;
#[cfg(test)]
mod audit;
mod bounded;
mod claim;
mod engine;
mod error;
mod held;
mod lease;
mod list;
mod news;
mod open;
#[cfg(test)]
mod plans;
mod postgres;
mod presence;
mod progress;
mod prune;
mod read;
mod recognise;
mod recover;
mod remember;
mod replace;
mod rows;
mod schema;
mod settings;
mod settle;
mod settled;
#[cfg(test)]
mod shared_file;
mod sign;
mod spending;
mod sql;
mod sqlite;
mod write;

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

pub use accept::{AcceptError, Accepted, Acceptor, Intake};
#[cfg(test)]
pub(crate) use audit::{Audit, Carried};
pub use error::{OpenError, StoreError};
pub use lease::Lease;
pub use list::Filter;
pub use news::{Ear, News};
pub use open::{OtherRegistry, Registry};
pub use progress::{Inclusion, Taken};
pub use read::QueuedRegistration;
pub use recognise::{Known, Recognised};
pub use recover::{Attempt, Member, OpenTransaction, UnfinalizedBlock};
pub use remember::Remembered;
pub use replace::Replacement;
pub use settings::{InvalidDatabaseUrl, Settings};
pub use settle::Found;
pub use sign::NewTransaction;

use bounded::Pool;
use engine::Engine;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    writer: Pool,
    reader: Pool,
    /// Registrations that are neither confirmed nor failed.
    unfinished: Arc<AtomicU64>,
    queue_limit: u64,
    leases: Arc<lease::Leases>,
    /// Held by the lane whose turn it is to spend of a budget, with what is known to be spent.
    spender: Arc<tokio::sync::Mutex<Option<settled::Settled>>>,
    engine: Arc<Engine>,
    place: Arc<str>,
}

impl Store {
    /// Whether other processes may accept and sign in the same database.
    pub fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    /// How many registrations are neither confirmed nor failed.
    pub fn unfinished(&self) -> u64 {
        self.unfinished.load(Ordering::Relaxed)
    }

    fn finished(&self, count: u64) {
        // Wrapping below zero would close the queue for good; a reorg can bring settled work back.
        let _ =
            self.unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(count)));
    }

    /// Counts the unfinished again, after a write of which it is not known whether it went through, or for what other replicas wrote.
    /// On the connection that writes: on SQLite nothing is written while it counts, nor between a commit and its being counted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn recount(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.acquire().await?;
        self.unfinished.store(open::unfinished(&mut writer).await?, Ordering::Relaxed);
        Ok(())
    }

    fn begun(&self, count: u64) {
        self.unfinished.fetch_add(count, Ordering::Relaxed);
    }

    /// Finishes what is being written, gives up the leases and closes the database.
    pub async fn close(&self) {
        self.leases.close().await;
        self.writer.close().await;
        self.reader.close().await;
    }
}
