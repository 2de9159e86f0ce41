//! Takes accepted registrations from the queue to finality.
//!
//! A `sender` per signer claims queued registrations, signs and broadcasts transactions, and maintains the pending
//! ones; one `follower` reads new blocks for all of them; `queue_timeouts` and `timeouts` report what is late before and
//! after it is sent, as the `diagnoser` explains it from `evidence`; `lease_loop` decides which replica acts for which signer. `workers` wires the modules. The store
//! is written first: everything in memory can be lost, and `resume` reads it back.

mod admission;
mod blockers;
mod caller_budget;
mod callers;
mod certifier;
mod change_feed;
mod cost;
mod diagnoser;
mod error;
mod evidence;
mod follower;
mod follower_inbox;
mod head;
mod heads;
mod import_unknown;
mod in_flight;
mod lease_loop;
mod metrics_poller;
mod observations;
mod overview;
mod pending_proofs;
mod places;
mod preflight;
mod pruner;
mod queue;
mod queue_timeouts;
mod rebroadcast;
mod registrar;
mod registration_trace;
mod rejection;
mod replica_sync;
mod resume;
mod sender;
mod service_status;
mod settings;
mod single_flight;
mod timeouts;
mod turns;
mod tx_phase;
mod tx_state;
mod verifier;
mod waiters;
mod workers;

pub use certifier::{CertificateError, IssuedCertificate};
pub use change_feed::{ChangeReader, ChangeStart, FeedError, FeedStep};
pub(crate) use overview::{Overview, PendingOverview, SignerOverview};
pub use places::{NoPlace, Place, Places};
pub use registrar::Registrar;
pub use resume::{ResumeError, check_signer_keys};
pub use service_status::QueueStatus;
pub use settings::Settings;
pub use verifier::{OnChainRegistration, VerificationError, Verified};
pub use waiters::{Subscription, TooManyWaiters};
pub use workers::{Pipeline, Worker};

pub use crate::{
    chain::{Header, Network},
    store::{
        AcceptError, Accepted, CallerLimit, Change, ChangeCursor, ChangePage, Filter, Order, PageSize, StoreError,
    },
};

use crate::clock::now;
