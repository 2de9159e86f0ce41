//! How the service is doing now: its queue, its signers' balances and its endpoints.

use super::{caller_budget::CallerBudget, single_flight::SingleFlight};
use crate::{
    chain::Chain,
    registration::{State, Timestamp, diagnosis::EndpointSnapshot},
    store::{Store, StoreError},
};
use alloy::primitives::{Address, U256};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// A balance that takes longer is left out.
const BALANCE_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub(super) struct ServiceStatus {
    chain: Chain,
    store: Store,
    budget: CallerBudget,
    balances: Arc<SingleFlight<Address, Option<U256>>>,
}

/// Of all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueStatus {
    /// Registrations that no node has a transaction for.
    pub queued: u64,
    /// When the oldest one that is not signed was accepted.
    pub oldest: Option<Timestamp>,
}

impl ServiceStatus {
    pub(super) fn new(chain: Chain, store: Store, budget: CallerBudget) -> Self {
        Self { chain, store, budget, balances: Arc::default() }
    }

    pub(super) async fn queue(&self) -> Result<QueueStatus, StoreError> {
        let counts = self.store.unfinished_by_state().await?;
        let unsent = counts.iter().filter(|(state, _)| matches!(state, State::Queued | State::Signed));
        Ok(QueueStatus { queued: unsent.map(|(_, count)| count).sum(), oldest: self.store.oldest_queued().await? })
    }

    /// In the order of preference.
    pub(super) fn endpoints(&self) -> Vec<EndpointSnapshot> {
        let snapshot = self.chain.snapshot(None);
        snapshot.usable.into_iter().chain(snapshot.unusable).collect()
    }

    /// In wei; `None` for one that cannot be read now. Read at most every two seconds.
    pub(super) async fn balances(&self, signers: &[Address]) -> Vec<Option<U256>> {
        let read = async |signer: Address| {
            let _slot = self.budget.take(1).await;
            self.chain.balance(signer).await.ok()
        };
        let balance = |signer: &Address| timeout(BALANCE_TIMEOUT, self.balances.get(*signer, read(*signer)));
        join_all(signers.iter().map(balance)).await.into_iter().map(|balance| balance.ok().flatten()).collect()
    }
}
