//! Notifications between replicas on a shared database. They are hints: a notification is lost with a connection
//! (<https://www.postgresql.org/docs/current/sql-notify.html>), and the tables decide.
//!
//! They are sent outside the writes: PostgreSQL serializes the commits of transactions that notify, and no write should
//! wait for that. Changes that arrive while a notification is being sent share the next one.

use super::{
    Changes, Store, StoreError, engine::Engine, query::query, session_settings::PG_ACQUIRE_TIMEOUT, sessions::Sessions,
    sql_errors::report_if_unusable,
};
use crate::telemetry::spans;
use sqlx::postgres::{PgListener, PgPoolOptions};
use std::{io, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

const NOTIFY_CHANNEL: &str = "registrar";
/// A connection without notifications for this long is checked.
const LISTENER_PING_INTERVAL: Duration = Duration::from_secs(2);

/// Receives the notifications of other replicas.
#[derive(Debug)]
pub struct NotificationListener {
    listener: PgListener,
    sessions: Arc<Sessions>,
    opened_at: Instant,
    replica_id: Uuid,
}

impl Store {
    /// Has the other replicas notified soon. Does nothing, and does not call `changes`, where there are none.
    pub fn enqueue_notification(&self, changes: impl FnOnce() -> Changes) {
        match &*self.engine {
            Engine::Sqlite(_) => {}
            #[cfg(test)]
            Engine::SharedFile(_) => {}
            Engine::Postgres { outbox, .. } => outbox.push(changes()),
        }
    }

    /// Waits for pending changes and sends them; on an error they are lost.
    pub async fn flush_notifications(&self) -> Result<(), StoreError> {
        let Engine::Postgres { outbox, .. } = &*self.engine else { return std::future::pending().await };
        for text in outbox.take().await.encode(outbox.replica_id) {
            let query = query("SELECT pg_notify($1, $2)").bind(NOTIFY_CHANNEL).bind(text);
            spans::db("notify", query.execute(&self.writer)).await?;
        }
        Ok(())
    }

    /// `None` where there are no other replicas.
    pub async fn listen(&self) -> Result<Option<NotificationListener>, StoreError> {
        let Engine::Postgres { servers, sessions, outbox } = &*self.engine else { return Ok(None) };
        let opened_at = Instant::now();
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PG_ACQUIRE_TIMEOUT);
        let pool = pool.connect_lazy_with(servers.options().clone());
        let mut listener = report_if_unusable(PgListener::connect_with(&pool).await)?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        timeout(PG_ACQUIRE_TIMEOUT, listener.listen(NOTIFY_CHANNEL)).await.map_err(|_| connection_lost_error())??;
        let sessions = Arc::clone(sessions);
        Ok(Some(NotificationListener { listener, sessions, opened_at, replica_id: outbox.replica_id }))
    }
}

impl NotificationListener {
    /// The next changes of another replica. An error means a lost connection, and possibly lost notifications.
    pub async fn next_changes(&mut self) -> Result<Changes, StoreError> {
        loop {
            match timeout(LISTENER_PING_INTERVAL, self.listener.try_recv()).await {
                Ok(received) => {
                    let received = received.and_then(|received| received.ok_or_else(connection_lost_error));
                    if let Some(changes) = Changes::decode(report_if_unusable(received)?.payload(), self.replica_id) {
                        return Ok(changes);
                    }
                }
                Err(_) if self.sessions.is_retired(self.opened_at) => return Err(connection_lost_error().into()),
                Err(_) => {
                    let ping = timeout(PG_ACQUIRE_TIMEOUT, sqlx::query("SELECT 1").execute(&mut self.listener)).await;
                    report_if_unusable(ping.map_err(|_| connection_lost_error()).flatten())?;
                }
            }
        }
    }
}

fn connection_lost_error() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "the notification connection was lost"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{RegistrationId, TransactionId},
        store::{Settings, testing::server::Database},
    };

    fn changes(count: u8) -> Changes {
        Changes {
            queued: true,
            registrations: (0..count).map(|number| RegistrationId::from_bytes([number; 16])).collect(),
            transactions: (0..count).map(|number| TransactionId::from_bytes([number; 16])).collect(),
        }
    }

    #[tokio::test]
    async fn a_replica_receives_the_changes_of_another_one_and_not_its_own() {
        let database = Database::new().await;
        let open = async || Store::open(&Settings::Postgres(database.url()), 10).await.unwrap();
        let (first, second) = (open().await, open().await);
        let mut first_listener = first.listen().await.unwrap().unwrap();
        let mut second_listener = second.listen().await.unwrap().unwrap();
        first.enqueue_notification(|| changes(1));
        first.enqueue_notification(|| changes(3));
        first.flush_notifications().await.unwrap();
        assert_eq!(second_listener.next_changes().await.unwrap(), changes(3));
        second.enqueue_notification(|| changes(1));
        second.flush_notifications().await.unwrap();
        assert_eq!(first_listener.next_changes().await.unwrap(), changes(1), "its own came first");
    }

    #[tokio::test]
    async fn a_listener_whose_connection_is_cut_returns_an_error() {
        let database = Database::new().await;
        let store = Store::open(&Settings::Postgres(database.url()), 10).await.unwrap();
        let mut listener = store.listen().await.unwrap().unwrap();
        database
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
                 AND datname = current_database()",
            )
            .await;
        assert!(listener.next_changes().await.is_err());
    }
}
