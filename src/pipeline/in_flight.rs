//! The pending transactions (signed, and neither confirmed nor requeued), in memory: shared by senders and follower.

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

/// A block may include any of the attempts.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    /// The latest last; never empty.
    pub(super) attempts: Vec<Attempt>,
    /// Of the latest attempt.
    pub(super) gas_limit: u64,
    /// The latest attempt registers this many of the members, the first ones: a split reduces it.
    pub(super) batch_size: usize,
}

impl Versions {
    pub(super) fn summary(&self, (from, nonce): (Address, u64), signed_at: Timestamp) -> TxSummary {
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

#[derive(Debug)]
pub(super) struct PendingTx {
    pub(super) id: TransactionId,
    pub(super) signer: Address,
    pub(super) nonce: u64,
    /// Of the first attempt.
    pub(super) signed_at: Timestamp,
    /// The registrations tied to its nonce, in the order of the batch.
    pub(super) members: Vec<RegistrationId>,
    versions: Mutex<Arc<Versions>>,
    traces: Mutex<Vec<RegistrationTrace>>,
    status: Mutex<TxStatus>,
}

impl PendingTx {
    pub(super) fn new(
        id: TransactionId,
        (signer, nonce): (Address, u64),
        signed_at: Timestamp,
        versions: Versions,
        traces: Vec<RegistrationTrace>,
        status: TxStatus,
    ) -> Self {
        let members = traces.iter().map(|trace| trace.member.id).collect();
        let tx = Self {
            id,
            signer,
            nonce,
            signed_at,
            members,
            versions: Mutex::new(Arc::new(versions)),
            traces: Mutex::new(traces),
            status: Mutex::new(status),
        };
        let (hash, batch) = (tx.latest().0, tx.members.len());
        tx.add_history(format!("signed: {hash} with nonce {nonce}, in a batch of {batch}"), signed_at);
        tx
    }

    /// Never held across an await.
    pub(super) fn traces(&self) -> MutexGuard<'_, Vec<RegistrationTrace>> {
        self.traces.lock()
    }

    /// Never held across an await.
    pub(super) fn status(&self) -> MutexGuard<'_, TxStatus> {
        self.status.lock()
    }

    /// Hash and fees of the latest attempt.
    pub(super) fn latest(&self) -> (B256, Fees) {
        let summary = self.summary();
        (summary.hash, summary.fees)
    }

    pub(super) fn versions(&self) -> Arc<Versions> {
        self.versions.lock().clone()
    }

    /// Called when the attempt is stored, before it is sent.
    pub(super) fn push_attempt(&self, attempt: Attempt, gas_limit: u64, batch_size: usize) {
        let mut versions = self.versions.lock();
        let attempts = versions.attempts.iter().cloned().chain([attempt]).collect();
        *versions = Arc::new(Versions { attempts, gas_limit, batch_size });
    }

    pub(super) fn add_history(&self, step: String, at: Timestamp) {
        self.status().add_history(step, at);
    }

    /// Records the answer to a broadcast. An endpoint that did not answer has neither accepted nor rejected the bytes.
    pub(super) fn record_send_result(&self, result: &Result<BroadcastResult, CallError>, at: Timestamp) {
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

    /// One registration, for a report about all.
    pub(super) fn sample_affected(&self) -> Option<AffectedRegistration> {
        self.traces().first().map(|trace| trace.affected(trace.span_id()))
    }

    pub(super) fn summary(&self) -> TxSummary {
        self.versions().summary((self.signer, self.nonce), self.signed_at)
    }
}

#[derive(Debug)]
pub(super) struct PendingTxs {
    by_nonce: Mutex<BTreeMap<(Address, u64), Arc<PendingTx>>>,
    changed: watch::Sender<u64>,
}

impl Default for PendingTxs {
    fn default() -> Self {
        Self { by_nonce: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl PendingTxs {
    pub(super) fn insert(&self, tx: Arc<PendingTx>) {
        self.by_nonce.lock().insert((tx.signer, tx.nonce), tx);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn remove(&self, tx: &PendingTx) {
        self.by_nonce.lock().remove(&(tx.signer, tx.nonce));
        self.changed.send_modify(|count| *count += 1);
    }

    /// By signer and nonce.
    pub(super) fn all(&self) -> Vec<Arc<PendingTx>> {
        self.by_nonce.lock().values().cloned().collect()
    }

    /// By nonce.
    pub(super) fn of_signer(&self, signer: Address) -> Vec<Arc<PendingTx>> {
        self.by_nonce.lock().range((signer, 0)..=(signer, u64::MAX)).map(|(_, tx)| tx.clone()).collect()
    }

    pub(super) fn get(&self, signer: Address, nonce: u64) -> Option<Arc<PendingTx>> {
        self.by_nonce.lock().get(&(signer, nonce)).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.by_nonce.lock().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn contains(&self, tx: &PendingTx) -> bool {
        self.by_nonce.lock().contains_key(&(tx.signer, tx.nonce))
    }

    /// Notifies the subscribers although nothing changed here: the follower has other work.
    pub(super) fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Changes with every transaction that is inserted or removed.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
