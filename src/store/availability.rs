//! Whether the database can be used, for health checks and operators.

use super::{Store, engine::Engine, postgres::PG_ACQUIRE_TIMEOUT, sql_errors::timeout_error};
use crate::telemetry::{events, redact};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout};

impl Store {
    /// Queries the database, and reports when it has become unavailable or available.
    pub async fn is_usable(&self) -> bool {
        let started = Instant::now();
        let failure = events::take_database_failure();
        match sqlx::query("SELECT 1").fetch_one(&self.reader).await {
            Ok(_) => {
                events::database_available(&self.display_name, started, failure);
                true
            }
            // We have closed it ourselves.
            Err(sqlx::Error::PoolClosed) => false,
            Err(error) => {
                let error = if events::is_database_unavailable() { error } else { self.diagnose_connect(error).await };
                events::database_unavailable(&self.display_name, started, &redact(&error.to_string()));
                false
            }
        }
    }

    /// A pool that timed out waiting for a connection has no reason; connecting once returns one.
    async fn diagnose_connect(&self, error: sqlx::Error) -> sqlx::Error {
        match &*self.engine {
            Engine::Sqlite { .. } => error,
            #[cfg(test)]
            Engine::SharedFile(_) => error,
            Engine::Postgres { options, .. } => match timeout(PG_ACQUIRE_TIMEOUT, try_connect(options)).await {
                Ok(Ok(())) => error,
                Ok(Err(reason)) => reason,
                Err(_) => timeout_error(),
            },
        }
    }
}

async fn try_connect(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    PgConnection::connect_with(options).await?.close().await
}
