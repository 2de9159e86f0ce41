//! The transactions that are signed and not settled, in memory: what the lanes and the follower share.

use super::{
    Context, evidence, now,
    observations::Observations,
    registration_trace::{RegistrationTrace, TxSummary},
};
use crate::{
    chain::{BroadcastResult, CallError},
    registration::{Block, BlockedReason, RegistrationId, Timestamp, TransactionId, policy::fees::Fees},
    store::Attempt,
    telemetry::{AffectedRegistration, events},
};
use alloy::primitives::{Address, B256};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::watch, time::Instant};

/// So many steps of a transaction are remembered.
const MAX_HISTORY_ENTRIES: usize = 50;

/// Where a transaction is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TxPhase {
    /// On disk; no node is known to have it.
    Signed,
    /// A node has it.
    Submitted,
    /// In a block that is not deep enough yet.
    Included {
        /// The block.
        block: Block,
        /// The hash of the version that it holds.
        hash: B256,
    },
}

/// How a transaction stands to its confirmation clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutState {
    /// It runs, or has not begun.
    Pending,
    /// It ran out, and the evidence is being gathered.
    Diagnosing,
    /// It ran out, and that is written and reported.
    TimedOut,
}

/// What the registrations of a transaction are said to wait for, while no block holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockedState {
    /// What the last run said is in the store alone.
    Unknown,
    /// For a block.
    Clear,
    /// For this.
    Blocked(BlockedReason),
}

/// What changes while a transaction is out.
#[derive(Debug)]
pub struct TxStatus {
    /// Where it is.
    pub phase: TxPhase,
    /// When a node took it.
    pub submitted_at: Option<Timestamp>,
    /// How it stands to its confirmation clock.
    pub timeout: TimeoutState,
    /// When its bytes last went out.
    pub last_broadcast: Option<Instant>,
    /// Since when, and at which head, its latest version is out.
    pub pending_since: Option<(Instant, u64)>,
    /// Whether a block asked for more than it offers since its bytes last went out, so that nodes may have dropped it.
    pub underpriced: bool,
    /// What its registrations are said to wait for.
    pub blocked: BlockedState,
    /// Since when, and at which head, its nonce is consumed with no receipt for any of its hashes.
    pub nonce_consumed_since: Option<(Instant, u64)>,
    /// What a diagnosis wants to know and nothing else needs.
    pub observations: Observations,
}

impl TxStatus {
    /// In this phase, and nothing is known besides.
    pub fn new(phase: TxPhase) -> Self {
        Self {
            phase,
            submitted_at: None,
            timeout: TimeoutState::Pending,
            last_broadcast: None,
            pending_since: None,
            underpriced: false,
            blocked: BlockedState::Clear,
            nonce_consumed_since: None,
            observations: Observations::default(),
        }
    }

