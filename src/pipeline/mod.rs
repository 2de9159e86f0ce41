//! Takes accepted registrations from the queue to finality.
//!
//! A `sender` per signer claims queued registrations, signs and broadcasts transactions, and maintains the pending
//! ones; one `follower` reads new blocks for all of them; `timeouts` reports what is late, as the `diagnoser` explains
//! it from `evidence`; `lease_loop` decides which replica acts for which signer. `workers` wires the modules. The store
//! is written first: everything in memory can be lost, and `resume` reads it back.

mod blockers;
mod cost;
mod diagnoser;
mod error;
mod evidence;
mod follower;
mod follower_inbox;
mod head;
mod import_unknown;
mod in_flight;
mod lease_loop;
mod metrics_poller;
mod observations;
mod preflight;
mod pruner;
mod queue;
mod rebroadcast;
mod registrar;
mod registration_trace;
mod rejection;
mod replica_sync;
mod resume;
mod sender;
mod settings;
mod single_flight;
mod timeouts;
mod tx_phase;
mod tx_state;
mod waiters;
mod workers;

pub use registrar::{OnChainRegistration, Registrar, Verified};
pub use resume::{ResumeError, check_signer_keys};
pub use settings::Settings;
pub use waiters::{Subscription, TooManyWaiters};
pub use workers::{Pipeline, Worker};

pub use crate::{
    chain::{Header, Network},
    store::{AcceptError, Filter, StoreError},
};

use crate::clock::now;
