//! Runs one diagnosis at a time per subject and caches its result briefly: many callers may ask about a stuck document,
//! and together they cost one set of RPC calls.

use super::{Context, evidence, in_flight::PendingTx, resume, tx_state::TxPhase};
use crate::{
    registration::{
        BlockedReason, Diagnosis, Registration, RegistrationId, State, TransactionId,
        diagnosis::{Blocker, Evidence, diagnose},
    },
    telemetry::log_retry,
};
use alloy::primitives::Address;
use parking_lot::Mutex;
use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};
use tokio::{sync::OnceCell, time::Instant};

const DIAGNOSIS_TTL: Duration = Duration::from_secs(2);

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

/// Shares the result of a computation with the callers that wait for it, and with later ones for [`DIAGNOSIS_TTL`].
#[derive(Debug)]
struct SingleFlight<K, V>(Mutex<HashMap<K, CacheCell<V>>>);

type CacheCell<V> = Arc<OnceCell<(Instant, V)>>;

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// If the caller that computes the result is cancelled, the next waiting one starts again.
    async fn get(&self, key: K, compute: impl Future<Output = V>) -> V {
        let cell = {
            let mut cells = self.0.lock();
            cells.retain(|_, cell| match cell.get() {
                Some((ended, _)) => ended.elapsed() < DIAGNOSIS_TTL,
                None => Arc::strong_count(cell) > 1,
            });
            cells.entry(key).or_default().clone()
        };
        let computed = cell.get_or_init(async || {
            let value = compute.await;
            (Instant::now(), value)
        });
        computed.await.1.clone()
    }

    /// Drops the cached result of this key; a running computation continues.
    fn invalidate(&self, key: K) {
        self.0.lock().retain(|other, cell| *other != key || cell.get().is_none());
    }
}

#[derive(Debug, Default)]
pub(super) struct DiagnosisCache {
    runs: SingleFlight<DiagnosisKey, Arc<DiagnosisRun>>,
    blockers: SingleFlight<BlockedReason, Option<Blocker>>,
}

impl DiagnosisCache {
    /// The blocker behind a blocked reason. Shared by every registration with this reason.
    pub(super) async fn blocker(
        &self,
        blocked: BlockedReason,
        preflight: impl Future<Output = Option<Blocker>>,
    ) -> Option<Blocker> {
        self.blockers.get(blocked, preflight).await
    }
}

impl Context {
    pub(super) async fn diagnose(&self, tx: &PendingTx, blocked: Option<BlockedReason>) -> Arc<DiagnosisRun> {
        let run = async { DiagnosisRun::new(evidence::collect_for_pending(self, tx, blocked).await) };
        match diagnosis_key(tx, blocked) {
            // It only waits for confirmations: the evidence comes from memory and is not worth caching.
            DiagnosisKey::Transaction(_, TxPhase::Included { block, .. }, _)
                if !evidence::is_at_confirmation_depth(self, &block) =>
            {
                Arc::new(run.await)
            }
            key @ (DiagnosisKey::Transaction(..) | DiagnosisKey::Registration(..)) => {
                self.diagnosis_cache.runs.get(key, async { Arc::new(run.await) }).await
            }
        }
    }

    /// As [`Self::diagnose`], but not from the cache: at most it joins a running diagnosis.
    pub(super) async fn diagnose_fresh(&self, tx: &PendingTx) -> Arc<DiagnosisRun> {
        self.diagnosis_cache.runs.invalidate(diagnosis_key(tx, None));
        self.diagnose(tx, None).await
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
                let context = self.with_remote_pending(&[signer], Some(nonce)).await;
                context.in_flight.get(signer, nonce).map(|tx| (context, tx))
            }
            None => None,
        };
        let run = match pending {
            Some((context, tx)) => context.diagnose(&tx, blocked).await,
            None => {
                // It may wait for a pending transaction of any signer.
                let run = async {
                    let context = self.with_remote_pending(signers, None).await;
                    Arc::new(DiagnosisRun::new(evidence::collect_for_queued(&context, registration, signers).await))
                };
                self.diagnosis_cache.runs.get(DiagnosisKey::Registration(registration.id, blocked), run).await
            }
        };
        Some(run.diagnosis.clone())
    }

    /// A context that also has the pending transactions of the signers whose lease another replica holds. They are
    /// loaded from the store as summaries, except the one with the nonce `whole`, which has all its registrations.
    async fn with_remote_pending(&self, signers: &[Address], whole: Option<u64>) -> Self {
        let remote: Vec<Address> = signers.iter().copied().filter(|signer| !self.store.holds_lease(*signer)).collect();
        if remote.is_empty() {
            return self.clone();
        }
        let context = Self { in_flight: Arc::default(), ..self.clone() };
        self.in_flight.all().into_iter().for_each(|tx| context.in_flight.insert(tx));
        for signer in remote {
            match self.store.open_transaction_summaries(signer, whole).await {
                Ok(open) => open.into_iter().for_each(|open| resume::track(&context, open, None)),
                Err(error) => log_retry!(error, %signer, "failed to load pending transactions"),
            }
        }
        context
    }
}

fn diagnosis_key(tx: &PendingTx, blocked: Option<BlockedReason>) -> DiagnosisKey {
    let phase = tx.status().phase();
    DiagnosisKey::Transaction(tx.id, phase, blocked)
}
