//! Whether the database can be used, for health checks and operators.
//!
//! A database that answers may not be writable: its disk is full, its server was switched over, its file is gone. So a
//! probe writes, unless other work has just been committed.

use super::{
    Store, StoreError,
    engine::Engine,
    probe::{LARGE_PADDING_BYTES, OLD_PROBE, PROBE_INTERVAL, ProbeResult, Write, next_write},
    query::query,
    servers::Servers,
    session_settings::PG_ACQUIRE_TIMEOUT,
    sessions::{Look, Sessions},
    sql_errors::{reason, timeout_error},
    transact::Fence,
};
use crate::{clock, telemetry::events};
use sqlx::Connection;
use tokio::time::{Instant, timeout};

impl Store {
    /// Whether the database can be read and written. Reports when it has become unavailable or available.
    pub async fn is_usable(&self) -> bool {
        let mut latest = self.probe.latest.lock().await;
        if let Some(result) = latest.filter(|result| result.at.elapsed() < PROBE_INTERVAL) {
            return result.is_usable;
        }
        let started = Instant::now();
        let failure = events::take_database_failure();
        let has_failed = failure.is_some() || latest.is_some_and(|result| !result.is_usable);
        let committed_at = *self.probe.committed_at.lock();
        let write = next_write(has_failed, committed_at.map(|at| at.elapsed()));
        let is_usable = match self.probe_sessions(has_failed, write).await {
            Ok(()) => {
                events::database_available(&self.display_name, started, failure);
                true
            }
            // We have closed it ourselves.
            Err(StoreError::Database(sqlx::Error::PoolClosed)) => false,
            Err(error) => {
                let error = if events::is_database_unavailable() { error } else { self.diagnose(error).await };
                events::database_unavailable(&self.display_name, started, &reason_of(&error));
                false
            }
        };
        *latest = Some(ProbeResult { at: Instant::now(), is_usable });
        is_usable
    }

    /// Where the sessions lead is looked at too; when they have to be replaced, new ones are probed.
    async fn probe_sessions(&self, has_failed: bool, write: Write) -> Result<(), StoreError> {
        let result = self.probe_database(write).await;
        let Engine::Postgres { servers, sessions, .. } = &*self.engine else { return result };
        if result.is_ok() && !has_failed && !sessions.is_look_due() {
            return result;
        }
        if !look(sessions, servers, result.is_ok()).await {
            return result;
        }
        self.writer.close_idle();
        self.reader.close_idle();
        self.probe_database(Write::Small).await
    }

    async fn probe_database(&self, write: Write) -> Result<(), StoreError> {
        if let Engine::Sqlite(file) = &*self.engine {
            // Nothing is written meanwhile.
            let _writer = self.writer.acquire().await?;
            self.engine.check_before_commit().await?;
            events::database_log_length(&self.display_name, file.log_length());
        }
        query("SELECT 1").fetch_one(&self.reader).await?;
        match write {
            Write::None => Ok(()),
            Write::Small => self.write_probe(0).await,
            Write::Large => self.write_probe(LARGE_PADDING_BYTES).await,
        }
    }

    async fn write_probe(&self, padding: usize) -> Result<(), StoreError> {
        let now = clock::now();
        self.transact("probe", Fence::None, async |tx| {
            query(
                "INSERT INTO write_probes (holder, probed_at, padding) VALUES ($1, $2, $3) ON CONFLICT (holder) DO \
                 UPDATE SET probed_at = excluded.probed_at, padding = excluded.padding",
            )
            .bind(self.leases.holder_id())
            .bind(now)
            .bind(vec![0_u8; padding])
            .execute(&mut **tx)
            .await?;
            let old = now.micros().saturating_sub(i64::try_from(OLD_PROBE.as_micros()).unwrap_or(i64::MAX));
            let delete = query("DELETE FROM write_probes WHERE probed_at < $1 AND holder <> $2");
            delete.bind(old).bind(self.leases.holder_id()).execute(&mut **tx).await?;
            Ok(())
        })
        .await?;
        if let Engine::Sqlite(file) = &*self.engine {
            file.probed(now);
        }
        Ok(())
    }

    /// A pool that timed out waiting for a connection has no reason; connecting once returns one.
    async fn diagnose(&self, error: StoreError) -> StoreError {
        let Engine::Postgres { servers, .. } = &*self.engine else { return error };
        match timeout(PG_ACQUIRE_TIMEOUT, connect_once(servers)).await {
            Ok(Ok(())) => error,
            Ok(Err(reason)) => reason.into(),
            Err(_) => timeout_error().into(),
        }
    }
}

/// Whether the sessions have to be replaced: the address leads to another server, or a new connection works and the old
/// ones do not.
async fn look(sessions: &Sessions, servers: &Servers, sessions_work: bool) -> bool {
    match sessions.look(servers).await {
        Ok(Look::OtherServer) => {
            events::database_switched_over();
            true
        }
        Ok(Look::SameServer) if !sessions_work => {
            sessions.retire();
            true
        }
        Ok(Look::SameServer) | Err(_) => false,
    }
}

async fn connect_once(servers: &Servers) -> Result<(), sqlx::Error> {
    servers.connect().await?.close().await
}

fn reason_of(error: &StoreError) -> String {
    match error {
        StoreError::Database(error) => reason(error),
        StoreError::Corrupt(_)
        | StoreError::Conflict
        | StoreError::Fenced
        | StoreError::OverBudget(_)
        | StoreError::BatchFailed
        | StoreError::Closed => error.to_string(),
    }
}
