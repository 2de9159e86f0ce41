//! WHO moves a registration along.
//!
//! A `lane` per signer takes queued work, prepares and sends it; one `follower` watches the chain for everybody; a
//! `journey` tells one registration's story; `waiters` tells those who wait, and `exchange` the other replicas; `gauges` looks at
//! what waits; `housekeeping` removes what is kept for a while. What is done is in the store first: every piece of memory here can
//! be lost and is read back by `recovery`.

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

use crate::{chain::Chain, clock::now, store::Store};
use blockers::SenderBlockers;
use diagnoser::Diagnoser;
use follower_inbox::FollowerInbox;
use head::HeadWatch;
use import_unknown::Importer;
use in_flight::PendingTxs;
use queue::Queue;
use resume::Tracker;
use std::sync::Arc;
use waiters::Waiters;

/// What the follower uses.
#[derive(Clone, Debug)]
struct Context {
    chain: Chain,
    store: Store,
    settings: Arc<Settings>,
    in_flight: Arc<PendingTxs>,
    waiters: Waiters,
    queue: Queue,
    head: HeadWatch,
    blockers: SenderBlockers,
    follower_inbox: FollowerInbox,
    tracker: Tracker,
    importer: Importer,
    diagnoser: Diagnoser,
}
