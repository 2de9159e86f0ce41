//! Replicas on one database tell each other what has changed, so that one may wait on any of them; and each looks by itself now and
//! then, for news can be lost.

use super::Context;
use crate::{
    chain::Backoff,
    store::{Changes, StoreError},
    telemetry::log_retry,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Between two looks at what is waited for here.
const CHANGE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// In how many looks the unfinished are counted again, which other replicas accept and settle too.
const POLLS_PER_RECOUNT: u32 = 5;

/// This replica's part in it.
#[derive(Debug)]
pub struct ReplicaSync {
    context: Context,
}

impl ReplicaSync {
    /// The part of the replica with these tools.
    pub fn new(tools: Context) -> Self {
        Self { context: tools }
    }

    /// Tells, listens and looks until `stop`; where no other process may use the store it only waits for that.
    pub async fn run(self, stop: CancellationToken) {
        if self.context.store.is_shared() {
            tokio::join!(self.send_loop(&stop), self.listen_loop(&stop), self.poll_loop(&stop));
        }
        stop.cancelled().await;
    }

    async fn send_loop(&self, stop: &CancellationToken) {
        while let Some(told) = stop.run_until_cancelled(self.context.store.flush_notifications()).await {
            if let Err(error) = told {
                debug!(error = %error, "other replicas were not told; they find out by looking");
            }
        }
    }

    async fn listen_loop(&self, stop: &CancellationToken) {
        let mut delays = Backoff::new();
        let mut lost = false;
        while let Some(ended) = stop.run_until_cancelled(self.receive_changes(&mut lost, &mut delays)).await {
            if let Err(error) = ended
                && !std::mem::replace(&mut lost, true)
            {
                log_retry!(
                    error,
                    "other replicas are not heard: until they are, each change shows up to a second late"
                );
            }
            stop.run_until_cancelled(tokio::time::sleep(delays.next_delay())).await;
        }
    }

    /// Listens as long as the connection lives.
    async fn receive_changes(&self, lost: &mut bool, delays: &mut Backoff) -> Result<(), StoreError> {
        let Some(mut ear) = self.context.store.listen().await? else { return Ok(()) };
        if std::mem::take(lost) {
            info!("other replicas are heard again");
        }
        delays.reset();
        // What was told before.
        self.context.waiters.poll_changes(&self.context.store).await;
        loop {
            let Changes { queued, registrations, transactions } = ear.next_changes().await?;
            if queued {
                self.context.queue.on_remote_notify();
            }
            self.context.waiters.on_remote_changes(&self.context.store, registrations, transactions).await;
        }
    }

    async fn poll_loop(&self, stop: &CancellationToken) {
        let mut looks = 0_u32;
        while stop.run_until_cancelled(tokio::time::sleep(CHANGE_POLL_INTERVAL)).await.is_some() {
            self.context.waiters.poll_changes(&self.context.store).await;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(POLLS_PER_RECOUNT)
                && let Err(error) = self.context.store.reload_unfinished().await
            {
                debug!(error = %error, "the unfinished could not be counted");
            }
        }
    }
}
