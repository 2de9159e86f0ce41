//! Whether the database is there, for whoever asks and for operators.

use super::{
    Engine, Store,
    postgres::{self, ACQUIRE_TIMEOUT},
};
use crate::telemetry::{events, redact};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, timeout};

impl Store {
    /// Whether the database answers. What has changed about that is told.
    pub async fn is_usable(&self) -> bool {
        let asked = Instant::now();
        let failure = events::database_failure();
        match sqlx::query("SELECT 1").fetch_one(&self.reader).await {
            Ok(_) => {
                events::database_answers(&self.place, asked, failure);
                true
            }
            // We have closed it ourselves.
            Err(sqlx::Error::PoolClosed) => false,
            Err(error) => {
                let why = if events::database_is_lost() { error } else { self.why(error).await };
                events::database_lost(&self.place, asked, &redact(&why.to_string()));
                false
            }
        }
    }

    /// A pool that waited in vain for a connection does not say for what: trying to connect does.
    async fn why(&self, error: sqlx::Error) -> sqlx::Error {
        match &*self.engine {
            Engine::Sqlite { .. } => error,
            #[cfg(test)]
            Engine::SharedFile(_) => error,
            Engine::Postgres { options, .. } => match timeout(ACQUIRE_TIMEOUT, connect(options)).await {
                Ok(Ok(())) => error,
                Ok(Err(why)) => why,
                Err(_) => postgres::silent(),
            },
        }
    }

    /// The database by engine and place, without user and password.
    pub fn place(&self) -> &str {
        &self.place
    }
}

async fn connect(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    PgConnection::connect_with(options).await?.close().await
}

/// The same, after what it says of the database was noted.
pub(super) fn noticed<T>(answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    if let Some(error) = answer.as_ref().err().filter(|error| postgres::is_away(error)) {
        events::database_failed(redact(&error.to_string()).into_owned());
    }
    answer
}
