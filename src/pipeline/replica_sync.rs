//! Replicas on one database notify each other of changes, so that a caller may wait on any of them. Notifications can
//! be lost, so each replica also polls what is awaited.

use super::{change_feed::ChangeFeed, queue::Queue, waiters::Waiters};
use crate::{
    chain::Backoff,
    store::{Changes, Store, StoreError},
    telemetry::log_retry,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

const CHANGE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The count of unfinished registrations, which other replicas change too, is read again every this many polls.
const POLLS_PER_RECOUNT: u32 = 5;

#[derive(Debug)]
pub(super) struct ReplicaSync {
    store: Store,
    queue: Queue,
    waiters: Waiters,
    change_feed: ChangeFeed,
}

impl ReplicaSync {
    pub(super) fn new(store: Store, queue: Queue, waiters: Waiters, change_feed: ChangeFeed) -> Self {
        Self { store, queue, waiters, change_feed }
    }

    /// Runs until `stop`. Where no other process may use the store there is nothing to do.
    pub(super) async fn run(self, stop: CancellationToken) {
        if self.store.is_shared() {
            tokio::join!(self.send_loop(&stop), self.listen_loop(&stop), self.poll_loop(&stop));
        }
        stop.cancelled().await;
    }

    async fn send_loop(&self, stop: &CancellationToken) {
        while let Some(sent) = stop.run_until_cancelled(self.store.flush_notifications()).await {
            if let Err(error) = sent {
                debug!(error = %error, "failed to notify other replicas; their next poll finds the change");
            }
        }
    }

    async fn listen_loop(&self, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        let mut is_lost = false;
        while let Some(ended) = stop.run_until_cancelled(self.receive_changes(&mut is_lost, &mut backoff)).await {
            if let Err(error) = ended
                && !std::mem::replace(&mut is_lost, true)
            {
                log_retry!(
                    error,
                    "replica notifications lost; until they return, a change shows up to one second late"
                );
            }
            stop.run_until_cancelled(tokio::time::sleep(backoff.next_delay())).await;
        }
    }

    /// Listens as long as the connection lives.
    async fn receive_changes(&self, is_lost: &mut bool, backoff: &mut Backoff) -> Result<(), StoreError> {
        let Some(mut listener) = self.store.listen().await? else { return Ok(()) };
        if std::mem::take(is_lost) {
            info!("replica notifications restored");
        }
        backoff.reset();
        // Changes from before the connection.
        self.waiters.poll_changes().await;
        loop {
            let Changes { queued, registrations, transactions } = listener.next_changes().await?;
            self.change_feed.on_remote_changes();
            if queued {
                self.queue.on_remote_notify();
            }
            self.waiters.on_remote_changes(registrations, transactions).await;
        }
    }

    async fn poll_loop(&self, stop: &CancellationToken) {
        let mut polls = 0_u32;
        while stop.run_until_cancelled(tokio::time::sleep(CHANGE_POLL_INTERVAL)).await.is_some() {
            self.waiters.poll_changes().await;
            polls = polls.wrapping_add(1);
            if polls.is_multiple_of(POLLS_PER_RECOUNT)
                && let Err(error) = self.store.reload_unfinished().await
            {
                debug!(error = %error, "failed to count unfinished registrations");
            }
        }
    }
}
