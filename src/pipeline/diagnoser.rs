//! Runs one diagnosis at a time per subject and caches its result briefly: many callers may ask about a stuck document,
//! and together they cost one set of RPC calls.

use super::{
    caller_budget::CallerBudget,
    evidence::{self, Sources},
    in_flight::{PendingTx, PendingTxs},
    resume::Tracker,
    single_flight::SingleFlight,
    tx_state::TxPhase,
};
use crate::{
    registration::{
        BlockedReason, Diagnosis, Pair, Registration, RegistrationId, State, TransactionId,
        diagnosis::{Evidence, diagnose},
    },
    telemetry::log_retry,
};
use alloy::primitives::Address;
use std::sync::Arc;

/// The subject of a diagnosis: a transaction with all its registrations, or a registration without a transaction. Its
/// state is part of the key, so that a change of state makes the cached diagnosis unreachable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum DiagnosisKey {
    Transaction(TransactionId, TxPhase, Option<BlockedReason>),
    Registration(RegistrationId, Option<BlockedReason>),
}

#[derive(Clone, Debug)]
pub(super) struct DiagnosisRun {
    pub(super) evidence: Evidence,
    pub(super) diagnosis: Diagnosis,
}

impl DiagnosisRun {
    fn new(evidence: Evidence) -> Self {
        Self { diagnosis: diagnose(&evidence), evidence }
    }
}

/// Explains why registrations are not confirmed.
#[derive(Clone, Debug)]
pub(super) struct Diagnoser {
    sources: Sources,
    tracker: Tracker,
    runs: Arc<SingleFlight<DiagnosisKey, Arc<DiagnosisRun>>>,
    budget: CallerBudget,
}

/// RPC calls of a diagnosis: about the mean of what the kinds of subjects need.
const DIAGNOSIS_CALLS: u32 = 8;

/// Who asks for a diagnosis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    /// Within the callers' budget.
    Caller,
    /// The confirmation timeout.
    Pipeline,
}

impl Diagnoser {
    pub(super) fn new(sources: Sources, tracker: Tracker, budget: CallerBudget) -> Self {
        Self { sources, tracker, runs: Arc::default(), budget }
    }

    async fn diagnose(&self, tx: &PendingTx, blocked: Option<BlockedReason>, asker: Asker) -> Arc<DiagnosisRun> {
        let collect =
            async || Arc::new(DiagnosisRun::new(evidence::collect_for_pending(&self.sources, tx, blocked).await));
        let within_budget = async {
            let _slot = match asker {
                Asker::Caller => self.budget.take(DIAGNOSIS_CALLS).await,
                Asker::Pipeline => None,
            };
            collect().await
        };
        match diagnosis_key(tx, blocked) {
            // It only waits for confirmations: the evidence comes from memory and is not worth caching.
            DiagnosisKey::Transaction(_, TxPhase::Included { block, .. }, _)
                if !evidence::is_at_confirmation_depth(&self.sources, &block) =>
            {
                collect().await
            }
            key @ (DiagnosisKey::Transaction(..) | DiagnosisKey::Registration(..)) => {
                self.runs.get(key, within_budget).await
            }
        }
    }

    /// As [`Self::diagnose`], but not from the cache: at most it joins a running diagnosis.
    pub(super) async fn diagnose_fresh(&self, tx: &PendingTx) -> Arc<DiagnosisRun> {
        self.runs.invalidate(diagnosis_key(tx, None));
        self.diagnose(tx, None, Asker::Pipeline).await
    }

    /// As [`Self::diagnose_fresh`], of a signed transaction that no node has accepted.
    pub(super) async fn diagnose_unsent(&self, tx: &PendingTx, blocked: Option<BlockedReason>) -> Arc<DiagnosisRun> {
        self.runs.invalidate(diagnosis_key(tx, blocked));
        self.diagnose(tx, blocked, Asker::Pipeline).await
    }

    /// Why registrations with this blocked reason are still queued. `pair` is that of one of them; what is true of it
    /// alone is left out.
    pub(super) async fn diagnose_queue(
        &self,
        blocked: Option<BlockedReason>,
        pair: &Pair,
        signers: &[Address],
    ) -> DiagnosisRun {
        let sources = self.with_remote_pending(signers, None).await.sources;
        DiagnosisRun::new(evidence::collect_for_queue(&sources, (blocked, pair), None, signers).await)
    }

    /// Why a registration is not confirmed; `None` if it is confirmed or failed.
    pub(super) async fn diagnose_registration(
        &self,
        registration: &Registration,
        signers: &[Address],
    ) -> Option<Diagnosis> {
        let transaction = match registration.state {
            State::Confirmed | State::Failed => return None,
            State::Queued => None,
            State::Signed | State::Submitted | State::Included => registration.transaction.as_ref(),
        };
        let key = transaction.and_then(|transaction| Some((transaction.from, transaction.own.as_ref()?.nonce)));
        let blocked = registration.blocked_reason;
        let pending = match key {
            Some((signer, nonce)) => {
                let diagnoser = self.with_remote_pending(&[signer], Some(nonce)).await;
                diagnoser.sources.in_flight.get(signer, nonce).map(|tx| (diagnoser, tx))
            }
            None => None,
        };
        let run = match pending {
            Some((diagnoser, tx)) => diagnoser.diagnose(&tx, blocked, Asker::Caller).await,
            None => {
                // It may wait for a pending transaction of any signer.
                let run = async {
                    let _slot = self.budget.take(DIAGNOSIS_CALLS).await;
                    let diagnoser = self.with_remote_pending(signers, None).await;
                    Arc::new(DiagnosisRun::new(
                        evidence::collect_for_queued(&diagnoser.sources, registration, signers).await,
                    ))
                };
                self.runs.get(DiagnosisKey::Registration(registration.id, blocked), run).await
            }
        };
        Some(run.diagnosis.clone())
    }

    /// A diagnoser that also sees the pending transactions of the signers whose lease another replica holds. They are
    /// loaded from the store as summaries, except the one with the nonce `whole`, which has all its registrations.
    async fn with_remote_pending(&self, signers: &[Address], whole: Option<u64>) -> Self {
        let store = &self.sources.store;
        let remote: Vec<Address> = signers.iter().copied().filter(|signer| !store.holds_lease(*signer)).collect();
        if remote.is_empty() {
            return self.clone();
        }
        let in_flight = Arc::<PendingTxs>::default();
        self.sources.in_flight.all().into_iter().for_each(|tx| in_flight.insert(tx));
        let tracker = self.tracker.with_in_flight(in_flight.clone());
        for signer in remote {
            match store.open_transaction_summaries(signer, whole).await {
                Ok(open) => open.into_iter().for_each(|open| tracker.track(open, None)),
                Err(error) => log_retry!(error, %signer, "failed to load pending transactions"),
            }
        }
        Self { sources: Sources { in_flight, ..self.sources.clone() }, ..self.clone() }
    }
}

fn diagnosis_key(tx: &PendingTx, blocked: Option<BlockedReason>) -> DiagnosisKey {
    let phase = tx.status().phase();
    DiagnosisKey::Transaction(tx.id, phase, blocked)
}
