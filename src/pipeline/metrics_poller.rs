//! Gauges that no event sets: unfinished registrations by state, the age of the oldest queued one, and each signer's
//! balance, nonce lag and lease.

use super::{in_flight::PendingTxs, tx_state::TxPhase};
use crate::{chain::Chain, registration::State, store::Store, telemetry::metrics};
use alloy::primitives::Address;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Between two reads of the store: one row, and where replicas share it a count. No endpoint is called.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Between two balance reads: 12 calls an hour for each signer. Preparing a transaction reads the balance too; these
/// are for quiet times, when a faucet or another program moves funds.
const BALANCE_INTERVAL: Duration = Duration::from_secs(300);

const UNFINISHED_STATES: [State; 4] = [State::Queued, State::Signed, State::Submitted, State::Included];

#[derive(Debug)]
pub(super) struct MetricsPoller {
    chain: Chain,
    store: Store,
    in_flight: Arc<PendingTxs>,
    signers: Vec<Address>,
}

impl MetricsPoller {
    pub(super) fn new(chain: Chain, store: Store, in_flight: Arc<PendingTxs>, signers: Vec<Address>) -> Self {
        Self { chain, store, in_flight, signers }
    }

    /// Runs until `stop`. Each gauge is independent: an endpoint or a database that does not answer delays only its
    /// own.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.in_flight_loop(&stop), self.queue_loop(&stop), self.balance_loop(&stop));
    }

    async fn in_flight_loop(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.record_in_flight();
            stop.run_until_cancelled(tokio::time::sleep(METRICS_INTERVAL)).await;
        }
    }

    async fn queue_loop(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.record_oldest_queued().await;
            if self.store.is_shared() {
                self.record_states().await;
            }
            stop.run_until_cancelled(tokio::time::sleep(METRICS_INTERVAL)).await;
        }
    }

    /// Waits first: the balance was read at startup.
    async fn balance_loop(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(BALANCE_INTERVAL)).await.is_some() {
            for signer in &self.signers {
                match self.chain.balance(*signer).await {
                    Ok(balance) => metrics().set_signer_balance(*signer, balance),
                    Err(error) => debug!(%signer, error = %error, "failed to refresh signer balance"),
                }
            }
        }
    }

    /// The nonce lag is the number of assigned nonces that no known block has consumed.
    fn record_in_flight(&self) {
        let (mut signed, mut submitted, mut included) = (0, 0, 0);
        for signer in &self.signers {
            let mut lag = 0;
            for pending_tx in self.in_flight.of_signer(*signer) {
                let phase = pending_tx.status().phase();
                let (count, consumed) = match phase {
                    TxPhase::Signed => (&mut signed, false),
                    TxPhase::Submitted => (&mut submitted, false),
                    TxPhase::Included { .. } => (&mut included, true),
                };
                // Without members that its block did not register: they are queued again.
                *count += pending_tx.traces().len();
                lag += usize::from(!consumed);
            }
            metrics().set_signer_nonce_lag(*signer, lag);
            metrics().set_signer_leased(*signer, self.store.is_lease_current(*signer));
        }
        if self.store.is_shared() {
            // The pending transactions of other replicas are only in the store; see `record_states`.
            return;
        }
        let unfinished = usize::try_from(self.store.unfinished_count()).unwrap_or(usize::MAX);
        let queued = unfinished.saturating_sub(signed + submitted + included);
        set_state_gauges([
            (State::Queued, queued),
            (State::Signed, signed),
            (State::Submitted, submitted),
            (State::Included, included),
        ]);
    }

    /// Every replica reports the counts of the whole store.
    async fn record_states(&self) {
        match self.store.unfinished_by_state().await {
            Ok(counts) => set_state_gauges(UNFINISHED_STATES.map(|state| {
                let counted = counts.iter().find(|(of, _)| *of == state).map_or(0, |(_, count)| *count);
                (state, usize::try_from(counted).unwrap_or(usize::MAX))
            })),
            Err(error) => debug!(error = %error, "failed to count unfinished registrations"),
        }
    }

    /// While the store cannot be read, the last known oldest registration stays reported.
    async fn record_oldest_queued(&self) {
        match self.store.oldest_queued().await {
            Ok(accepted) => metrics().set_queue_oldest(accepted),
            Err(error) => debug!(error = %error, "failed to read the oldest queued registration"),
        }
    }
}

fn set_state_gauges(counts: [(State, usize); UNFINISHED_STATES.len()]) {
    for (state, count) in counts {
        metrics().set_in_flight(state, count);
    }
}
