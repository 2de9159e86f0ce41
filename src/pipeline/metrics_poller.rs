//! What no event tells: how much waits and for how long, and how the signers stand. Looked at now and then, for the metrics.

use super::{Context, in_flight::TxPhase};
use crate::{registration::State, telemetry::metrics};
use alloy::primitives::Address;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Between two looks at what waits. It asks the store for one row, or where others write to it too for a count besides, and no
/// endpoint.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);
/// Between two questions for what a signer holds. Each prepare asks too; these are for the quiet times, when a faucet or another
/// program moves it: 12 calls an hour for each signer.
const BALANCE_INTERVAL: Duration = Duration::from_secs(300);

/// The states of what is neither confirmed nor failed.
const UNFINISHED_STATES: [State; 4] = [State::Queued, State::Signed, State::Submitted, State::Included];

/// Who looks.
#[derive(Debug)]
pub struct MetricsPoller {
    context: Context,
    signers: Vec<Address>,
}

impl MetricsPoller {
    /// For these signers.
    pub fn new(tools: Context, signers: Vec<Address>) -> Self {
        Self { context: tools, signers }
    }

    /// Looks until `stop`. An endpoint or a database that does not answer keeps nobody from telling what is known without it.
    pub async fn run(self, stop: CancellationToken) {
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
            if self.context.store.is_shared() {
                self.record_states().await;
            }
            stop.run_until_cancelled(tokio::time::sleep(METRICS_INTERVAL)).await;
        }
    }

    /// The start has asked already.
    async fn balance_loop(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(BALANCE_INTERVAL)).await.is_some() {
            for signer in &self.signers {
                match self.context.chain.balance(*signer).await {
                    Ok(balance) => metrics().set_signer_balance(*signer, balance),
                    Err(error) => debug!(%signer, error = %error, "the balance is not known anew"),
                }
            }
        }
    }

    /// Registrations by state; and, of each signer, the transactions that are signed and in no block: the nonces that are given
    /// out and that the chain, as far as it is known, has not consumed.
    fn record_in_flight(&self) {
        let (mut signed, mut submitted, mut included) = (0, 0, 0);
        for signer in &self.signers {
            let mut lag = 0;
            for flight in self.context.in_flight.of_signer(*signer) {
                let phase = flight.status().phase;
                let (count, consumed) = match phase {
                    TxPhase::Signed => (&mut signed, false),
                    TxPhase::Submitted => (&mut submitted, false),
                    TxPhase::Included { .. } => (&mut included, true),
                };
                // Those that its block did not register are queued again.
                *count += flight.traces().len();
                lag += usize::from(!consumed);
            }
            metrics().set_signer_nonce_lag(*signer, lag);
            metrics().set_signer_leased(*signer, self.context.store.is_lease_current(*signer));
        }
        if self.context.store.is_shared() {
            // What other replicas have out is not known here: the store is asked for all.
            return;
        }
        let unfinished = usize::try_from(self.context.store.unfinished_count()).unwrap_or(usize::MAX);
        let queued = unfinished.saturating_sub(signed + submitted + included);
        set_state_gauges([
            (State::Queued, queued),
            (State::Signed, signed),
            (State::Submitted, submitted),
            (State::Included, included),
        ]);
    }

    /// Of a store that other replicas write to as well: every replica tells of the whole.
    async fn record_states(&self) {
        match self.context.store.unfinished_by_state().await {
            Ok(counts) => set_state_gauges(UNFINISHED_STATES.map(|state| {
                let counted = counts.iter().find(|(of, _)| *of == state).map_or(0, |(_, count)| *count);
                (state, usize::try_from(counted).unwrap_or(usize::MAX))
            })),
            Err(error) => debug!(error = %error, "what is unfinished is not known"),
        }
    }

    /// Until the store can be read again, what was oldest is taken to be still there.
    async fn record_oldest_queued(&self) {
        match self.context.store.oldest_queued().await {
            Ok(accepted) => metrics().set_queue_oldest(accepted),
            Err(error) => debug!(error = %error, "what is queued is not known"),
        }
    }
}

fn set_state_gauges(counts: [(State, usize); UNFINISHED_STATES.len()]) {
    for (state, count) in counts {
        metrics().set_in_flight(state, count);
    }
}
