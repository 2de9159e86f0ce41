//! Who takes what from the queue. The store says what is queued, and where replicas share it, who of them has claimed it; this only
//! keeps two lanes of one process from taking the same.

use super::now;
use crate::{
    registration::{RegistrationId, policy::batching},
    store::{Changes, QueuedRegistration, Store, StoreError},
    telemetry::log_retry,
};
use alloy::primitives::Address;
use parking_lot::Mutex;
use std::{collections::HashSet, sync::Arc};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// What the lanes share.
#[derive(Clone, Debug)]
pub struct Queue {
    store: Store,
    claimed: Arc<Mutex<HashSet<RegistrationId>>>,
    claim_lock: Arc<AsyncMutex<()>>,
    enqueued: Arc<watch::Sender<u64>>,
}

/// Some queued registrations that one lane has taken; what is still queued when this drops is free again.
#[derive(Debug)]
pub struct Claim {
    /// What was taken, oldest first.
    pub registrations: Vec<QueuedRegistration>,
    ids: Vec<RegistrationId>,
    claimed: Arc<Mutex<HashSet<RegistrationId>>>,
}

impl Queue {
    /// The queue of a store.
    pub fn new(store: Store) -> Self {
        let news = Arc::new(watch::Sender::new(0));
        Self { store, claimed: Arc::default(), claim_lock: Arc::default(), enqueued: news }
    }

    /// Something was queued. A hint: whoever hears it looks in the store.
    pub fn notify(&self) {
        self.store.enqueue_notification(|| Changes { queued: true, ..Changes::default() });
        self.on_remote_notify();
    }

    /// Something was queued by another replica.
    pub fn on_remote_notify(&self) {
        self.enqueued.send_modify(|count| *count += 1);
    }

    /// Told whenever something was queued.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.enqueued.subscribe()
    }

    /// Takes at most `most` for this signer, oldest first: of those that have been in as many reverted transactions as the oldest, and no more than
    /// may go together.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn claim(&self, signer: Address, most: usize) -> Result<Claim, StoreError> {
        self.claim_with(signer, most, |free| {
            let reverts = free.first().map_or(0, |oldest| oldest.reverts);
            let size = batching::max_batch_after_reverts(reverts);
            free.retain(|row| batching::max_batch_after_reverts(row.reverts) == size);
            free.truncate(size);
        })
        .await
    }

    /// Takes at most `most` for this signer, oldest first, whatever may go together: for what is said of them.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn claim_for_blocking(&self, signer: Address, most: usize) -> Result<Claim, StoreError> {
        self.claim_with(signer, most, |_| {}).await
    }

    /// Leaves what was claimed to other lanes; what is not left so is theirs a little later.
    pub async fn release(&self, claim: Claim) {
        if self.store.is_shared()
            && let Err(error) = self.store.release_claims(&claim.ids()).await
        {
            log_retry!(error, "a claim could not be given up");
        }
        drop(claim);
        self.notify();
    }

    async fn claim_with(
        &self,
        signer: Address,
        most: usize,
        choose: impl FnOnce(&mut Vec<QueuedRegistration>),
    ) -> Result<Claim, StoreError> {
        let _turn = self.claim_lock.lock().await;
        let now = now();
        let queued = if self.store.is_shared() {
            self.store.claim_queued(signer, now, most).await?
        } else {
            let taken = self.claimed.lock().len();
            self.store.queued(now, most + taken).await?
        };
        let mut claimed = self.claimed.lock();
        let mut registrations: Vec<_> = queued.into_iter().filter(|row| !claimed.contains(&row.id)).collect();
        choose(&mut registrations);
        registrations.truncate(most);
        let ids: Vec<_> = registrations.iter().map(|row| row.id).collect();
        claimed.extend(&ids);
        Ok(Claim { registrations, ids, claimed: self.claimed.clone() })
    }
}

impl Claim {
    /// Keeps the first `count`; the others are free again.
    pub fn truncate(&mut self, count: usize) {
        self.registrations.truncate(count);
        let mut claimed = self.claimed.lock();
        for id in self.ids.drain(count.min(self.ids.len())..) {
            claimed.remove(&id);
        }
    }

    /// The ids of what is held.
    pub fn ids(&self) -> Vec<RegistrationId> {
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
