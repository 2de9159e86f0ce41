//! WHO moves a registration along.
//!
//! A `lane` per signer takes queued work, prepares and sends it; one `follower` watches the chain for everybody; a
//! `journey` tells one registration's story; `waiters` tells those who wait, and `exchange` the other replicas; `gauges` looks at
//! what waits; `housekeeping` removes what is kept for a while. What is done is in the store first: every piece of memory here can
//! be lost and is read back by `recovery`.

mod diagnoses;
mod evidence;
mod exchange;
mod flights;
mod follower;
mod gauges;
mod housekeeping;
mod journey;
mod lane;
mod memory;
mod queue;
mod recognition;
mod recovery;
mod registrar;
#[cfg(test)]
mod simulation;
mod tenure;
mod waiters;

pub use exchange::Exchange;
pub use follower::Follower;
pub use gauges::Gauges;
pub use housekeeping::Housekeeping;
pub use recovery::{RecoverError, check_keys};
pub use registrar::{Chained, Registrar, Verified};
pub use tenure::Tenure;
pub use waiters::{TooManyWaiters, Waiter};

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
use diagnoses::Diagnoses;
use flights::{Flights, lock};
use journey::Route;
use lane::{Lane, Standings};
use queue::Queue;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};
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
pub struct Tools {
    /// The chain.
    pub chain: Chain,
    /// The store.
    pub store: Store,
    /// When a registration is confirmed.
    pub settings: Arc<Settings>,
    flights: Arc<Flights>,
    waiters: Waiters,
    queue: Queue,
    route: Arc<Route>,
    head: Arc<watch::Sender<Option<Head>>>,
    /// What stood in each lane's way when it last tried.
    standings: Standings,
    /// The signers that have out as many transactions as they may.
    full: Arc<Mutex<HashSet<Address>>>,
    diagnoses: Arc<Diagnoses>,
    /// Blocks with work of ours that are not final; the follower takes them over until they are.
    found: Arc<Mutex<Vec<UnfinalizedBlock>>>,
    /// How often the follower has looked, for those who wait for it.
    polls: Arc<watch::Sender<u64>>,
}

/// The head as last seen, and since when it is the same.
#[derive(Clone, Copy, Debug)]
struct Head {
    header: Header,
    since: Instant,
}

impl Tools {
    /// The tools for one chain and store.
    pub fn new(chain: Chain, store: Store, settings: Settings, max_waiters: usize) -> Self {
        let route = Route { network: Arc::new(chain.network().clone()), contract: chain.contract() };
        Self {
            queue: Queue::new(store.clone()),
            chain,
            store,
            settings: Arc::new(settings),
            flights: Arc::default(),
            waiters: Waiters::new(max_waiters),
            route: Arc::new(route),
            head: Arc::new(watch::Sender::new(None)),
            standings: Standings::default(),
            full: Arc::default(),
            diagnoses: Arc::default(),
            found: Arc::default(),
            polls: Arc::default(),
        }
    }

    /// Something was queued.
    pub fn queued(&self) {
        self.queue.tell();
    }

    /// The head as last seen.
    pub fn head(&self) -> Option<Header> {
        self.head.borrow().map(|head| head.header)
    }

    fn see_head(&self, header: Header) {
        self.head.send_if_modified(|seen| {
            let moved = seen.map(|seen| seen.header.block.hash) != Some(header.block.hash);
            if moved {
                *seen = Some(Head { header, since: Instant::now() });
            }
            moved
        });
    }

    /// Whether this signer has out as many transactions as it may.
    fn set_full(&self, signer: Address, full: bool) {
        let mut all = lock(&self.full);
        if full {
            all.insert(signer);
        } else {
            all.remove(&signer);
        }
    }

    /// How many transactions of this signer are signed and not settled.
    pub fn in_flight_of(&self, signer: Address) -> usize {
        self.flights.of(signer).len()
    }
}
