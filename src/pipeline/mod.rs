//! WHO moves a registration along.
//!
//! A `lane` per signer takes queued work, prepares and sends it; one `follower` watches the chain for everybody; a
//! `journey` tells one registration's story; `waiters` tells those who wait, and `exchange` the other replicas; `gauges` looks at
//! what waits; `housekeeping` removes what is kept for a while. What is done is in the store first: every piece of memory here can
//! be lost and is read back by `recovery`.

mod blockers;
mod cost;
mod diagnosis_cache;
mod error;
mod evidence;
mod follower;
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
mod tx_state;
mod waiters;
mod workers;

pub use registrar::{OnChainRegistration, Registrar, Verified};
pub use resume::{ResumeError, check_signer_keys};
pub use waiters::{Subscription, TooManyWaiters};
pub use workers::{Pipeline, Worker};

pub use crate::{
    chain::{Header, Network},
    store::{AcceptError, Filter, StoreError},
};

use crate::{
    chain::Chain,
    clock::now,
    store::{Store, UnfinalizedBlock},
};
use alloy::primitives::Address;
use blockers::SenderBlockers;
use diagnosis_cache::DiagnosisCache;
use in_flight::PendingTxs;
use parking_lot::Mutex;
use queue::Queue;
use registration_trace::ChainInfo;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use waiters::Waiters;

/// When a registration is confirmed, and how much work is taken.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Depth at which a registration is confirmed; the including block counts as 1.
    pub confirmations: u64,
    /// How long a transaction may take from being sent to being confirmed.
    pub confirmation_timeout: Duration,
    /// How many registrations may be unfinished.
    pub queue_limit: u64,
    /// How much may be spent in a day of UTC, in wei; `None` is no limit.
    pub daily_budget: Option<u128>,
    /// How long after its confirmation a transaction's signed bytes are kept, once it is final.
    pub keep_signed_bytes: Duration,
}

/// What lanes, follower and registrar share.
#[derive(Clone, Debug)]
pub struct Context {
    /// The chain.
    pub chain: Chain,
    /// The store.
    pub store: Store,
    /// When a registration is confirmed.
    pub settings: Arc<Settings>,
    in_flight: Arc<PendingTxs>,
    waiters: Waiters,
    queue: Queue,
    chain_info: Arc<ChainInfo>,
    head: Arc<watch::Sender<Option<Head>>>,
    /// What stood in each lane's way when it last tried.
    blockers: SenderBlockers,
    diagnosis_cache: Arc<DiagnosisCache>,
    /// Blocks with work of ours that are not final; the follower takes them over until they are.
    new_unfinalized: Arc<Mutex<Vec<UnfinalizedBlock>>>,
    /// How often the follower has looked, for those who wait for it.
    poll_count: Arc<watch::Sender<u64>>,
}

/// The head as last seen, and since when it is the same.
#[derive(Clone, Copy, Debug)]
struct Head {
    header: Header,
    since: Instant,
}

impl Context {
    /// The tools for one chain and store.
    pub fn new(chain: Chain, store: Store, settings: Settings, max_waiters: usize) -> Self {
        let route = ChainInfo { network: Arc::new(chain.network().clone()), contract: chain.contract() };
        Self {
            queue: Queue::new(store.clone()),
            waiters: Waiters::new(store.clone(), max_waiters),
            chain,
            store,
            settings: Arc::new(settings),
            in_flight: Arc::default(),
            chain_info: Arc::new(route),
            head: Arc::new(watch::Sender::new(None)),
            blockers: SenderBlockers::default(),
            diagnosis_cache: Arc::default(),
            new_unfinalized: Arc::default(),
            poll_count: Arc::default(),
        }
    }

    /// The head as last seen.
    pub fn head(&self) -> Option<Header> {
        self.head.borrow().map(|head| head.header)
    }

    fn update_head(&self, header: Header) {
        self.head.send_if_modified(|seen| {
            let moved = seen.map(|seen| seen.header.block.hash) != Some(header.block.hash);
            if moved {
                *seen = Some(Head { header, since: Instant::now() });
            }
            moved
        });
    }

    /// How many transactions of this signer are signed and not settled.
    pub fn in_flight_count(&self, signer: Address) -> usize {
        self.in_flight.of_signer(signer).len()
    }
}
