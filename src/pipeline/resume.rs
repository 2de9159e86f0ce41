//! Resuming the pending transactions from the store alone: at a start, and when a lease changes hands.

use super::{
    in_flight::{PendingTx, PendingTxs, Versions},
    registration_trace::{ChainInfo, RegistrationTrace},
    tx_state::{TimeoutState, TxPhase, TxStatus},
};
use crate::{
    chain::{Chain, Signer},
    registration::{State, Timestamp},
    store::{OpenTransaction, Store, StoreError},
};
use alloy::primitives::Address;
use std::sync::Arc;
use tracing::info;

#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error(
        "signer {signer} has {transactions} pending transactions and is in neither REGISTRAR_SIGNER_KEYS nor \
         REGISTRAR_SIGNERS; add it until they are confirmed"
    )]
    MissingKey { signer: Address, transactions: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// # Errors
/// When a signer with pending transactions is not configured, or the store cannot be read.
pub async fn check_signer_keys(store: &Store, signers: &[Signer]) -> Result<(), ResumeError> {
    for (signer, transactions) in store.signers_with_open_transactions().await? {
        if !signers.iter().any(|configured| configured.address() == signer) {
            return Err(ResumeError::MissingKey { signer, transactions });
        }
    }
    Ok(())
}

/// Adds transactions from the store to the pending ones.
#[derive(Clone, Debug)]
pub(super) struct Tracker {
    chain: Chain,
    store: Store,
    in_flight: Arc<PendingTxs>,
    chain_info: Arc<ChainInfo>,
}

impl Tracker {
    pub(super) fn new(chain: Chain, store: Store, in_flight: Arc<PendingTxs>, chain_info: Arc<ChainInfo>) -> Self {
        Self { chain, store, in_flight, chain_info }
    }

    /// The same, for another set of pending transactions.
    pub(super) fn with_in_flight(&self, in_flight: Arc<PendingTxs>) -> Self {
        Self { in_flight, ..self.clone() }
    }

    /// Tracks the signer's open transactions that are not in memory: those of the last holder of its lease, and those
    /// of a commit whose answer was lost.
    pub(super) async fn resume_signer(&self, signer: Address) -> Result<(), StoreError> {
        let tracked: Vec<_> = self.in_flight.of_signer(signer).iter().map(|tx| tx.id).collect();
        let mut open = self.store.open_transactions(signer).await?;
        open.retain(|open| !tracked.contains(&open.id));
        if !open.is_empty() {
            info!(%signer, transactions = open.len(), "resuming pending transactions");
        }
        for open in open {
            self.track(open, None);
        }
        self.store.reload_unfinished().await
    }

    /// Puts a stored transaction into memory, each of its registrations in the stage and trace that it had.
    /// `reported_until` is when an episode of these traces ended.
    pub(super) fn track(&self, open: OpenTransaction, reported_until: Option<Timestamp>) {
        if open.attempts.is_empty() {
            return;
        }
        let phase = match (open.state, open.block) {
            (State::Included, Some(block)) => TxPhase::Included { block, hash: open.hash },
            (State::Signed, _) => TxPhase::Signed,
            (State::Submitted | State::Included | State::Queued | State::Confirmed | State::Failed, _) => {
                TxPhase::Submitted
            }
        };
        let key = (open.signer, open.nonce);
        let versions = Versions { attempts: open.attempts, gas_limit: open.gas_limit, batch_size: open.batch_size };
        let tx = versions.summary(key, open.signed_at);
        let endpoint = Arc::from(self.chain.primary());
        let times = (open.prepared_at, open.sent_at, open.timed_out_at.or(reported_until));
        let traces = open
            .members
            .into_iter()
            .map(|member| RegistrationTrace::resume(member, &self.chain_info, tx, times, &endpoint))
            .collect();
        // Nothing counts as broadcast, so that a node that forgot the bytes meanwhile gets them at once.
        let timeout = if open.timed_out_at.is_some() { TimeoutState::TimedOut } else { TimeoutState::Pending };
        let status = TxStatus::resume(phase, open.sent_at, timeout, open.observations);
        let tx = PendingTx::new(open.id, key, open.signed_at, versions, traces, status);
        self.in_flight.insert(Arc::new(tx));
    }
}
