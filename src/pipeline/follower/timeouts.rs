//! The confirmation clock: one diagnosis and one set of reports per transaction, whoever waits. It ends waits, never work.

use crate::{
    chain::Backoff,
    pipeline::{Context, diagnosis_cache::DiagnosisRun, in_flight::PendingTx, now},
    registration::{State, Timestamp, diagnosis::Subject},
    store::StoreError,
    telemetry::{TimedOutTransaction, TransactionTimeoutError, events, log_retry},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Between two looks while something is out.
const TIMEOUT_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Every transaction's clock.
#[derive(Debug)]
pub(super) struct TimeoutWatcher {
    context: Context,
    /// The rounds of evidence that go on, each for a transaction whose clock has run out.
    diagnosis_tasks: JoinSet<()>,
}

impl TimeoutWatcher {
    pub(super) fn new(tools: Context) -> Self {
        Self { context: tools, diagnosis_tasks: JoinSet::new() }
    }

    /// Watches the clocks until `stop`, and then lets the rounds end that go on, so that what is written is reported too.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let mut changes = self.context.in_flight.subscribe();
        while !stop.is_cancelled() {
            self.check_timeouts();
            if self.context.in_flight.is_empty() {
                stop.run_until_cancelled(changes.changed()).await;
            } else {
                stop.run_until_cancelled(tokio::time::sleep(TIMEOUT_CHECK_INTERVAL)).await;
            }
        }
        while self.diagnosis_tasks.join_next().await.is_some() {}
    }

    /// Begins a round for every transaction whose clock has run out, once.
    fn check_timeouts(&mut self) {
        while self.diagnosis_tasks.try_join_next().is_some() {}
        let now = now();
        for flight in self.context.in_flight.all() {
            let passed = flight.status().start_timeout(now, self.context.settings.confirmation_timeout);
            if passed {
                self.diagnosis_tasks.spawn(handle_timeout(self.context.clone(), flight));
            }
        }
    }
}

/// Diagnoses, writes, reports and tells.
async fn handle_timeout(tools: Context, flight: Arc<PendingTx>) {
    let round = tools.diagnose_fresh(&flight).await;
    let at = now();
    let written = persist_timeout(&tools, &flight, &round, at).await;
    flight.status().mark_timed_out();
    if !written {
        return;
    }
    let timed_out = timeout_report(&tools, &flight, &round, at);
    let late = {
        let mut journeys = flight.traces();
        let late = journeys.iter_mut().map(|journey| {
            let span_id = journey.on_timeout(round.diagnosis.cause, timed_out.confirmations, at);
            journey.affected(span_id)
        });
        late.collect::<Vec<_>>()
    };
    events::confirmation_timeout(&TransactionTimeoutError::reports(timed_out, late));
    tools.waiters.notify_changed(&flight.members).await;
}

/// Writes the timeout, as long as it takes; `false` when the transaction was settled in the meantime, and was not late.
async fn persist_timeout(tools: &Context, flight: &PendingTx, round: &DiagnosisRun, at: Timestamp) -> bool {
    let mut delays = Backoff::new();
    while tools.in_flight.contains(flight) {
        match tools.store.mark_timed_out(flight.id, &round.diagnosis, at).await {
            Ok(late) => return late,
            Err(StoreError::Closed) => return false,
            Err(error) => {
                log_retry!(error, transaction_id = %flight.id, "a timeout could not be written and is tried again");
                tokio::time::sleep(delays.next_delay()).await;
            }
        }
    }
    false
}

fn timeout_report(tools: &Context, flight: &PendingTx, round: &DiagnosisRun, at: Timestamp) -> TimedOutTransaction {
    let (sent, submitted_block, history) = {
        let progress = flight.status();
        (progress.submitted_at().unwrap_or(flight.signed_at), progress.accepted_by().head, progress.history().to_vec())
    };
    let (tx_hash, fees) = flight.latest();
    let versions = flight.versions();
    let chain = &round.evidence.chain;
    let head = chain.head;
    let depth = |block: u64| head.map_or(0, |head| (head.number + 1).saturating_sub(block));
    let (confirmations, state) = match &round.evidence.subject {
        Subject::Included { block, .. } => (depth(*block), State::Included.code()),
        Subject::Unsent(_) => (0, State::Signed.code()),
        Subject::Submitted(_) => (0, State::Submitted.code()),
    };
    let network = tools.chain.network();
    TimedOutTransaction {
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
