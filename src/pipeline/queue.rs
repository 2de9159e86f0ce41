//! Who takes what from the queue. The store says what is queued, and where replicas share it, who of them has claimed it; this only
//! keeps two lanes of one process from taking the same.

use super::{flights::lock, now};
use crate::{
    registration::RegistrationId,
    store::{News, QueuedRegistration, Store, StoreError},
};
use alloy::primitives::Address;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// What the lanes share.
#[derive(Clone, Debug)]
pub struct Queue {
    store: Store,
    claimed: Arc<Mutex<HashSet<RegistrationId>>>,
    turn: Arc<AsyncMutex<()>>,
    news: Arc<watch::Sender<u64>>,
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
        Self { store, claimed: Arc::default(), turn: Arc::default(), news }
    }

    /// Something was queued. A hint: whoever hears it looks in the store.
    pub fn tell(&self) {
        self.store.tell(|| News { queued: true, ..News::default() });
        self.heard();
    }

    /// Something was queued by another replica.
    pub fn heard(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Told whenever something was queued.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Takes at most `most` for this signer, oldest first.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn claim(&self, signer: Address, most: usize) -> Result<Claim, StoreError> {
        let _turn = self.turn.lock().await;
        let now = now();
        let queued = if self.store.is_shared() {
            self.store.claim(signer, now, most).await?
        } else {
            let taken = lock(&self.claimed).len();
            self.store.queued(now, most + taken).await?
        };
        let mut claimed = lock(&self.claimed);
        let registrations: Vec<_> = queued.into_iter().filter(|row| !claimed.contains(&row.id)).take(most).collect();
        let ids: Vec<_> = registrations.iter().map(|row| row.id).collect();
        claimed.extend(&ids);
        Ok(Claim { registrations, ids, claimed: self.claimed.clone() })
    }
}

impl Claim {
    /// Keeps the first `count`; the others are free again.
    pub fn truncate(&mut self, count: usize) {
        self.registrations.truncate(count);
        let mut claimed = lock(&self.claimed);
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
        let mut claimed = lock(&self.claimed);
        for id in &self.ids {
            claimed.remove(id);
        }
    }
}
