//! Removes the signed bytes of transactions that have been final for `REGISTRAR_KEEP_SIGNED_BYTES`.

use crate::{
    clock::now,
    store::Store,
    telemetry::{events, log_retry},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two runs, unless bytes are kept for less. A run that finds nothing reads one index entry.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Transactions per commit: with 40 kB of bytes each, accepting waits at most about 20 ms for such a commit.
const PRUNE_BATCH: u32 = 100;

#[derive(Debug)]
pub(super) struct Pruner {
    store: Store,
    keep_signed_bytes: Duration,
}

impl Pruner {
    pub(super) fn new(store: Store, keep_signed_bytes: Duration) -> Self {
        Self { store, keep_signed_bytes }
    }

    /// Runs until `stop`; ends between two commits.
    pub(super) async fn run(self, stop: CancellationToken) {
        let interval = PRUNE_INTERVAL.min(self.keep_signed_bytes);
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            self.prune(&stop).await;
        }
    }

    async fn prune(&self, stop: &CancellationToken) {
        let mut pruned = 0;
        while !stop.is_cancelled() {
            let at = now();
            let before = at.minus(self.keep_signed_bytes);
            match self.store.prune(before, PRUNE_BATCH, at).await {
                Ok(0) => break,
                Ok(count) => pruned += count,
                Err(error) => {
                    log_retry!(error, "failed to remove signed bytes of final transactions, retrying");
                    break;
                }
            }
        }
        if pruned > 0 {
            events::transactions_pruned(pruned);
        }
    }
}
