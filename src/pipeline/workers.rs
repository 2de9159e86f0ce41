//! The pipeline of one process: its shared parts, and the tasks that run until shutdown. `app` and the simulation run
//! the same tasks.

use super::{
    admission::Admission,
    blockers::SenderBlockers,
    caller_budget::CallerBudget,
    certifier::Certifier,
    change_feed::{ChangeFeed, Tail},
    diagnoser::Diagnoser,
    evidence::Sources,
    follower::{Follower, FollowerParts},
    follower_inbox::FollowerInbox,
    head::HeadWatch,
    import_unknown::Importer,
    in_flight::PendingTxs,
    lease_loop::{LeaseLoop, LeaseParts},
    metrics_poller::MetricsPoller,
    overview::OverviewReader,
    pruner::Pruner,
    queue::Queue,
    queue_timeouts::{QueueTimeoutParts, QueueTimeoutWatcher},
    registrar::Registrar,
    registration_trace::ChainInfo,
    replica_sync::ReplicaSync,
    resume::Tracker,
    sender::SenderParts,
    service_status::ServiceStatus,
    settings::Settings,
    timeouts::{TimeoutParts, TimeoutWatcher},
    verifier::Verifier,
    waiters::Waiters,
};
use crate::{
    chain::{Chain, Signer},
    store::{AcceptHandle, Store},
};
use alloy::primitives::Address;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The parts that the tasks of one process share. Each task gets those that it uses.
#[derive(Debug)]
pub struct Pipeline {
    chain: Chain,
    store: Store,
    settings: Arc<Settings>,
    in_flight: Arc<PendingTxs>,
    waiters: Waiters,
    change_feed: ChangeFeed,
    queue: Queue,
    admission: Admission,
    head: HeadWatch,
    blockers: SenderBlockers,
    follower_inbox: FollowerInbox,
    chain_info: Arc<ChainInfo>,
    tracker: Tracker,
    importer: Importer,
    diagnoser: Diagnoser,
    verifier: Verifier,
    certifier: Certifier,
    status: ServiceStatus,
}

/// A task that runs until its `stop`. One that ends before has failed, and the process with it.
pub type Worker = BoxFuture<'static, ()>;

impl Pipeline {
    pub fn new(chain: Chain, store: Store, settings: Settings, max_waiters: u64) -> Self {
        let (settings, in_flight) = (Arc::new(settings), Arc::<PendingTxs>::default());
        let (head, blockers, follower_inbox) = (HeadWatch::new(), SenderBlockers::default(), FollowerInbox::default());
        let chain_info = Arc::new(ChainInfo { network: Arc::new(chain.network().clone()), contract: chain.contract() });
        let tracker = Tracker::new(chain.clone(), store.clone(), in_flight.clone(), chain_info.clone());
        let importer = Importer::new(
            (chain.clone(), store.clone()),
            in_flight.clone(),
            head.clone(),
            follower_inbox.clone(),
            tracker.clone(),
        );
        let budget = CallerBudget::new(chain.clone());
        let sources = Sources {
            chain: chain.clone(),
            store: store.clone(),
            settings: settings.clone(),
            in_flight: in_flight.clone(),
            head: head.clone(),
            blockers: blockers.clone(),
            blocker_cache: Arc::default(),
        };
        let verifier = Verifier::new(chain.clone(), head.clone(), budget.clone());
        Self {
            waiters: Waiters::new(store.clone(), max_waiters),
            change_feed: ChangeFeed::new(store.clone()),
            queue: Queue::new(store.clone()),
            admission: Admission::new(settings.queue_limit),
            status: ServiceStatus::new(chain.clone(), store.clone(), budget.clone()),
            certifier: Certifier::new(chain.clone(), verifier.clone(), budget.clone()),
            verifier,
            diagnoser: Diagnoser::new(sources, tracker.clone(), budget),
            chain,
            store,
            settings,
            in_flight,
            head,
            blockers,
            follower_inbox,
            chain_info,
            tracker,
            importer,
        }
    }

    /// What the API calls.
    pub fn registrar(&self, accept_handle: AcceptHandle, signers: Vec<Address>) -> Registrar {
        let overview = OverviewReader {
            chain: self.chain.clone(),
            store: self.store.clone(),
            in_flight: self.in_flight.clone(),
            head: self.head.clone(),
            blockers: self.blockers.clone(),
            signers: signers.clone(),
            cached: Arc::default(),
        };
        Registrar {
            overview,
            chain: self.chain.clone(),
            store: self.store.clone(),
            settings: self.settings.clone(),
            head: self.head.clone(),
            waiters: self.waiters.clone(),
            change_feed: self.change_feed.clone(),
            diagnoser: self.diagnoser.clone(),
            verifier: self.verifier.clone(),
            certifier: self.certifier.clone(),
            status: self.status.clone(),
            accept_handle,
            admission: self.admission.clone(),
            queue: self.queue.clone(),
            signers,
        }
    }

