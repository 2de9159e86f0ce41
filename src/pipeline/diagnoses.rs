//! One diagnosis at a time of whatever is asked about, and its answer kept for a moment: a stuck document attracts many who
//! ask, and all of them together cost one round of questions.

use super::{
    Tools, evidence,
    flights::{Flight, Phase, lock},
    recovery,
};
use crate::registration::{
    Blocked, Diagnosis, Registration, RegistrationId, State, TransactionId,
    diagnosis::{Evidence, Hindrance, diagnose},
};
use alloy::primitives::Address;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::OnceCell, time::Instant};

/// An answer is kept this long.
const KEPT: Duration = Duration::from_secs(2);

/// What is asked about: a transaction with all it carries, or a registration that none carries. As it stands: when it moves,
/// the old answer is none any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key {
    Transaction(TransactionId, Phase, Option<Blocked>),
    Registration(RegistrationId, Option<Blocked>),
}

/// A diagnosis with all that it was made from.
#[derive(Clone, Debug)]
pub struct Round {
    /// What was seen.
    pub evidence: Evidence,
    /// What it means.
    pub diagnosis: Diagnosis,
}

impl Round {
    fn of(evidence: Evidence) -> Self {
        Self { diagnosis: diagnose(&evidence), evidence }
    }
}

/// What was asked a moment ago, or is being asked, by what it is about.
#[derive(Debug)]
struct Shared<K, V>(Mutex<HashMap<K, Cell<V>>>);

type Cell<V> = Arc<OnceCell<(Instant, V)>>;

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Shared<K, V> {
    /// The answer about this that is on its way or has just come, else a new one. If whoever makes it hangs up, the next who
    /// waits begins again.
    async fn get(&self, key: K, answer: impl Future<Output = V>) -> V {
        let cell = {
            let mut cells = lock(&self.0);
            cells.retain(|_, cell| match cell.get() {
                Some((ended, _)) => ended.elapsed() < KEPT,
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
    fn renew(&self, key: K) {
        lock(&self.0).retain(|other, cell| *other != key || cell.get().is_none());
    }
}

/// The rounds that are going on, and those that have just ended.
#[derive(Debug, Default)]
pub struct Diagnoses {
    rounds: Shared<Key, Arc<Round>>,
    hindrances: Shared<Blocked, Option<Hindrance>>,
}

impl Diagnoses {
    /// What stands in the way of all that is blocked by this, whichever of it is asked about.
    pub(super) async fn hindrance(
        &self,
        blocked: Blocked,
        rehearsed: impl Future<Output = Option<Hindrance>>,
    ) -> Option<Hindrance> {
        self.hindrances.get(blocked, rehearsed).await
    }
}

impl Tools {
    /// Why a transaction is not confirmed.
    pub(super) async fn diagnose(&self, flight: &Flight, blocked: Option<Blocked>) -> Arc<Round> {
        let round = async { Round::of(evidence::of_flight(self, flight, blocked).await) };
        match key_of(flight, blocked) {
            // Nobody is asked about what only waits for its depth, so that it costs nothing to look anew.
            Key::Transaction(_, Phase::Included { block, .. }, _) if !evidence::is_deep(self, &block) => {
                Arc::new(round.await)
            }
            key @ (Key::Transaction(..) | Key::Registration(..)) => {
                self.diagnoses.rounds.get(key, async { Arc::new(round.await) }).await
            }
        }
    }

    /// Why a transaction is not confirmed, seen now; the same for those who ask next.
    pub(super) async fn diagnose_anew(&self, flight: &Flight) -> Arc<Round> {
        self.diagnoses.rounds.renew(key_of(flight, None));
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
        let key = carrier.and_then(|carrier| Some((carrier.from, carrier.ours.as_ref()?.nonce)));
        let blocked = registration.blocked;
        let carried = match key {
            Some((signer, nonce)) => {
                let seen = self.with_work_of(&[signer], Some(nonce)).await;
                seen.flights.get(signer, nonce).map(|flight| (seen, flight))
            }
            None => None,
        };
        let round = match carried {
            Some((seen, flight)) => seen.diagnose(&flight, blocked).await,
            None => {
                // It may wait for what any of them has out.
                let round = async {
                    let seen = self.with_work_of(signers, None).await;
                    Arc::new(Round::of(evidence::of_queued(&seen, registration, signers).await))
                };
                self.diagnoses.rounds.get(Key::Registration(registration.id, blocked), round).await
            }
        };
        Some(round.diagnosis.clone())
    }

    /// The same tools, with what those of these signers have out that another replica acts for: in outlines, as the store knows it,
    /// but for the one with this nonce, of which all that it carries is looked at.
    async fn with_work_of(&self, signers: &[Address], whole: Option<u64>) -> Self {
        let strange: Vec<Address> = signers.iter().copied().filter(|signer| !self.store.holds(*signer)).collect();
        if strange.is_empty() {
            return self.clone();
        }
        let tools = Self { flights: Arc::default(), ..self.clone() };
        self.flights.all().into_iter().for_each(|flight| tools.flights.insert(flight));
        for signer in strange {
            match self.store.outlines(signer, whole).await {
                Ok(open) => open.into_iter().for_each(|open| recovery::take_up(&tools, open, None)),
                Err(error) => crate::telemetry::hindered!(error, %signer, "what a signer has out could not be read"),
            }
        }
        tools
    }
}

fn key_of(flight: &Flight, blocked: Option<Blocked>) -> Key {
    let phase = flight.progress().phase;
    Key::Transaction(flight.id, phase, blocked)
}
