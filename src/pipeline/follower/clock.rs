//! The confirmation clock: one diagnosis and one set of reports per transaction, whoever waits. It ends waits, never work.

use crate::{
    chain::Delays,
    pipeline::{
        Tools,
        diagnoses::Round,
        flights::{Clock, Flight},
        now,
    },
    registration::{State, Timestamp, diagnosis::Subject},
    store::StoreError,
    telemetry::{TimedOut, TransactionTimeoutError, events, hindered},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Between two looks while something is out.
const LOOK: Duration = Duration::from_millis(100);
/// The longest time between two tries to write a timeout.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Every transaction's clock.
#[derive(Debug)]
pub(super) struct Clocks {
    tools: Tools,
    /// The rounds of evidence that go on, each for a transaction whose clock has run out.
    rounds: JoinSet<()>,
}

impl Clocks {
    pub(super) fn new(tools: Tools) -> Self {
        Self { tools, rounds: JoinSet::new() }
    }

    /// Watches the clocks until `stop`, and then lets the rounds end that go on, so that what is written is reported too.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let mut changes = self.tools.flights.changes();
        while !stop.is_cancelled() {
            self.check();
            if self.tools.flights.is_empty() {
                stop.run_until_cancelled(changes.changed()).await;
            } else {
                stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
            }
        }
        while self.rounds.join_next().await.is_some() {}
    }

    /// Begins a round for every transaction whose clock has run out, once.
    fn check(&mut self) {
        while self.rounds.try_join_next().is_some() {}
        let now = now();
        for flight in self.tools.flights.all() {
            let late = {
                let mut progress = flight.progress();
                let waited = progress.sent.map(|sent| now.since(sent));
                let late = progress.clock == Clock::Running
                    && waited.is_some_and(|waited| waited >= self.tools.settings.confirmation_timeout);
                if late {
                    progress.clock = Clock::Diagnosing;
                }
                late
            };
            if late {
                self.rounds.spawn(ran_out(self.tools.clone(), flight));
            }
        }
    }
}

/// Diagnoses, writes, reports and tells.
async fn ran_out(tools: Tools, flight: Arc<Flight>) {
    let round = tools.diagnose_anew(&flight).await;
    let at = now();
    let written = written(&tools, &flight, &round, at).await;
    flight.progress().clock = Clock::RunOut;
    if !written {
        return;
    }
    let timed_out = timed_out(&tools, &flight, &round, at);
    let late = {
        let mut journeys = flight.journeys();
        let late = journeys.iter_mut().map(|journey| {
            let span_id = journey.late(round.diagnosis.cause, timed_out.confirmations, at);
            journey.affected(span_id)
        });
        late.collect::<Vec<_>>()
    };
    events::confirmation_timeout(&TransactionTimeoutError::reports(timed_out, late));
    tools.waiters.changed(&tools.store, &flight.members).await;
}

/// Writes the timeout, as long as it takes; `false` when the transaction was settled in the meantime, and was not late.
async fn written(tools: &Tools, flight: &Flight, round: &Round, at: Timestamp) -> bool {
    let mut delays = Delays::up_to(LONGEST_PAUSE);
    while tools.flights.contains(flight) {
        match tools.store.timed_out(flight.id, &round.diagnosis, at).await {
            Ok(late) => return late,
            Err(StoreError::Closed) => return false,
            Err(error) => {
                hindered!(error, transaction_id = %flight.id, "a timeout could not be written and is tried again");
                tokio::time::sleep(delays.next_delay()).await;
            }
        }
    }
    false
}

fn timed_out(tools: &Tools, flight: &Flight, round: &Round, at: Timestamp) -> TimedOut {
    let (sent, submitted_block, history) = {
        let progress = flight.progress();
        (progress.sent.unwrap_or(flight.signed), progress.memory.taken.head, progress.memory.history.clone())
    };
    let (tx_hash, fees) = flight.latest();
    let versions = flight.versions();
    let chain = &round.evidence.chain;
    let head = chain.head;
    let depth = |block: u64| head.map_or(0, |head| (head.number + 1).saturating_sub(block));
    let (confirmations, state) = match &round.evidence.subject {
        Subject::Included { block, .. } => (depth(*block), State::Included.code()),
        Subject::Unsent(_) => (0, State::Signed.code()),
        Subject::Sent(_) => (0, State::Submitted.code()),
    };
    let network = tools.chain.network();
    TimedOut {
        id: flight.id,
        network: network.name.clone(),
        contract_address: tools.chain.contract(),
        tx_hash,
        explorer_url: network.explorer_url(tx_hash),
        from: flight.signer,
        nonce: flight.nonce,
        gas_limit: versions.gas_limit,
        attempts: versions.attempts.len(),
        fees,
        base_fee_per_gas: head.map(|head| head.base_fee),
        submitted_block,
        head_block: head.map(|head| head.number),
        confirmations,
        waited: at.since(sent),
        history,
        state,
        diagnosis: round.diagnosis.clone(),
        endpoints: chain.usable.iter().chain(&chain.unusable).cloned().collect(),
    }
}
