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
mod timeouts;
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
use alloy::primitives::Address;
use blockers::SenderBlockers;
use diagnosis_cache::DiagnosisCache;
use follower_inbox::FollowerInbox;
use head::HeadWatch;
use in_flight::PendingTxs;
use queue::Queue;
use registration_trace::ChainInfo;
use std::sync::Arc;
use waiters::Waiters;

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
    head: HeadWatch,
    /// What stood in each lane's way when it last tried.
    blockers: SenderBlockers,
    diagnosis_cache: Arc<DiagnosisCache>,
    follower_inbox: FollowerInbox,
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
            head: HeadWatch::new(),
            blockers: SenderBlockers::default(),
            diagnosis_cache: Arc::default(),
            follower_inbox: FollowerInbox::default(),
        }
    }

    pub(crate) fn head(&self) -> Option<Header> {
        self.head.header()
    }

    fn update_head(&self, header: Header) {
        self.head.update(header);
    }

    /// How many transactions of this signer are signed and not settled.
    pub fn in_flight_count(&self, signer: Address) -> usize {
        self.in_flight.of_signer(signer).len()
    }
}
