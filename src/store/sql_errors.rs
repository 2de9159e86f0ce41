//! What sqlx's errors say about the database server.

use crate::telemetry::{events, redact};
use sqlx::Error;
use std::{io, time::Duration};
use tokio::time::timeout;

/// Whether the server may be available a moment later: it cannot be reached, has no free connections, is starting or
/// shutting down, or an administrator ended the session. rustls reports a handshake that failed for its contents as
/// invalid data.
pub(super) fn is_connection_error(error: &Error) -> bool {
    if let Error::Io(error) = error {
        return error.kind() != io::ErrorKind::InvalidData;
    }
    matches!(error, Error::PoolTimedOut) || ["53300", "57P01", "57P02", "57P03"].contains(&sqlstate(error).as_str())
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>; empty where there is none.
pub(super) fn sqlstate(error: &Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

pub(super) fn timeout_error() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database did not answer in time"))
}

pub(super) async fn with_timeout<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, answer).await.unwrap_or_else(|_| Err(timeout_error()))
}

/// Records a connection error for the report of [`super::Store::is_usable`], and returns the result unchanged.
pub(super) fn report_if_unreachable<T>(answer: Result<T, Error>) -> Result<T, Error> {
    if let Some(error) = answer.as_ref().err().filter(|error| is_connection_error(error)) {
        events::record_database_failure(redact(&error.to_string()).into_owned());
    }
    answer
}
