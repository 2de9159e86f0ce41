//! The pipeline of one process: its shared parts, and the tasks that run until shutdown. `app` and the simulation run
//! the same tasks.

use super::{
    Context, Settings, follower::Follower, lease_loop::LeaseLoop, metrics_poller::MetricsPoller, pruner::Pruner,
    registrar::Registrar, replica_sync::ReplicaSync, timeouts::TimeoutWatcher,
};
use crate::{
    chain::{Chain, Signer},
    store::{AcceptHandle, Store, StoreError},
};
use alloy::primitives::Address;
use futures_util::future::{BoxFuture, FutureExt};
use tokio_util::sync::CancellationToken;

/// What the tasks of one process share, and nothing that runs yet.
#[derive(Debug)]
pub struct Pipeline {
    context: Context,
}

/// A task that runs until its `stop`. One that ends before has failed, and the process with it.
pub type Worker = BoxFuture<'static, ()>;

impl Pipeline {
    pub fn new(chain: Chain, store: Store, settings: Settings, max_waiters: usize) -> Self {
        Self { context: Context::new(chain, store, settings, max_waiters) }
    }

    /// What the API calls.
    pub fn registrar(&self, accept_handle: AcceptHandle, signers: Vec<Address>) -> Registrar {
        Registrar::new(self.context.clone(), accept_handle, signers)
    }

    /// Called after each commit of accepted registrations, to wake the senders.
    pub fn on_accepted(&self) -> impl Fn() + Send + 'static {
        let queue = self.context.queue.clone();
        move || queue.notify()
    }

    /// Every task, for these signers. A signer that is no longer configured and has transactions that are not final
    /// gets a task that follows those.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn workers(&self, signers: Vec<Signer>, stop: &CancellationToken) -> Result<Vec<Worker>, StoreError> {
        let Context { chain, store, settings, in_flight, queue, waiters, .. } = self.context.clone();
        let addresses: Vec<_> = signers.iter().map(Signer::address).collect();
        let mut retired = store.signers_with_unfinalized().await?;
        retired.retain(|signer| !addresses.contains(signer));
        let context = || self.context.clone();
        let mut leases = vec![LeaseLoop::for_foreign_blocks(context())];
        leases.extend(retired.into_iter().map(|signer| LeaseLoop::for_retired_signer(context(), signer)));
        leases.extend(signers.into_iter().map(|signer| LeaseLoop::for_signer(context(), signer)));
        let timeouts = TimeoutWatcher::new(context()).run(stop.clone());
        let follower = Follower::new(context()).run(stop.clone());
        let follow_chain = async move {
            tokio::join!(timeouts, follower);
        };
        let mut workers = vec![
            follow_chain.boxed(),
            MetricsPoller::new(chain, store.clone(), in_flight, addresses).run(stop.clone()).boxed(),
            Pruner::new(store.clone(), settings.keep_signed_bytes).run(stop.clone()).boxed(),
            ReplicaSync::new(store, queue, waiters).run(stop.clone()).boxed(),
        ];
        workers.extend(leases.into_iter().map(|lease| lease.run(stop.clone()).boxed()));
        Ok(workers)
    }
}
