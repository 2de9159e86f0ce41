//! Taking up what is unfinished, from the store alone: at a start, and when a lease changes hands.

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

/// Why the unfinished work cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// A signer was taken out of the settings while it has work in flight.
    #[error(
        "the signer {signer} has {transactions} transactions in flight and its key is not in REGISTRAR_SIGNER_KEYS: give the \
         key until they are settled"
    )]
    MissingKey {
        /// The signer.
        signer: Address,
        /// How many transactions it has in flight.
        transactions: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether every signer with work in flight is among the settings.
///
/// # Errors
/// When one is not, or the store cannot be read.
pub async fn check_signer_keys(store: &Store, signers: &[Signer]) -> Result<(), ResumeError> {
    for (signer, transactions) in store.signers_with_open_transactions().await? {
        if !signers.iter().any(|known| known.address() == signer) {
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

    /// Tracks the open transactions of this signer that are not tracked yet: those of the last holder of its lease, or one whose
    /// commit succeeded although its answer was lost.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn resume_signer(&self, signer: Address) -> Result<(), StoreError> {
        let tracked: Vec<_> = self.in_flight.of_signer(signer).iter().map(|tx| tx.id).collect();
        let mut open = self.store.open_transactions(signer).await?;
        open.retain(|open| !tracked.contains(&open.id));
        if !open.is_empty() {
            info!(%signer, transactions = open.len(), "resuming open transactions");
        }
        for open in open {
            self.track(open, None);
        }
        self.store.reload_unfinished().await
    }

    /// Tracks one transaction, its traces continued where they were; their spans up to `reported_until` have been exported.
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
        let vehicle = versions.summary(key, open.signed_at);
        let endpoint = Arc::from(self.chain.primary());
        let times = (open.prepared_at, open.sent_at, open.timed_out_at.or(reported_until));
        let journeys = open
            .members
            .into_iter()
            .map(|member| RegistrationTrace::resume(member, &self.chain_info, vehicle, times, &endpoint))
            .collect();
        // Nothing counts as broadcast: a node that forgot the bytes over the restart gets them at once.
        let clock = if open.timed_out_at.is_some() { TimeoutState::TimedOut } else { TimeoutState::Pending };
        let progress = TxStatus::resume(phase, open.sent_at, clock, open.observations);
        let flight = PendingTx::new(open.id, key, open.signed_at, versions, journeys, progress);
        self.in_flight.insert(Arc::new(flight));
    }
}
