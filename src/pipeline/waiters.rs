//! Whoever waits for a registration hears of each of its changes. What nobody waits for costs nothing.

use crate::{
    registration::{Registration, RegistrationId, TransactionId},
    store::{Changes, Store},
    telemetry::log_retry,
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// How many changes a slow reader may be behind before the oldest are left out: more than a journey has.
const CHANGE_BUFFER: usize = 16;

type ChangeSender = broadcast::Sender<Arc<Registration>>;

/// A registration that is waited for.
#[derive(Debug)]
struct Topic {
    changes: ChangeSender,
    /// The newest revision that was told.
    published_revision: i64,
}

/// Who waits for what.
#[derive(Clone, Debug)]
pub struct Waiters {
    topics: Arc<Mutex<HashMap<RegistrationId, Topic>>>,
    slots: Arc<Semaphore>,
}

/// All places to wait are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many calls and streams are waiting")]
pub struct TooManyWaiters;

/// A place to wait for one registration; given back when dropped.
#[derive(Debug)]
pub struct Subscription {
    id: RegistrationId,
    /// `None` only while it is dropped.
    changes: Option<broadcast::Receiver<Arc<Registration>>>,
    waiters: Waiters,
    _slot: OwnedSemaphorePermit,
}

impl Waiters {
    /// Room for this many at once.
    pub fn new(places: usize) -> Self {
        Self { topics: Arc::default(), slots: Arc::new(Semaphore::new(places)) }
    }

    /// A place to wait, to be taken before anything is done that would have to be waited for.
    ///
    /// # Errors
    /// When all are taken.
    pub fn acquire_slot(&self) -> Result<OwnedSemaphorePermit, TooManyWaiters> {
        self.slots.clone().try_acquire_owned().map_err(|_| TooManyWaiters)
    }

    /// Hears of every change from now on; what is there already is read after this.
    pub fn subscribe(&self, id: RegistrationId, place: OwnedSemaphorePermit) -> Subscription {
        let changes = {
            let mut by_id = self.topics.lock();
            let awaited = by_id
                .entry(id)
                .or_insert_with(|| Topic { changes: ChangeSender::new(CHANGE_BUFFER), published_revision: 0 });
            awaited.changes.subscribe()
        };
        Subscription { id, changes: Some(changes), waiters: self.clone(), _slot: place }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.topics.lock().is_empty()
    }

    /// All that these transactions carry has changed, here.
    pub async fn notify_transactions_changed(&self, store: &Store, transactions: &[TransactionId]) {
        store.enqueue_notification(|| Changes {
            transactions: transactions.iter().copied().collect(),
            ..Changes::default()
        });
        self.publish_transactions(store, transactions).await;
    }

    /// These have changed in the store, here: reads those that are waited for, once for all, and tells.
    pub async fn notify_changed(&self, store: &Store, ids: &[RegistrationId]) {
        store.enqueue_notification(|| Changes { registrations: ids.iter().copied().collect(), ..Changes::default() });
        self.publish(store, ids).await;
    }

    /// These, and all that these transactions carry, have changed on another replica.
    pub async fn on_remote_changes(
        &self,
        store: &Store,
        registrations: HashSet<RegistrationId>,
        transactions: HashSet<TransactionId>,
    ) {
        self.publish(store, &Vec::from_iter(registrations)).await;
        self.publish_transactions(store, &Vec::from_iter(transactions)).await;
    }

    /// Looks whether anything that is waited for has changed unheard.
    pub async fn poll_changes(&self, store: &Store) {
        let told: HashMap<_, _> =
            self.topics.lock().iter().map(|(id, awaited)| (*id, awaited.published_revision)).collect();
        match store.revisions(&Vec::from_iter(told.keys().copied())).await {
            Ok(mut found) => {
                found.retain(|(id, revision)| told.get(id).is_some_and(|told| told < revision));
                self.publish(store, &found.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await;
            }
            Err(error) => tracing::debug!(error = %error, "what is waited for could not be looked at"),
        }
    }

    async fn publish_transactions(&self, store: &Store, transactions: &[TransactionId]) {
        if self.is_empty() {
            return;
        }
        for transaction in transactions {
            match store.member_ids(*transaction).await {
                Ok(ids) => self.publish(store, &ids).await,
                Err(error) => log_retry!(error, "a change could not be told; it will be with the next"),
            }
        }
    }

    async fn publish(&self, store: &Store, ids: &[RegistrationId]) {
        let awaited: Vec<_> = {
            let by_id = self.topics.lock();
            if by_id.is_empty() {
                return;
            }
            ids.iter().filter(|id| by_id.contains_key(id)).copied().collect()
        };
        if awaited.is_empty() {
            return;
        }
        match store.get_all(&awaited).await {
            Ok(registrations) => {
                let mut by_id = self.topics.lock();
                for registration in registrations {
                    if let Some(awaited) = by_id.get_mut(&registration.id) {
                        awaited.published_revision = awaited.published_revision.max(registration.revision);
                        // Everybody may have left since.
                        let _ = awaited.changes.send(Arc::new(registration));
                    }
                }
            }
            Err(error) => log_retry!(error, "a change could not be told; it will be with the next"),
        }
    }
}

impl Subscription {
    /// The next change. A reader that was too slow goes on with the oldest that is kept.
    pub async fn next_change(&mut self) -> Arc<Registration> {
        let Some(changes) = &mut self.changes else { return std::future::pending().await };
        loop {
            match changes.recv().await {
                Ok(registration) => return registration,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                // The sender lives as long as this waiter: its entry goes only when the last one drops.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut by_id = self.waiters.topics.lock();
        // Under the lock, so that of two who leave at once the second sees that it is the last.
        self.changes = None;
        if by_id.get(&self.id).is_some_and(|awaited| awaited.changes.receiver_count() == 0) {
            by_id.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{DocumentHash, Failure, FailureReason, NewRegistration, Pair, State, Timestamp},
        store::{AcceptHandle, Settings},
    };
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_change_that_nobody_told_is_found_by_looking_once() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::parse(&format!("sqlite://{}/r.db", folder.path().display())).unwrap();
        let store = Store::open(&settings, 10).await.unwrap();
        let (acceptor, intake) = AcceptHandle::new(store.clone());
        tokio::spawn(intake.run(CancellationToken::new(), || {}));
        let asked = NewRegistration {
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "a".parse().unwrap() },
            submitted_as: String::new(),
            user_id: None,
            trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()),
        };
        let id = acceptor.accept(asked).await.unwrap().registration.id;
        let waiters = Waiters::new(1);
        let mut waiter = waiters.subscribe(id, waiters.acquire_slot().unwrap());
        waiters.poll_changes(&store).await;
        assert_eq!(waiter.next_change().await.revision, 1);

        let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
        store.mark_failed(id, &failure, Timestamp::from_seconds(1)).await.unwrap();
        waiters.poll_changes(&store).await;
        waiters.poll_changes(&store).await;

        assert_eq!(waiter.next_change().await.state, State::Failed);
        assert!(waiter.changes.as_ref().unwrap().is_empty(), "it was told twice");
    }

    #[test]
    fn those_who_leave_at_once_leave_nothing_behind() {
        let waiters = Waiters::new(1_000);
        for round in 0..2_000_u32 {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&round.to_be_bytes());
            let id = RegistrationId::from_bytes(bytes);
            let together = Arc::new(std::sync::Barrier::new(4));
            let leaving = [(); 4].map(|()| {
                let (waiter, together) = (waiters.subscribe(id, waiters.acquire_slot().unwrap()), together.clone());
                std::thread::spawn(move || {
                    together.wait();
                    drop(waiter);
                })
            });
            for thread in leaving {
                thread.join().unwrap();
            }
            assert!(waiters.is_empty(), "round {round}");
        }
        assert_eq!(waiters.slots.available_permits(), 1_000);
    }
}
