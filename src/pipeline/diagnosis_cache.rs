//! One diagnosis at a time of whatever is asked about, and its answer kept for a moment: a stuck document attracts many who
//! ask, and all of them together cost one round of questions.

use super::{Context, evidence, in_flight::PendingTx, resume, tx_state::TxPhase};
use crate::registration::{
    BlockedReason, Diagnosis, Registration, RegistrationId, State, TransactionId,
    diagnosis::{Blocker, Evidence, diagnose},
};
use alloy::primitives::Address;
use parking_lot::Mutex;
use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};
use tokio::{sync::OnceCell, time::Instant};

/// An answer is kept this long.
const DIAGNOSIS_TTL: Duration = Duration::from_secs(2);

/// What is asked about: a transaction with all it carries, or a registration that none carries. As it stands: when it moves,
/// the old answer is none any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum DiagnosisKey {
    Transaction(TransactionId, TxPhase, Option<BlockedReason>),
    Registration(RegistrationId, Option<BlockedReason>),
}

/// A diagnosis with all that it was made from.
#[derive(Clone, Debug)]
pub struct DiagnosisRun {
    /// What was seen.
    pub evidence: Evidence,
    /// What it means.
    pub diagnosis: Diagnosis,
}

impl DiagnosisRun {
    fn new(evidence: Evidence) -> Self {
        Self { diagnosis: diagnose(&evidence), evidence }
    }
}

/// What was asked a moment ago, or is being asked, by what it is about.
#[derive(Debug)]
struct SingleFlight<K, V>(Mutex<HashMap<K, CacheCell<V>>>);

type CacheCell<V> = Arc<OnceCell<(Instant, V)>>;

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// The answer about this that is on its way or has just come, else a new one. If whoever makes it hangs up, the next who
    /// waits begins again.
    async fn get(&self, key: K, answer: impl Future<Output = V>) -> V {
        let cell = {
            let mut cells = self.0.lock();
            cells.retain(|_, cell| match cell.get() {
                Some((ended, _)) => ended.elapsed() < DIAGNOSIS_TTL,
                None => Arc::strong_count(cell) > 1,
            });
            cells.entry(key).or_default().clone()
        };
        let made = cell.get_or_init(async || {
            let answer = answer.await;
            (Instant::now(), answer)
        });
        made.await.1.clone()
    }

    /// Forgets the answer about this, so that the next one is new; one that is on its way stays.
    fn invalidate(&self, key: K) {
        self.0.lock().retain(|other, cell| *other != key || cell.get().is_none());
    }
}

/// The rounds that are going on, and those that have just ended.
#[derive(Debug, Default)]
pub struct DiagnosisCache {
    runs: SingleFlight<DiagnosisKey, Arc<DiagnosisRun>>,
    blockers: SingleFlight<BlockedReason, Option<Blocker>>,
}

impl DiagnosisCache {
    /// What stands in the way of all that is blocked by this, whichever of it is asked about.
    pub(super) async fn blocker(
        &self,
        blocked: BlockedReason,
        rehearsed: impl Future<Output = Option<Blocker>>,
    ) -> Option<Blocker> {
        self.blockers.get(blocked, rehearsed).await
    }
}

impl Context {
    /// Why a transaction is not confirmed.
    pub(super) async fn diagnose(&self, flight: &PendingTx, blocked: Option<BlockedReason>) -> Arc<DiagnosisRun> {
        let round = async { DiagnosisRun::new(evidence::collect_for_pending(self, flight, blocked).await) };
        match diagnosis_key(flight, blocked) {
            // Nobody is asked about what only waits for its depth, so that it costs nothing to look anew.
            DiagnosisKey::Transaction(_, TxPhase::Included { block, .. }, _)
                if !evidence::is_at_confirmation_depth(self, &block) =>
            {
                Arc::new(round.await)
            }
            key @ (DiagnosisKey::Transaction(..) | DiagnosisKey::Registration(..)) => {
                self.diagnosis_cache.runs.get(key, async { Arc::new(round.await) }).await
            }
        }
    }

    /// Why a transaction is not confirmed, seen now; the same for those who ask next.
    pub(super) async fn diagnose_fresh(&self, flight: &PendingTx) -> Arc<DiagnosisRun> {
        self.diagnosis_cache.runs.invalidate(diagnosis_key(flight, None));
        self.diagnose(flight, None).await
    }

    /// Why a registration is not confirmed; `None` when it is settled.
    pub(super) async fn diagnose_registration(
        &self,
        registration: &Registration,
        signers: &[Address],
    ) -> Option<Diagnosis> {
        let carrier = match registration.state {
            State::Confirmed | State::Failed => return None,
            State::Queued => None,
            State::Signed | State::Submitted | State::Included => registration.transaction.as_ref(),
        };
        let key = carrier.and_then(|carrier| Some((carrier.from, carrier.own.as_ref()?.nonce)));
        let blocked = registration.blocked_reason;
        let carried = match key {
            Some((signer, nonce)) => {
                let seen = self.with_remote_pending(&[signer], Some(nonce)).await;
                seen.in_flight.get(signer, nonce).map(|flight| (seen, flight))
            }
            None => None,
        };
        let round = match carried {
            Some((seen, flight)) => seen.diagnose(&flight, blocked).await,
            None => {
                // It may wait for what any of them has out.
                let round = async {
                    let seen = self.with_remote_pending(signers, None).await;
                    Arc::new(DiagnosisRun::new(evidence::collect_for_queued(&seen, registration, signers).await))
                };
                self.diagnosis_cache.runs.get(DiagnosisKey::Registration(registration.id, blocked), round).await
            }
        };
        Some(round.diagnosis.clone())
    }

    /// The same tools, with what those of these signers have out that another replica acts for: in outlines, as the store knows it,
    /// but for the one with this nonce, of which all that it carries is looked at.
    async fn with_remote_pending(&self, signers: &[Address], whole: Option<u64>) -> Self {
        let strange: Vec<Address> = signers.iter().copied().filter(|signer| !self.store.holds_lease(*signer)).collect();
        if strange.is_empty() {
            return self.clone();
        }
        let tools = Self { in_flight: Arc::default(), ..self.clone() };
        self.in_flight.all().into_iter().for_each(|flight| tools.in_flight.insert(flight));
        for signer in strange {
            match self.store.open_transaction_summaries(signer, whole).await {
                Ok(open) => open.into_iter().for_each(|open| resume::track(&tools, open, None)),
                Err(error) => crate::telemetry::log_retry!(error, %signer, "what a signer has out could not be read"),
            }
        }
        tools
    }
}

fn diagnosis_key(flight: &PendingTx, blocked: Option<BlockedReason>) -> DiagnosisKey {
    let phase = flight.status().phase();
    DiagnosisKey::Transaction(flight.id, phase, blocked)
}
