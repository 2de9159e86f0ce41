//! What no event tells: how much waits and for how long, and how the signers stand. Looked at now and then, for the metrics.

use super::{Tools, flights::Phase};
use crate::{registration::State, telemetry::metrics};
use alloy::primitives::Address;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Between two looks at what waits. It asks the store for one row, or where others write to it too for a count besides, and no
/// endpoint.
const LOOK: Duration = Duration::from_secs(1);
/// Between two questions for what a signer holds. Each prepare asks too; these are for the quiet times, when a faucet or another
/// program moves it: 12 calls an hour for each signer.
const ASK: Duration = Duration::from_secs(300);

/// The states of what is neither confirmed nor failed.
const WAITING: [State; 4] = [State::Queued, State::Signed, State::Submitted, State::Included];

/// Who looks.
#[derive(Debug)]
pub struct Gauges {
    tools: Tools,
    signers: Vec<Address>,
}

impl Gauges {
    /// For these signers.
    pub fn new(tools: Tools, signers: Vec<Address>) -> Self {
        Self { tools, signers }
    }

    /// Looks until `stop`. An endpoint or a database that does not answer keeps nobody from telling what is known without it.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(self.count(&stop), self.look(&stop), self.ask(&stop));
    }

    async fn count(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.count_in_flight();
            stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
    }

    async fn look(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            self.look_at_queue().await;
            if self.tools.store.is_shared() {
                self.look_at_states().await;
            }
            stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
        }
    }

    /// The start has asked already.
    async fn ask(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(ASK)).await.is_some() {
            for signer in &self.signers {
                match self.tools.chain.balance(*signer).await {
                    Ok(balance) => metrics().signer_balance(*signer, balance),
                    Err(error) => debug!(%signer, error = %error, "the balance is not known anew"),
                }
            }
        }
    }

    /// Registrations by state; and, of each signer, the transactions that are signed and in no block: the nonces that are given
    /// out and that the chain, as far as it is known, has not consumed.
    fn count_in_flight(&self) {
        let (mut signed, mut submitted, mut included) = (0, 0, 0);
        for signer in &self.signers {
            let mut lag = 0;
            for flight in self.tools.flights.of(*signer) {
                let phase = flight.progress().phase;
                let (count, consumed) = match phase {
                    Phase::Signed => (&mut signed, false),
                    Phase::Submitted => (&mut submitted, false),
                    Phase::Included { .. } => (&mut included, true),
                };
                // Those that its block did not register are queued again.
                *count += flight.journeys().len();
                lag += usize::from(!consumed);
            }
            metrics().signer_nonce_lag(*signer, lag);
            metrics().signer_leased(*signer, self.tools.store.acts_for(*signer));
        }
        if self.tools.store.is_shared() {
            // What other replicas have out is not known here: the store is asked for all.
            return;
        }
        let unfinished = usize::try_from(self.tools.store.unfinished()).unwrap_or(usize::MAX);
        let queued = unfinished.saturating_sub(signed + submitted + included);
        tell([
            (State::Queued, queued),
            (State::Signed, signed),
            (State::Submitted, submitted),
            (State::Included, included),
        ]);
    }

    /// Of a store that other replicas write to as well: every replica tells of the whole.
    async fn look_at_states(&self) {
        match self.tools.store.unfinished_by_state().await {
            Ok(counts) => tell(WAITING.map(|state| {
                let counted = counts.iter().find(|(of, _)| *of == state).map_or(0, |(_, count)| *count);
                (state, usize::try_from(counted).unwrap_or(usize::MAX))
            })),
            Err(error) => debug!(error = %error, "what is unfinished is not known"),
        }
    }

    /// Until the store can be read again, what was oldest is taken to be still there.
    async fn look_at_queue(&self) {
        match self.tools.store.oldest_queued().await {
            Ok(accepted) => metrics().queue_oldest(accepted),
            Err(error) => debug!(error = %error, "what is queued is not known"),
        }
    }
}

fn tell(counts: [(State, usize); WAITING.len()]) {
    for (state, count) in counts {
        metrics().in_flight(state.code(), count);
    }
}
