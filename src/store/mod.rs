//! Everything that must survive a restart is written here before it is acted on or reported. The only area that names
//! sqlx and rusqlite.
//!
//! One set of statements serves SQLite and PostgreSQL (`$1`, `RETURNING`, `ON CONFLICT`, `BYTEA`). An SQLite file
//! belongs to one process; it has one writer connection, so that writers queue instead of colliding, and several
//! readers. A PostgreSQL database may be shared by several replicas, and the server isolates their writes.

mod accept;
mod accept_batch;
#[cfg(test)]
mod audit;
mod availability;
mod bind;
mod caller_usage;
mod change_feed;
mod change_number;
mod changes;
mod claim;
mod daily_budget;
mod database_file;
mod db_transaction;
mod delays;
mod engine;
mod error;
mod file_problem;
mod handle;
mod import;
mod lease;
mod list;
mod migrations;
mod new_transaction;
mod notifications;
mod observations;
mod open;
mod open_transactions;
mod postgres;
mod probe;
mod prune;
mod query;
#[cfg(test)]
mod query_plan_tests;
mod read;
mod registration_state;
mod registry;
mod replace;
mod rows;
mod schema;
mod servers;
mod session_settings;
mod sessions;
mod settings;
#[cfg(test)]
mod shared_sqlite_for_tests;
mod spent_cache;
mod sql;
mod sql_errors;
mod sqlite;
mod sqlite_pool;
mod timeout_pool;
mod transact;
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

pub use accept::{AcceptError, AcceptHandle, Accepted};
#[cfg(test)]
pub(crate) use audit::{Audit, TransactionMembership};
pub use caller_usage::CallerLimit;
pub use change_feed::{Change, ChangeCursor, ChangePage, ChangePosition, CursorCheck, PageSize, WaitsFor};
pub use changes::Changes;
pub use delays::Delayed;
pub use error::{OpenError, StoreError};
pub use handle::Store;
pub use import::{ImportOutcome, ImportedTransaction};
pub use lease::Lease;
pub use list::{Filter, Order};
pub use new_transaction::NewTransaction;
pub use observations::StoredObservations;
pub use open_transactions::{Attempt, BatchMember, OpenTransaction, UnfinalizedBlock};
pub use registration_state::FoundOnChain;
pub use registry::{Registry, RegistryMismatch};
pub use replace::Replacement;
pub use rows::QueuedRegistration;
pub(crate) use servers::split_hosts;
pub use settings::Settings;
pub use transaction_state::{AcceptedBy, Inclusion};
