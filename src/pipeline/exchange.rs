//! Replicas on one database tell each other what has changed, so that one may wait on any of them; and each looks by itself now and
//! then, for news can be lost.

use super::Tools;
use crate::{
    chain::Delays,
    store::{News, StoreError},
    telemetry::hindered,
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// Between two looks at what is waited for here.
const LOOK: Duration = Duration::from_secs(1);
/// In how many looks the unfinished are counted again, which other replicas accept and settle too.
const LOOKS_PER_COUNT: u32 = 5;
/// The longest time between two tries to listen.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// This replica's part in it.
#[derive(Debug)]
pub struct Exchange {
    tools: Tools,
}

impl Exchange {
    /// The part of the replica with these tools.
    pub fn new(tools: Tools) -> Self {
        Self { tools }
    }

    /// Tells, listens and looks until `stop`; where no other process may use the store it only waits for that.
    pub async fn run(self, stop: CancellationToken) {
        if self.tools.store.is_shared() {
            tokio::join!(self.tell(&stop), self.listen(&stop), self.look(&stop));
        }
        stop.cancelled().await;
    }

    async fn tell(&self, stop: &CancellationToken) {
        while let Some(told) = stop.run_until_cancelled(self.tools.store.tell_next()).await {
            if let Err(error) = told {
                debug!(error = %error, "other replicas were not told; they find out by looking");
            }
        }
    }

    async fn listen(&self, stop: &CancellationToken) {
        let mut delays = Delays::up_to(LONGEST_PAUSE);
        let mut lost = false;
        while let Some(ended) = stop.run_until_cancelled(self.hear(&mut lost, &mut delays)).await {
            if let Err(error) = ended
                && !std::mem::replace(&mut lost, true)
            {
                hindered!(error, "other replicas are not heard: until they are, each change shows up to a second late");
            }
            stop.run_until_cancelled(tokio::time::sleep(delays.next_delay())).await;
        }
    }

    /// Listens as long as the connection lives.
    async fn hear(&self, lost: &mut bool, delays: &mut Delays) -> Result<(), StoreError> {
        let Some(mut ear) = self.tools.store.listen().await? else { return Ok(()) };
        if std::mem::take(lost) {
            info!("other replicas are heard again");
        }
        delays.reset();
        // What was told before.
        self.tools.waiters.look_again(&self.tools.store).await;
        loop {
            let News { queued, registrations, transactions } = ear.hear().await?;
            if queued {
                self.tools.queue.heard();
            }
            self.tools.waiters.heard(&self.tools.store, registrations, transactions).await;
        }
    }

    async fn look(&self, stop: &CancellationToken) {
        let mut looks = 0_u32;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            self.tools.waiters.look_again(&self.tools.store).await;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_PER_COUNT)
                && let Err(error) = self.tools.store.recount().await
            {
                debug!(error = %error, "the unfinished could not be counted");
            }
        }
    }
}
