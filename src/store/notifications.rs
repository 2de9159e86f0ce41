//! What replicas tell each other over a shared database: what has changed, and whether something was queued. Hints all of them,
//! for a notification is lost with a connection (<https://www.postgresql.org/docs/current/sql-notify.html>): the store says what is
//! so.
//!
//! They are told beside the writes and not in them: PostgreSQL commits transactions that notify one after the other, and a write
//! should wait for nobody's news. What comes while one notification is on its way shares the next.

use super::{Store, StoreError, availability::report_if_unreachable, engine::Engine, postgres::PG_ACQUIRE_TIMEOUT};
use crate::registration::{RegistrationId, TransactionId};
use alloy::primitives::hex;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::{
    collections::HashSet,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

/// The name under which replicas notify each other.
const NOTIFY_CHANNEL: &str = "registrar";
/// How many ids one notification carries: it may have 8,000 bytes, and an id takes 32.
const MAX_IDS_PER_NOTIFICATION: usize = 200;
/// Untold ids are kept up to here; beyond, whoever waits elsewhere finds out by looking.
const MAX_PENDING_IDS: usize = 50_000;
/// After so long without any news the connection is asked whether it is still one.
const LISTENER_PING_INTERVAL: Duration = Duration::from_secs(5);

/// What has changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Whether something was queued.
    pub queued: bool,
    /// These have changed.
    pub registrations: HashSet<RegistrationId>,
    /// All that these carry has changed.
    pub transactions: HashSet<TransactionId>,
}

/// What is to be told to the other replicas.
#[derive(Debug)]
pub(super) struct NotificationOutbox {
    /// This replica, so that it knows its own news.
    replica_id: Uuid,
    pending: Mutex<Changes>,
    wake: Notify,
}

/// Hears what other replicas tell.
#[derive(Debug)]
pub struct NotificationListener {
    listener: PgListener,
    replica_id: Uuid,
}

impl Changes {
    fn is_empty(&self) -> bool {
        !self.queued && self.registrations.is_empty() && self.transactions.is_empty()
    }

    fn merge(&mut self, news: Self) {
        self.queued |= news.queued;
        if self.registrations.len() + self.transactions.len() < MAX_PENDING_IDS {
            self.registrations.extend(news.registrations);
            self.transactions.extend(news.transactions);
        }
    }

    /// As notifications say it: who tells it, `q` if something was queued, and the ids, `r` and `t` before each.
    fn encode(&self, origin: Uuid) -> Vec<String> {
        let registrations = self.registrations.iter().map(|id| format!(" r{}", hex::encode(id.as_bytes())));
        let transactions = self.transactions.iter().map(|id| format!(" t{}", hex::encode(id.as_bytes())));
        let mut words: Vec<_> = registrations.chain(transactions).collect();
        if self.queued {
            words.insert(0, " q".to_owned());
        }
        words.chunks(MAX_IDS_PER_NOTIFICATION).map(|words| format!("{}{}", origin.simple(), words.concat())).collect()
    }

    /// Reads a notification of somebody else's. A word that this version does not know is left out.
    fn decode(text: &str, me: Uuid) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? == me.simple().to_string() {
            return None;
        }
        let mut news = Self::default();
        for word in words {
            match word.split_at_checked(1) {
                Some(("q", "")) => news.queued = true,
                Some(("r", id)) => news.registrations.extend(decode_id(id).map(RegistrationId::from_bytes)),
                Some(("t", id)) => news.transactions.extend(decode_id(id).map(TransactionId::from_bytes)),
                Some(_) | None => {}
            }
        }
        Some(news)
    }
}

fn decode_id(text: &str) -> Option<[u8; 16]> {
    hex::decode(text).ok()?.try_into().ok()
}

impl NotificationOutbox {
    pub(super) fn new() -> Self {
        Self { replica_id: Uuid::now_v7(), pending: Mutex::default(), wake: Notify::new() }
    }