    /// Called after each commit of accepted registrations, to wake the senders.
    pub fn on_accepted(&self) -> impl Fn() + Send + 'static {
        let queue = self.queue.clone();
        move || queue.notify()
    }

    /// Every task, for these signers. One of `unfinalized`, which have transactions that are not final, that is no longer
    /// configured gets a task that follows those.
    pub fn workers(&self, signers: Vec<Signer>, unfinalized: Vec<Address>, stop: &CancellationToken) -> Vec<Worker> {
        let addresses: Vec<_> = signers.iter().map(Signer::address).collect();
        let retired = unfinalized.into_iter().filter(|signer| !addresses.contains(signer));
        let mut leases = vec![LeaseLoop::for_foreign_blocks(self.lease_parts())];
        leases.extend(retired.map(|signer| LeaseLoop::for_retired_signer(self.lease_parts(), signer)));
        let sender = |signer| LeaseLoop::for_signer(self.lease_parts(), self.sender_parts(), signer);
        leases.extend(signers.into_iter().map(sender));
        let (store, in_flight) = (self.store.clone(), self.in_flight.clone());
        let mut workers = vec![
            Follower::new(self.follower_parts()).run(stop.clone()).boxed(),
            TimeoutWatcher::new(self.timeout_parts()).run(stop.clone()).boxed(),
            QueueTimeoutWatcher::new(self.queue_timeout_parts(addresses.clone())).run(stop.clone()).boxed(),
            MetricsPoller::new(self.chain.clone(), store.clone(), in_flight, addresses).run(stop.clone()).boxed(),
            Pruner::new(store.clone(), self.settings.keep_signed_bytes).run(stop.clone()).boxed(),
            ReplicaSync::new(store, self.queue.clone(), self.waiters.clone(), self.change_feed.clone())
                .run(stop.clone())
                .boxed(),
            Tail::new(self.change_feed.clone()).run(stop.clone()).boxed(),
        ];
        workers.extend(leases.into_iter().map(|lease| lease.run(stop.clone()).boxed()));
        workers
    }

    fn lease_parts(&self) -> LeaseParts {
        LeaseParts {
            store: self.store.clone(),
            in_flight: self.in_flight.clone(),
            blockers: self.blockers.clone(),
            follower_inbox: self.follower_inbox.clone(),
            tracker: self.tracker.clone(),
        }
    }

    fn sender_parts(&self) -> SenderParts {
        SenderParts {
            chain: self.chain.clone(),
            store: self.store.clone(),
            settings: self.settings.clone(),
            in_flight: self.in_flight.clone(),
            waiters: self.waiters.clone(),
            queue: self.queue.clone(),
            head: self.head.clone(),
            blockers: self.blockers.clone(),
            follower_inbox: self.follower_inbox.clone(),
            chain_info: self.chain_info.clone(),
            tracker: self.tracker.clone(),
            importer: self.importer.clone(),
        }
    }

    pub(super) fn follower_parts(&self) -> FollowerParts {
        FollowerParts {
            chain: self.chain.clone(),
            store: self.store.clone(),
            settings: self.settings.clone(),
            in_flight: self.in_flight.clone(),
            waiters: self.waiters.clone(),
            queue: self.queue.clone(),
            head: self.head.clone(),
            blockers: self.blockers.clone(),
            follower_inbox: self.follower_inbox.clone(),
            tracker: self.tracker.clone(),
            importer: self.importer.clone(),
        }
    }

    fn queue_timeout_parts(&self, signers: Vec<Address>) -> QueueTimeoutParts {
        QueueTimeoutParts {
            chain: self.chain.clone(),
            store: self.store.clone(),
            in_flight: self.in_flight.clone(),
            waiters: self.waiters.clone(),
            diagnoser: self.diagnoser.clone(),
            chain_info: self.chain_info.clone(),
            signers,
            queue_timeout: self.settings.queue_timeout,
        }
    }

    fn timeout_parts(&self) -> TimeoutParts {
        TimeoutParts {
            chain: self.chain.clone(),
            store: self.store.clone(),
            in_flight: self.in_flight.clone(),
            waiters: self.waiters.clone(),
            diagnoser: self.diagnoser.clone(),
            confirmation_timeout: self.settings.confirmation_timeout,
        }
    }
}
