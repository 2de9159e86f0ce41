//! Callers and streams that wait for changes of a registration. A registration that has no waiter costs nothing here.

use super::places::{NoPlace, Place, Places};
use crate::{
    registration::{CallerId, Registration, RegistrationId, TransactionId},
    store::{Changes, Store},
    telemetry::log_retry,
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::broadcast;

/// How many changes a slow reader may be behind before the oldest are dropped: more than one registration has.
const CHANGE_BUFFER: usize = 16;

type ChangeSender = broadcast::Sender<Arc<Registration>>;

/// A registration that has subscribers.
#[derive(Debug)]
struct Topic {
    changes: ChangeSender,
    /// The newest revision that was published.
    published_revision: i64,
}

/// The subscriptions of this process, by registration.
#[derive(Clone, Debug)]
pub(crate) struct Waiters {
    store: Store,
    topics: Arc<Mutex<HashMap<RegistrationId, Topic>>>,
    slots: Places,
}

/// Why there is no slot to wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many calls and streams are waiting")]
pub enum TooManyWaiters {
    /// `REGISTRAR_MAX_WAITERS` wait already, or as many of this caller as it leaves to others.
    All,
    /// As many of this caller wait as it may.
    OfCaller { limit: u64 },
}

/// A subscription to one registration; its slot is free again when it drops.
#[derive(Debug)]
pub struct Subscription {
    id: RegistrationId,
    /// `None` only during `drop`.
    changes: Option<broadcast::Receiver<Arc<Registration>>>,
    waiters: Waiters,
    _slot: Place,
}

impl Waiters {
    pub(crate) fn new(store: Store, max_waiters: u64) -> Self {
        Self { store, topics: Arc::default(), slots: Places::new(max_waiters) }
    }

    /// Takes a slot, before anything is accepted that the caller would then have to wait for.
    ///
    /// # Errors
    /// When all slots are taken, or the caller holds its share of them, or `max_waiting`.
    pub(crate) fn acquire_slot(&self, caller: CallerId, max_waiting: Option<u64>) -> Result<Place, TooManyWaiters> {
        self.slots.take_at_most(caller, max_waiting).map_err(|NoPlace| match max_waiting {
            Some(limit) if self.slots.held(caller) >= limit => TooManyWaiters::OfCaller { limit },
            Some(_) | None => TooManyWaiters::All,
        })
    }

    /// Receives every change from now on. The present state has to be read after this, or a change could be missed.
    pub(crate) fn subscribe(&self, id: RegistrationId, slot: Place) -> Subscription {
        let changes = {
            let mut topics = self.topics.lock();
            let topic = topics
                .entry(id)
                .or_insert_with(|| Topic { changes: ChangeSender::new(CHANGE_BUFFER), published_revision: 0 });
            topic.changes.subscribe()
        };
        Subscription { id, changes: Some(changes), waiters: self.clone(), _slot: slot }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.topics.lock().is_empty()
    }

    /// Every member of these transactions has changed, by this replica.
    pub(crate) async fn notify_transactions_changed(&self, transactions: &[TransactionId]) {
        self.store.enqueue_notification(|| Changes {
            transactions: transactions.iter().copied().collect(),
            ..Changes::default()
        });
        self.publish_transactions(transactions).await;
    }

    /// These registrations have changed, by this replica.
    pub(crate) async fn notify_changed(&self, ids: &[RegistrationId]) {
        self.store
            .enqueue_notification(|| Changes { registrations: ids.iter().copied().collect(), ..Changes::default() });
        self.publish(ids).await;
    }

    /// These registrations, and every member of these transactions, have changed by another replica.
    pub(crate) async fn on_remote_changes(
        &self,
        registrations: HashSet<RegistrationId>,
        transactions: HashSet<TransactionId>,
    ) {
        self.publish(&Vec::from_iter(registrations)).await;
        self.publish_transactions(&Vec::from_iter(transactions)).await;
    }

    /// Publishes changes of subscribed registrations for which no notification arrived.
    pub(crate) async fn poll_changes(&self) {
        let published: HashMap<_, _> =
            self.topics.lock().iter().map(|(id, topic)| (*id, topic.published_revision)).collect();
        match self.store.revisions(&Vec::from_iter(published.keys().copied())).await {
            Ok(mut revisions) => {
                revisions.retain(|(id, revision)| published.get(id).is_some_and(|published| published < revision));
                self.publish(&revisions.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await;
            }
            Err(error) => tracing::debug!(error = %error, "failed to poll awaited registrations"),
        }
    }

    async fn publish_transactions(&self, transactions: &[TransactionId]) {
        if self.is_empty() {
            return;
        }
        for transaction in transactions {
            match self.store.member_ids(*transaction).await {
                Ok(ids) => self.publish(&ids).await,
                Err(error) => log_retry!(error, "failed to publish a change; the next one includes it"),
            }
        }
    }

    /// Reads those that have subscribers, once for all of them.
    async fn publish(&self, ids: &[RegistrationId]) {
        let subscribed: Vec<_> = {
            let topics = self.topics.lock();
            if topics.is_empty() {
                return;
            }
            ids.iter().filter(|id| topics.contains_key(id)).copied().collect()
        };
        if subscribed.is_empty() {
            return;
        }
        match self.store.get_all(&subscribed).await {
            Ok(registrations) => {
                let mut topics = self.topics.lock();
                for registration in registrations {
                    if let Some(topic) = topics.get_mut(&registration.id) {
                        topic.published_revision = topic.published_revision.max(registration.revision);
                        // Every subscriber may have left since.
                        let _ = topic.changes.send(Arc::new(registration));
                    }
                }
            }
            Err(error) => log_retry!(error, "failed to publish a change; the next one includes it"),
        }
    }
}

impl Subscription {
    /// The next change. A reader that was too slow continues with the oldest one that is still buffered.
    pub async fn next_change(&mut self) -> Arc<Registration> {
        let Some(changes) = &mut self.changes else { return std::future::pending().await };
        loop {
            match changes.recv().await {
                Ok(registration) => return registration,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                // Cannot happen while this subscription lives: the topic is removed with its last subscriber.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = self.waiters.topics.lock();
        // Under the lock: of two subscribers that leave at once, the second sees that it is the last.
        self.changes = None;
        if topics.get(&self.id).is_some_and(|topic| topic.changes.receiver_count() == 0) {
            topics.remove(&self.id);
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

    async fn open_store(folder: &tempfile::TempDir) -> Store {
        let settings = Settings::parse(&format!("sqlite://{}/r.db", folder.path().display())).unwrap();
        Store::open(&settings, 10).await.unwrap()
    }

    #[tokio::test]
    async fn a_change_without_a_notification_is_published_once_by_the_next_poll() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder).await;
        let (accept_handle, accept_writer) = AcceptHandle::new(store.clone());
        tokio::spawn(accept_writer.run(CancellationToken::new(), || {}));
        let request = NewRegistration {
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "a".parse().unwrap() },
            submitted_as: String::new(),
            user_id: None,
            caller: None,
            trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()).into(),
        };
        let id = accept_handle.accept(request).await.unwrap().registration.id;
        let caller = CallerId::of_connection(1);
        let waiters = Waiters::new(store.clone(), 1);
        let mut subscription = waiters.subscribe(id, waiters.acquire_slot(caller, None).unwrap());
        waiters.poll_changes().await;
        assert_eq!(subscription.next_change().await.revision, 1);

        let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
        store.mark_failed(id, &failure, Timestamp::from_seconds(1)).await.unwrap();
        waiters.poll_changes().await;
        waiters.poll_changes().await;

        assert_eq!(subscription.next_change().await.state, State::Failed);
        assert!(subscription.changes.as_ref().unwrap().is_empty(), "it was published twice");
    }

    #[tokio::test]
    async fn subscribers_that_leave_at_once_leave_no_topic_and_no_slot_behind() {
        let folder = tempfile::tempdir().unwrap();
        let waiters = Waiters::new(open_store(&folder).await, 1_000);
        for round in 0..2_000_u32 {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&round.to_be_bytes());
            let id = RegistrationId::from_bytes(bytes);
            let together = Arc::new(std::sync::Barrier::new(4));
            let threads = [(); 4].map(|()| {
                let (subscription, together) = (
                    waiters.subscribe(id, waiters.acquire_slot(CallerId::of_connection(1), None).unwrap()),
                    together.clone(),
                );
                std::thread::spawn(move || {
                    together.wait();
                    drop(subscription);
                })
            });
            for thread in threads {
                thread.join().unwrap();
            }
            assert!(waiters.is_empty(), "round {round}");
        }
        let slots: Vec<_> =
            std::iter::from_fn(|| waiters.acquire_slot(CallerId::of_connection(1), None).ok()).collect();
        assert_eq!(slots.len(), 500, "a slot was lost");
    }
}