    fn take_pending(&self) -> Changes {
        std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// Has the other replicas told, soon. Costs nothing where there are none.
    pub fn enqueue_notification(&self, news: impl FnOnce() -> Changes) {
        match &*self.engine {
            Engine::Sqlite { .. } => {}
            #[cfg(test)]
            Engine::SharedFile(_) => {}
            Engine::Postgres { outbox, .. } => {
                outbox.pending.lock().unwrap_or_else(PoisonError::into_inner).merge(news());
                outbox.wake.notify_one();
            }
        }
    }

    /// Waits for something to tell, and tells it.
    ///
    /// # Errors
    /// When the database cannot be used; the news are lost then.
    pub async fn flush_notifications(&self) -> Result<(), StoreError> {
        let Engine::Postgres { outbox, .. } = &*self.engine else { return std::future::pending().await };
        outbox.wake.notified().await;
        let news = outbox.take_pending();
        if news.is_empty() {
            return Ok(());
        }
        for text in news.encode(outbox.replica_id) {
            sqlx::query("SELECT pg_notify($1, $2)").bind(NOTIFY_CHANNEL).bind(text).execute(&self.writer).await?;
        }
        Ok(())
    }

    /// Listens to the other replicas; `None` where there are none.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<NotificationListener>, StoreError> {
        let Engine::Postgres { options, outbox } = &*self.engine else { return Ok(None) };
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PG_ACQUIRE_TIMEOUT);
        let pool = pool.connect_lazy_with(sqlx::postgres::PgConnectOptions::clone(options));
        let mut listener = report_if_unreachable(PgListener::connect_with(&pool).await)?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        timeout(PG_ACQUIRE_TIMEOUT, listener.listen(NOTIFY_CHANNEL)).await.map_err(|_| connection_lost_error())??;
        Ok(Some(NotificationListener { listener, replica_id: outbox.replica_id }))
    }
}

impl NotificationListener {
    /// The next news of another replica.
    ///
    /// # Errors
    /// When the connection is lost, and with it perhaps some news.
    pub async fn next_changes(&mut self) -> Result<Changes, StoreError> {
        loop {
            match timeout(LISTENER_PING_INTERVAL, self.listener.try_recv()).await {
                Ok(heard) => {
                    let heard = report_if_unreachable(heard.and_then(|heard| heard.ok_or_else(connection_lost_error)))?;
                    if let Some(news) = Changes::decode(heard.payload(), self.replica_id) {
                        return Ok(news);
                    }
                }
                Err(_) => {
                    let asked = sqlx::query("SELECT 1").execute(&mut self.listener);
                    report_if_unreachable(
                        timeout(PG_ACQUIRE_TIMEOUT, asked).await.map_err(|_| connection_lost_error()).flatten(),
                    )?;
                }
            }
        }
    }
}

fn connection_lost_error() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection that listens is lost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Settings, testing::server::Database};

    fn news(count: u8) -> Changes {
        Changes {
            queued: true,
            registrations: (0..count).map(|number| RegistrationId::from_bytes([number; 16])).collect(),
            transactions: (0..count).map(|number| TransactionId::from_bytes([number; 16])).collect(),
        }
    }

    #[test]
    fn news_are_read_as_they_were_written_but_for_ones_own() {
        let (me, other) = (Uuid::now_v7(), Uuid::now_v7());
        let told = news(250);
        let texts = told.encode(other);
        assert!(texts.len() == 3 && texts.iter().all(|text| text.len() < 8_000));
        let mut heard = Changes::default();
        texts.iter().for_each(|text| heard.merge(Changes::decode(text, me).unwrap()));
        assert_eq!(heard, told);
        assert!(texts.iter().all(|text| Changes::decode(text, other).is_none()));
        let later = format!("{} q x rzz t12 {}", other.simple(), "r".repeat(9));
        assert_eq!(Changes::decode(&later, me), Some(Changes { queued: true, ..Changes::default() }));
    }

    #[tokio::test]
    async fn what_one_replica_tells_the_others_hear() {
        let database = Database::new().await;
        let open = async || Store::open(&Settings::Postgres(database.url()), 10).await.unwrap();
        let (one, other) = (open().await, open().await);
        let (mut own, mut ear) = (one.listen().await.unwrap().unwrap(), other.listen().await.unwrap().unwrap());
        one.enqueue_notification(|| news(1));
        one.enqueue_notification(|| news(3));
        one.flush_notifications().await.unwrap();
        assert_eq!(ear.next_changes().await.unwrap(), news(3));
        other.enqueue_notification(|| news(1));
        other.flush_notifications().await.unwrap();
        assert_eq!(own.next_changes().await.unwrap(), news(1), "its own came first");
    }

    #[tokio::test]
    async fn a_listener_that_was_cut_off_says_so() {
        let database = Database::new().await;
        let store = Store::open(&Settings::Postgres(database.url()), 10).await.unwrap();
        let mut ear = store.listen().await.unwrap().unwrap();
        database
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
                 AND datname = current_database()",
            )
            .await;
        assert!(ear.next_changes().await.is_err());
    }
}
