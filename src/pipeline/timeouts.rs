//! The confirmation timeout: one diagnosis and one set of reports per transaction, however many callers wait. It ends
//! their waits, never the registrations.

use super::{Context, diagnosis_cache::DiagnosisRun, in_flight::PendingTx, now};
use crate::{
    chain::Backoff,
    registration::{State, Timestamp, diagnosis::Subject},
    store::StoreError,
    telemetry::{TimedOutTransaction, TransactionTimeoutError, events, log_retry},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// While transactions are pending.
const TIMEOUT_CHECK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct TimeoutWatcher {
    context: Context,
    /// One for each transaction whose timeout has passed and is not reported yet.
    diagnosis_tasks: JoinSet<()>,
}

impl TimeoutWatcher {
    pub(super) fn new(context: Context) -> Self {
        Self { context, diagnosis_tasks: JoinSet::new() }
    }

    /// Runs until `stop`, and then completes the diagnoses that have started, so that every stored timeout is reported.
    pub(super) async fn run(mut self, stop: CancellationToken) {
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

    /// Starts one diagnosis for every transaction whose timeout has passed.
    fn check_timeouts(&mut self) {
        while self.diagnosis_tasks.try_join_next().is_some() {}
        let now = now();
        for tx in self.context.in_flight.all() {
            let passed = tx.status().start_timeout(now, self.context.settings.confirmation_timeout);
            if passed {
                self.diagnosis_tasks.spawn(handle_timeout(self.context.clone(), tx));
            }
        }
    }
}

async fn handle_timeout(context: Context, tx: Arc<PendingTx>) {
    let run = context.diagnose_fresh(&tx).await;
    let at = now();
    let stored = persist_timeout(&context, &tx, &run, at).await;
    tx.status().mark_timed_out();
    if !stored {
        return;
    }
    let timed_out = timeout_report(&context, &tx, &run, at);
    let affected = {
        let mut traces = tx.traces();
        let affected = traces.iter_mut().map(|trace| {
            let span_id = trace.on_timeout(run.diagnosis.cause, timed_out.confirmations, at);
            trace.affected(span_id)
        });
        affected.collect::<Vec<_>>()
    };
    events::confirmation_timeout(&TransactionTimeoutError::reports(timed_out, affected));
    context.waiters.notify_changed(&tx.members).await;
}

/// Retries until the timeout is stored; `false` when the transaction was confirmed or requeued first.
async fn persist_timeout(context: &Context, tx: &PendingTx, run: &DiagnosisRun, at: Timestamp) -> bool {
    let mut backoff = Backoff::new();
    while context.in_flight.contains(tx) {
        match context.store.mark_timed_out(tx.id, &run.diagnosis, at).await {
            Ok(is_late) => return is_late,
            Err(StoreError::Closed) => return false,
            Err(error) => {
                log_retry!(error, transaction_id = %tx.id, "failed to store a confirmation timeout, retrying");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
    false
}

fn timeout_report(context: &Context, tx: &PendingTx, run: &DiagnosisRun, at: Timestamp) -> TimedOutTransaction {
    let (submitted_at, submitted_block, history) = {
        let status = tx.status();
        (status.submitted_at().unwrap_or(tx.signed_at), status.accepted_by().head, status.history().to_vec())
    };
    let (tx_hash, fees) = tx.latest();
    let versions = tx.versions();
    let chain = &run.evidence.chain;
    let head = chain.head;
    let depth = |block: u64| head.map_or(0, |head| (head.number + 1).saturating_sub(block));
    let (confirmations, state) = match &run.evidence.subject {
        Subject::Included { block, .. } => (depth(*block), State::Included.code()),
        Subject::Unsent(_) => (0, State::Signed.code()),
        Subject::Submitted(_) => (0, State::Submitted.code()),
    };
    let network = context.chain.network();
    TimedOutTransaction {
        id: tx.id,
        network: network.name.clone(),
        contract_address: context.chain.contract(),
        tx_hash,
        explorer_url: network.explorer_url(tx_hash),
        from: tx.signer,
        nonce: tx.nonce,
        gas_limit: versions.gas_limit,
        attempts: versions.attempts.len(),
        fees,
        base_fee_per_gas: head.map(|head| head.base_fee),
        submitted_block,
        head_block: head.map(|head| head.number),
        confirmations,
        waited: at.since(submitted_at),
        history,
        state,
        diagnosis: run.diagnosis.clone(),
        endpoints: chain.usable.iter().chain(&chain.unusable).cloned().collect(),
    }
}
