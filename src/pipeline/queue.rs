//! Claims of queued registrations. The store holds the queue and, where several replicas send from it, which signer has
//! claimed what; this keeps two senders of one process from claiming the same registration.

use super::turns::Turns;
use crate::{
    clock::now,
    registration::{CallerId, RegistrationId, policy::batching},
    store::{Changes, QueuedRegistration, Store, StoreError},
    telemetry::log_retry,
};
use alloy::primitives::Address;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// Shared by all senders of this process.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    store: Store,
    claimed: Arc<Mutex<HashSet<RegistrationId>>>,
    turns: Arc<Mutex<Turns>>,
    claim_lock: Arc<AsyncMutex<()>>,
    enqueued: Arc<watch::Sender<u64>>,
}

/// Queued registrations that one sender has claimed; those still queued when this drops can be claimed again.
#[derive(Debug)]
pub(super) struct Claim {
    /// Those of callers with few first, then by age.
    pub(super) registrations: Vec<QueuedRegistration>,
    ids: Vec<RegistrationId>,
    claimed: Arc<Mutex<HashSet<RegistrationId>>>,
    /// Whether other replicas see it.
    is_stored: bool,
}

impl Queue {
    pub(super) fn new(store: Store) -> Self {
        let enqueued = Arc::new(watch::Sender::new(0));
        Self { store, claimed: Arc::default(), turns: Arc::default(), claim_lock: Arc::default(), enqueued }
    }

    /// Something was queued here. Only a hint to read the store.
    pub(super) fn notify(&self) {
        self.store.enqueue_notification(|| Changes { queued: true, ..Changes::default() });
        self.on_remote_notify();
    }

    /// The caller of registrations that were queued here.
    pub(super) fn record(&self, caller: CallerId, ids: impl IntoIterator<Item = RegistrationId>) {
        self.turns.lock().record(caller, ids);
    }

    /// Another replica queued something.
    pub(super) fn on_remote_notify(&self) {
        self.enqueued.send_modify(|count| *count += 1);
    }

    /// Changes whenever something is queued.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.enqueued.subscribe()
    }

    /// Claims at most `max` for one transaction of this signer: up to half of them in turn of their callers, the others
    /// by age. Only registrations that were in as many reverted transactions as the first one, and no more than may
    /// share a transaction after that many reverts.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(super) async fn claim(&self, signer: Address, max: usize) -> Result<Claim, StoreError> {
        self.claim_with(signer, max, |free| {
            let reverts = free.first().map_or(0, |first| first.reverts);
            let size = batching::max_batch_after_reverts(reverts);
            free.retain(|row| batching::max_batch_after_reverts(row.reverts) == size);
            free.truncate(size);
        })
        .await
    }

    /// Claims at most `max` to set their blocked reason: whether they fit one transaction does not matter.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(super) async fn claim_for_blocking(&self, signer: Address, max: usize) -> Result<Claim, StoreError> {
        self.claim_with(signer, max, |_| {}).await
    }

    /// Gives a claim up at once. A claim that only drops expires in a shared store after its lifetime.
    pub(super) async fn release(&self, claim: Claim) {
        if claim.is_stored
            && let Err(error) = self.store.release_claims(&claim.ids()).await
        {
            log_retry!(error, "failed to release a claim; it expires by itself");
        }
        drop(claim);
        self.notify();
    }

    async fn claim_with(
        &self,
        signer: Address,
        max: usize,
        choose: impl FnOnce(&mut Vec<QueuedRegistration>),
    ) -> Result<Claim, StoreError> {
        let _claiming = self.claim_lock.lock().await;
        let now = now();
        let next = self.turns.lock().next(max.div_ceil(2));
        let is_stored = self.store.has_other_senders().await?;
        let limit = if is_stored { max } else { max + self.claimed.lock().len() };
        let by_age = if is_stored {
            self.store.claim_queued(signer, now, limit).await?
        } else {
            self.store.queued(now, limit).await?
        };
        let order: Vec<_> = by_age.iter().map(|row| row.id).collect();
        let mut queued: HashMap<_, _> = by_age.into_iter().map(|row| (row.id, row)).collect();
        // Otherwise all that is queued has been read.
        if order.len() >= limit {
            let further: Vec<_> = next.iter().filter(|id| !queued.contains_key(*id)).copied().collect();
            let further = match is_stored {
                true => self.store.claim_queued_among(signer, now, &further).await?,
                false => self.store.queued_among(now, &further).await?,
            };
            queued.extend(further.into_iter().map(|row| (row.id, row)));
        }
        {
            let mut turns = self.turns.lock();
            turns.forget(&next.iter().filter(|id| !queued.contains_key(*id)).copied().collect());
            if let Some(last) = order.last() {
                turns.forget_up_to(*last);
            }
        }
        let queued = next.iter().chain(&order).filter_map(|id| queued.remove(id));
        let mut claimed = self.claimed.lock();
        let mut registrations: Vec<_> = queued.filter(|row| !claimed.contains(&row.id)).collect();
        choose(&mut registrations);
        registrations.truncate(max);
        let ids: Vec<_> = registrations.iter().map(|row| row.id).collect();
        claimed.extend(&ids);
        Ok(Claim { registrations, ids, claimed: self.claimed.clone(), is_stored })
    }
}

impl Claim {
    /// Keeps the first `count`; the others can be claimed again.
    pub(super) fn truncate(&mut self, count: usize) {
        self.registrations.truncate(count);
        let mut claimed = self.claimed.lock();
        for id in self.ids.drain(count.min(self.ids.len())..) {
            claimed.remove(&id);
        }
    }

    pub(super) fn ids(&self) -> Vec<RegistrationId> {
        self.registrations.iter().map(|row| row.id).collect()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = self.claimed.lock();
        for id in &self.ids {
            claimed.remove(id);
        }
    }
}
