//! Whether the database is there, for whoever asks and for operators.

use super::{
    Engine, Store,
    postgres::{self, PG_ACQUIRE_TIMEOUT},
};
use crate::telemetry::{events, redact};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout};

impl Store {
    /// Whether the database answers. What has changed about that is told.
    pub async fn is_usable(&self) -> bool {
        let asked = Instant::now();
        let failure = events::take_database_failure();
        match sqlx::query("SELECT 1").fetch_one(&self.reader).await {
            Ok(_) => {
                events::database_available(&self.display_name, asked, failure);
                true
            }
            // We have closed it ourselves.
            Err(sqlx::Error::PoolClosed) => false,
            Err(error) => {
                let why = if events::is_database_unavailable() { error } else { self.diagnose_connect(error).await };
                events::database_unavailable(&self.display_name, asked, &redact(&why.to_string()));
                false
            }
        }
    }

    /// A pool that waited in vain for a connection does not say for what: trying to connect does.
    async fn diagnose_connect(&self, error: sqlx::Error) -> sqlx::Error {
        match &*self.engine {
            Engine::Sqlite { .. } => error,
            #[cfg(test)]
            Engine::SharedFile(_) => error,
            Engine::Postgres { options, .. } => match timeout(PG_ACQUIRE_TIMEOUT, try_connect(options)).await {
                Ok(Ok(())) => error,
                Ok(Err(why)) => why,
                Err(_) => postgres::timeout_error(),
            },
        }
    }

    /// The database by engine and place, without user and password.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }
}

async fn try_connect(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    PgConnection::connect_with(options).await?.close().await
}

/// The same, after what it says of the database was noted.
pub(super) fn report_if_unreachable<T>(answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    if let Some(error) = answer.as_ref().err().filter(|error| postgres::is_connection_error(error)) {
        events::record_database_failure(redact(&error.to_string()).into_owned());
    }
    answer
}
