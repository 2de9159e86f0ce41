//! The pending transactions (signed, and neither confirmed nor given up), in memory: shared by senders and follower.

use super::{
    registration_trace::{RegistrationTrace, TxSummary},
    rejection::node_rejection,
    tx_state::TxStatus,
};
use crate::{
    chain::{BroadcastResult, CallError},
    registration::{RegistrationId, Timestamp, TransactionId, policy::fees::Fees},
    store::Attempt,
    telemetry::AffectedRegistration,
};
use alloy::primitives::{Address, B256};
use parking_lot::{Mutex, MutexGuard};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// A transaction's signed versions. Any of them may be the one that is included.
#[derive(Clone, Debug)]
pub struct Versions {
    /// Every one, the latest last; never empty.
    pub attempts: Vec<Attempt>,
    /// The latest one's gas limit.
    pub gas_limit: u64,
    /// How many of the members the latest one registers: the first so many, for one that was too large is split.
    pub batch_size: usize,
}

impl Versions {
    pub fn summary(&self, (from, nonce): (Address, u64), signed_at: Timestamp) -> TxSummary {
        const NONE: Fees = Fees { max_fee_per_gas: 0, max_priority_fee_per_gas: 0 };
        let (hash, fees) = self.attempts.last().map_or((B256::ZERO, NONE), |latest| (latest.hash, latest.fees));
        TxSummary {
            from,
            nonce,
            batch_size: self.batch_size,
            gas_limit: self.gas_limit,
            hash,
            fees,
            attempt: self.attempts.len(),
            signed_at,
        }
    }
}

/// A transaction that is signed and not settled.
#[derive(Debug)]
pub struct PendingTx {
    /// Its id in the store.
    pub id: TransactionId,
    /// Who signed it.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// When its first bytes were on disk.
    pub signed_at: Timestamp,
    /// The registrations tied to its nonce, in the order of the batch.
    pub members: Vec<RegistrationId>,
    versions: Mutex<Arc<Versions>>,
    traces: Mutex<Vec<RegistrationTrace>>,
    status: Mutex<TxStatus>,
}

impl PendingTx {
    /// A transaction with the journeys it carries.
    pub fn new(
        id: TransactionId,
        (signer, nonce): (Address, u64),
        signed: Timestamp,
        versions: Versions,
        journeys: Vec<RegistrationTrace>,
        progress: TxStatus,
    ) -> Self {
        let members = journeys.iter().map(|journey| journey.member.id).collect();
        let flight = Self {
            id,
            signer,
            nonce,
            signed_at: signed,
            members,
            versions: Mutex::new(Arc::new(versions)),
            traces: Mutex::new(journeys),
            status: Mutex::new(progress),
        };
        let (hash, batch) = (flight.latest().0, flight.members.len());
        flight.add_history(format!("signed: {hash} with nonce {nonce}, in a batch of {batch}"), signed);
        flight
    }

    /// The journeys; never held across an await.
    pub fn traces(&self) -> MutexGuard<'_, Vec<RegistrationTrace>> {
        self.traces.lock()
    }

    /// Where it is; never held across an await.
    pub fn status(&self) -> MutexGuard<'_, TxStatus> {
        self.status.lock()
    }

    /// Hash and offer of its latest version.
    pub fn latest(&self) -> (B256, Fees) {
        let summary = self.summary();
        (summary.hash, summary.fees)
    }

    /// Its signed versions, as they are now.
    pub fn versions(&self) -> Arc<Versions> {
        self.versions.lock().clone()
    }

    /// Another version is on disk, and counts from now on; nobody has it yet.
    pub fn push_attempt(&self, attempt: Attempt, gas_limit: u64, batch_size: usize) {
        let mut versions = self.versions.lock();
        let attempts = versions.attempts.iter().cloned().chain([attempt]).collect();
        *versions = Arc::new(Versions { attempts, gas_limit, batch_size });
    }

    pub fn add_history(&self, step: String, at: Timestamp) {
        self.status().add_history(step, at);
    }

    /// Records the answer to a broadcast. An endpoint that did not answer has neither accepted nor rejected the bytes.
    pub fn record_send_result(&self, result: &Result<BroadcastResult, CallError>, at: Timestamp) {
        let mut status = self.status();
        match result {
            Ok(sent) => {
                status.add_history(format!("sent: accepted by {}", sent.endpoint), at);
                status.record_acceptance(&sent.endpoint);
            }
            Err(error) => {
                status.add_history(format!("not accepted: {error}"), at);
                match error {
                    CallError::Rejected { .. } => status.record_rejection(node_rejection(error, at)),
                    CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => {}
                }
            }
        }
    }

    /// One of those it carries, for a report that stands for all.
    pub fn sample_affected(&self) -> Option<AffectedRegistration> {
        self.traces().first().map(|journey| journey.affected(journey.span_id()))
    }

    pub fn summary(&self) -> TxSummary {
        self.versions().summary((self.signer, self.nonce), self.signed_at)
    }
}

/// All of them.
#[derive(Debug)]
pub struct PendingTxs {
    by_nonce: Mutex<BTreeMap<(Address, u64), Arc<PendingTx>>>,
    changed: watch::Sender<u64>,
}

impl Default for PendingTxs {
    fn default() -> Self {
        Self { by_nonce: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl PendingTxs {
    /// Adds one.
    pub fn insert(&self, flight: Arc<PendingTx>) {
        self.by_nonce.lock().insert((flight.signer, flight.nonce), flight);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes one out: it is settled.
    pub fn remove(&self, flight: &PendingTx) {
        self.by_nonce.lock().remove(&(flight.signer, flight.nonce));
        self.changed.send_modify(|count| *count += 1);
    }

    /// All, by signer and nonce.
    pub fn all(&self) -> Vec<Arc<PendingTx>> {
        self.by_nonce.lock().values().cloned().collect()
    }

    /// I10 limits this.
    pub(super) fn count_of_signer(&self, signer: Address) -> usize {
        self.by_nonce.lock().range((signer, 0)..=(signer, u64::MAX)).count()
    }

    /// One signer's, by nonce.
    pub fn of_signer(&self, signer: Address) -> Vec<Arc<PendingTx>> {
        self.by_nonce.lock().range((signer, 0)..=(signer, u64::MAX)).map(|(_, flight)| flight.clone()).collect()
    }

    /// One signer's with this nonce.
    pub fn get(&self, signer: Address, nonce: u64) -> Option<Arc<PendingTx>> {
        self.by_nonce.lock().get(&(signer, nonce)).cloned()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_nonce.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this one is still out.
    pub fn contains(&self, flight: &PendingTx) -> bool {
        self.by_nonce.lock().contains_key(&(flight.signer, flight.nonce))
    }

    /// Tells as if one had come: there is something to be looked at.
    pub fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Told whenever one comes or goes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
