//! Removes what is kept only for a while: the raw bytes of transactions that have been final for long.

use super::{Context, now};
use crate::telemetry::{events, log_retry};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two looks, unless bytes are kept for less. A look that finds nothing reads one entry of an index.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// How many transactions share a commit: with 40 kB of bytes each, no commit holds up what is accepted for more than some 20 ms.
const PRUNE_BATCH: u32 = 100;

/// Who keeps house.
#[derive(Debug)]
pub struct Pruner {
    context: Context,
}

impl Pruner {
    /// In this house.
    pub fn new(tools: Context) -> Self {
        Self { context: tools }
    }

    /// Keeps it until `stop`; ends between two commits.
    pub async fn run(self, stop: CancellationToken) {
        let look = PRUNE_INTERVAL.min(self.context.settings.keep_signed_bytes);
        while stop.run_until_cancelled(tokio::time::sleep(look)).await.is_some() {
            self.prune(&stop).await;
        }
    }

    async fn prune(&self, stop: &CancellationToken) {
        let mut pruned = 0;
        while !stop.is_cancelled() {
            let at = now();
            let before = at.minus(self.context.settings.keep_signed_bytes);
            match self.context.store.prune(before, PRUNE_BATCH, at).await {
                Ok(0) => break,
                Ok(some) => pruned += some,
                Err(error) => {
                    log_retry!(error, "old transactions' bytes could not be removed; they are tried again");
                    break;
                }
            }
        }
        if pruned > 0 {
            events::transactions_pruned(pruned);
        }
    }
}