    /// Its nonce is not consumed, or there is a receipt.
    pub fn clear_nonce_consumed(&mut self) {
        (self.nonce_consumed_since, self.observations.missing_since) = (None, None);
    }
}

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
        lock(&self.traces)
    }

    /// Where it is; never held across an await.
    pub fn status(&self) -> MutexGuard<'_, TxStatus> {
        lock(&self.status)
    }

    /// Hash and offer of its latest version.
    pub fn latest(&self) -> (B256, Fees) {
        const NONE: Fees = Fees { max_fee_per_gas: 0, max_priority_fee_per_gas: 0 };
        self.versions().attempts.last().map_or((B256::ZERO, NONE), |attempt| (attempt.hash, attempt.fees))
    }

    /// Its signed versions, as they are now.
    pub fn versions(&self) -> Arc<Versions> {
        lock(&self.versions).clone()
    }

    /// Another version is on disk, and counts from now on; nobody has it yet.
    pub fn push_attempt(&self, attempt: Attempt, gas_limit: u64, batch_size: usize) {
        let mut versions = lock(&self.versions);
        let attempts = versions.attempts.iter().cloned().chain([attempt]).collect();
        *versions = Arc::new(Versions { attempts, gas_limit, batch_size });
    }

    /// Remembers a step for reports; the same one again is no news.
    pub fn add_history(&self, step: String, at: Timestamp) {
        let history = &mut self.status().observations.history;
        if history.len() < MAX_HISTORY_ENTRIES && history.last().is_none_or(|(_, last)| *last != step) {
            history.push((at, step));
        }
    }

    /// Remembers what came of sending the bytes. A node that does not answer has said nothing.
    pub fn record_send_result(&self, sent: &Result<BroadcastResult, CallError>, at: Timestamp) {
        self.add_history(
            match sent {
                Ok(sent) => format!("sent: {} has it", sent.endpoint),
                Err(error) => format!("not taken: {error}"),
            },
            at,
        );
        let memory = &mut self.status().observations;
        match sent {
            Ok(sent) => {
                memory.last_rejection = None;
                memory.accepted_by.endpoint.get_or_insert_with(|| sent.endpoint.clone());
            }
            Err(error @ CallError::Rejected { .. }) => memory.last_rejection = evidence::node_rejection(error, at),
            Err(CallError::Unavailable { .. } | CallError::NoEndpoint { .. }) => {}
        }
    }

    /// Sends its latest version once more, to everybody. What is answered decides nothing but what is done next: the chain decides
    /// the rest.
    pub async fn rebroadcast(&self, tools: &Context) {
        let versions = self.versions();
        let Some(attempt) = versions.attempts.last() else { return };
        let result = tools.chain.send_to_all(&attempt.raw).await;
        self.record_send_result(&result, now());
        self.persist_observations(&tools.store).await;
        let outcome = match result {
            Ok(sent) => format!("taken by {}", sent.endpoint),
            Err(error) => error.to_string(),
        };
        events::transaction_rebroadcast(self.id, self.signer, self.nonce, attempt.hash, &outcome);
    }

    /// One of those it carries, for a report that stands for all.
    pub fn sample_affected(&self) -> Option<AffectedRegistration> {
        self.traces().first().map(|journey| journey.affected(journey.span_id()))
    }

    /// What it is, as the spans tell it; `None` only if it had never been signed.
    pub fn summary(&self) -> Option<TxSummary> {
        let versions = self.versions();
        let latest = versions.attempts.last()?;
        Some(TxSummary {
            from: self.signer,
            nonce: self.nonce,
            batch_size: versions.batch_size,
            gas_limit: versions.gas_limit,
            hash: latest.hash,
            fees: latest.fees,
            attempt: versions.attempts.len(),
            signed_at: self.signed_at,
        })
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
        lock(&self.by_nonce).insert((flight.signer, flight.nonce), flight);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes one out: it is settled.
    pub fn remove(&self, flight: &PendingTx) {
        lock(&self.by_nonce).remove(&(flight.signer, flight.nonce));
        self.changed.send_modify(|count| *count += 1);
    }

    /// All, by signer and nonce.
    pub fn all(&self) -> Vec<Arc<PendingTx>> {
        lock(&self.by_nonce).values().cloned().collect()
    }

    /// One signer's, by nonce.
    pub fn of_signer(&self, signer: Address) -> Vec<Arc<PendingTx>> {
        lock(&self.by_nonce).range((signer, 0)..=(signer, u64::MAX)).map(|(_, flight)| flight.clone()).collect()
    }

    /// One signer's with this nonce.
    pub fn get(&self, signer: Address, nonce: u64) -> Option<Arc<PendingTx>> {
        lock(&self.by_nonce).get(&(signer, nonce)).cloned()
    }

    /// How many.
    pub fn len(&self) -> usize {
        lock(&self.by_nonce).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this one is still out.
    pub fn contains(&self, flight: &PendingTx) -> bool {
        lock(&self.by_nonce).contains_key(&(flight.signer, flight.nonce))
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

/// A lock whose holder panicked holds data that is still whole: every change here is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
