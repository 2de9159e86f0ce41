//! What replicas tell each other over a shared database: what has changed, and whether something was queued. Hints all of them,
//! for a notification is lost with a connection (<https://www.postgresql.org/docs/current/sql-notify.html>): the store says what is
//! so.
//!
//! They are told beside the writes and not in them: PostgreSQL commits transactions that notify one after the other, and a write
//! should wait for nobody's news. What comes while one notification is on its way shares the next.

use super::{Store, StoreError, engine::Engine, postgres::ACQUIRE_TIMEOUT, presence::noticed};
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
const CHANNEL: &str = "registrar";
/// How many ids one notification carries: it may have 8,000 bytes, and an id takes 32.
const IDS: usize = 200;
/// Untold ids are kept up to here; beyond, whoever waits elsewhere finds out by looking.
const KEPT: usize = 50_000;
/// After so long without any news the connection is asked whether it is still one.
const SILENCE: Duration = Duration::from_secs(5);

/// What has changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Whether something was queued.
    pub queued: bool,
    /// These have changed.
    pub registrations: HashSet<RegistrationId>,
    /// All that these carry has changed.
    pub transactions: HashSet<TransactionId>,
}

/// What is to be told to the other replicas.
#[derive(Debug)]
pub(super) struct Outbox {
    /// This replica, so that it knows its own news.
    origin: Uuid,
    untold: Mutex<News>,
    wake: Notify,
}

/// Hears what other replicas tell.
#[derive(Debug)]
pub struct Ear {
    listener: PgListener,
    origin: Uuid,
}

impl News {
    fn is_empty(&self) -> bool {
        !self.queued && self.registrations.is_empty() && self.transactions.is_empty()
    }

    fn add(&mut self, news: Self) {
        self.queued |= news.queued;
        if self.registrations.len() + self.transactions.len() < KEPT {
            self.registrations.extend(news.registrations);
            self.transactions.extend(news.transactions);
        }
    }

    /// As notifications say it: who tells it, `q` if something was queued, and the ids, `r` and `t` before each.
    fn write(&self, origin: Uuid) -> Vec<String> {
        let registrations = self.registrations.iter().map(|id| format!(" r{}", hex::encode(id.as_bytes())));
        let transactions = self.transactions.iter().map(|id| format!(" t{}", hex::encode(id.as_bytes())));
        let mut words: Vec<_> = registrations.chain(transactions).collect();
        if self.queued {
            words.insert(0, " q".to_owned());
        }
        words.chunks(IDS).map(|words| format!("{}{}", origin.simple(), words.concat())).collect()
    }

    /// Reads a notification of somebody else's. A word that this version does not know is left out.
    fn read(text: &str, me: Uuid) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? == me.simple().to_string() {
            return None;
        }
        let mut news = Self::default();
        for word in words {
            match word.split_at_checked(1) {
                Some(("q", "")) => news.queued = true,
                Some(("r", id)) => news.registrations.extend(bytes(id).map(RegistrationId::from_bytes)),
                Some(("t", id)) => news.transactions.extend(bytes(id).map(TransactionId::from_bytes)),
                Some(_) | None => {}
            }
        }
        Some(news)
    }
}

fn bytes(text: &str) -> Option<[u8; 16]> {
    hex::decode(text).ok()?.try_into().ok()
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { origin: Uuid::now_v7(), untold: Mutex::default(), wake: Notify::new() }
    }

    fn take(&self) -> News {
        std::mem::take(&mut self.untold.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// Has the other replicas told, soon. Costs nothing where there are none.
    pub fn tell(&self, news: impl FnOnce() -> News) {
        match &*self.engine {
            Engine::Sqlite { .. } => {}
            #[cfg(test)]
            Engine::SharedFile(_) => {}
            Engine::Postgres { outbox, .. } => {
                outbox.untold.lock().unwrap_or_else(PoisonError::into_inner).add(news());
                outbox.wake.notify_one();
            }
        }
    }

    /// Waits for something to tell, and tells it.
    ///
    /// # Errors
    /// When the database cannot be used; the news are lost then.
    pub async fn tell_next(&self) -> Result<(), StoreError> {
        let Engine::Postgres { outbox, .. } = &*self.engine else { return std::future::pending().await };
        outbox.wake.notified().await;
        let news = outbox.take();
        if news.is_empty() {
            return Ok(());
        }
        for text in news.write(outbox.origin) {
            sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(text).execute(&self.writer).await?;
        }
        Ok(())
    }

    /// Listens to the other replicas; `None` where there are none.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen(&self) -> Result<Option<Ear>, StoreError> {
        let Engine::Postgres { options, outbox } = &*self.engine else { return Ok(None) };
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = pool.connect_lazy_with(sqlx::postgres::PgConnectOptions::clone(options));
        let mut listener = noticed(PgListener::connect_with(&pool).await)?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        timeout(ACQUIRE_TIMEOUT, listener.listen(CHANNEL)).await.map_err(|_| silent())??;
        Ok(Some(Ear { listener, origin: outbox.origin }))
    }
}

impl Ear {
    /// The next news of another replica.
    ///
    /// # Errors
    /// When the connection is lost, and with it perhaps some news.
    pub async fn hear(&mut self) -> Result<News, StoreError> {
        loop {
            match timeout(SILENCE, self.listener.try_recv()).await {
                Ok(heard) => {
                    let heard = noticed(heard.and_then(|heard| heard.ok_or_else(silent)))?;
                    if let Some(news) = News::read(heard.payload(), self.origin) {
                        return Ok(news);
                    }
                }
                Err(_) => {
                    let asked = sqlx::query("SELECT 1").execute(&mut self.listener);
                    noticed(timeout(ACQUIRE_TIMEOUT, asked).await.map_err(|_| silent()).flatten())?;
                }
            }
        }
    }
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection that listens is lost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Settings, testing::server::Database};

    fn news(count: u8) -> News {
        News {
            queued: true,
            registrations: (0..count).map(|number| RegistrationId::from_bytes([number; 16])).collect(),
            transactions: (0..count).map(|number| TransactionId::from_bytes([number; 16])).collect(),
        }
    }

    #[test]
    fn news_are_read_as_they_were_written_but_for_ones_own() {
        let (me, other) = (Uuid::now_v7(), Uuid::now_v7());
        let told = news(250);
        let texts = told.write(other);
        assert!(texts.len() == 3 && texts.iter().all(|text| text.len() < 8_000));
        let mut heard = News::default();
        texts.iter().for_each(|text| heard.add(News::read(text, me).unwrap()));
        assert_eq!(heard, told);
        assert!(texts.iter().all(|text| News::read(text, other).is_none()));
        let later = format!("{} q x rzz t12 {}", other.simple(), "r".repeat(9));
        assert_eq!(News::read(&later, me), Some(News { queued: true, ..News::default() }));
    }

    #[tokio::test]
    async fn what_one_replica_tells_the_others_hear() {
        let database = Database::new().await;
        let open = async || Store::open(&Settings::Postgres(database.url()), 10).await.unwrap();
        let (one, other) = (open().await, open().await);
        let (mut own, mut ear) = (one.listen().await.unwrap().unwrap(), other.listen().await.unwrap().unwrap());
        one.tell(|| news(1));
        one.tell(|| news(3));
        one.tell_next().await.unwrap();
        assert_eq!(ear.hear().await.unwrap(), news(3));
        other.tell(|| news(1));
        other.tell_next().await.unwrap();
        assert_eq!(own.hear().await.unwrap(), news(1), "its own came first");
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
        assert!(ear.hear().await.is_err());
    }
}
