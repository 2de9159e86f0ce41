//! What sqlx's errors say about the database.

use super::file_problem::FileProblem;
use crate::telemetry::{events, redact};
use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};
use std::{io, time::Duration};
use tokio::time::timeout;

/// Whether the server may be available a moment later: it cannot be reached, has no free connections, is starting or
/// shutting down, or an administrator ended the session. rustls reports a handshake that failed for its contents as
/// invalid data.
pub(super) fn is_connection_error(error: &Error) -> bool {
    if let Error::Io(error) = error {
        return error.kind() != io::ErrorKind::InvalidData;
    }
    // 08: connection exceptions. 25P03 and 57P05: the server's timeouts for idle sessions.
    let code = sqlstate(error);
    matches!(error, Error::PoolTimedOut)
        || code.starts_with("08")
        || ["25P03", "53300", "57P01", "57P02", "57P03", "57P05"].contains(&code.as_str())
        || is_refused_by_pooler(error, &code)
}

/// Poolers and serverless databases (Supavisor, Neon) end a login with PostgreSQL's code for internal errors: while the
/// server wakes up or is replaced, when they have no room, and for a user that they do not know (yet).
fn is_refused_by_pooler(error: &Error, code: &str) -> bool {
    let severity = || Some(error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.severity());
    code == "XX000" && matches!(severity(), Some(PgSeverity::Fatal))
}

/// What an error says about the database as a whole, beyond the statement that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// The server cannot be reached, or ended the session.
    Connection,
    /// The server is a standby, or is being switched over.
    ReadOnly,
    /// A full disk, a quota, or a disk that fails.
    Storage,
    /// The stored data is not what was written.
    Damage,
}

pub(super) fn fault(error: &Error) -> Option<Fault> {
    if let Error::Io(error) = error {
        if error.get_ref().is_some_and(|inner| inner.is::<FileProblem>()) {
            return Some(Fault::Damage);
        }
        let is_read_only = error.kind() == io::ErrorKind::ReadOnlyFilesystem;
        let fault = if is_read_only { Fault::ReadOnly } else { Fault::Connection };
        return (error.kind() != io::ErrorKind::InvalidData).then_some(fault);
    }
    if is_connection_error(error) {
        return Some(Fault::Connection);
    }
    let code = sqlstate(error);
    match code.len() {
        0 => None,
        5 => postgres_fault(&code),
        _ => sqlite_fault(code.parse().unwrap_or_default()),
    }
}

fn postgres_fault(code: &str) -> Option<Fault> {
    match code {
        "25006" => Some(Fault::ReadOnly),
        "53000" | "53100" | "53200" | "58000" | "58030" => Some(Fault::Storage),
        "XX001" | "XX002" => Some(Fault::Damage),
        _ => None,
    }
}

/// By the result codes of <https://www.sqlite.org/rescode.html>; the extended code has the primary one in its low byte.
fn sqlite_fault(code: i32) -> Option<Fault> {
    const SHORT_READ: i32 = 522;
    match (code, code & 0xff) {
        (SHORT_READ, _) | (_, 11 | 26) => Some(Fault::Damage),
        // NOMEM, READONLY, IOERR, FULL, CANTOPEN
        (_, 7 | 8 | 10 | 13 | 14) => Some(Fault::Storage),
        _ => None,
    }
}

/// The error of a session that only reads.
pub(super) fn read_only_error() -> Error {
    let why = "the server only reads: it is a standby or is being switched over, or default_transaction_read_only is \
               set for this user or database";
    Error::Io(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, why))
}

/// The error of a server that has another database than the first one.
pub(super) fn other_database_error() -> Error {
    let why = "the server is no copy by streaming replication of the first one that was used: its system identifier \
               differs";
    Error::Io(io::Error::other(why))
}

/// The error of a session whose settings are gone.
pub(super) fn lost_settings_error() -> Error {
    let why = "the session lost its settings: the pooler between this service and the server has to pool by session \
               (PgBouncer: pool_mode = session)";
    Error::Io(io::Error::other(why))
}

/// The error's text for operators, without sqlx's introduction to input and output errors.
pub(super) fn reason(error: &Error) -> String {
    let text = if let Error::Io(error) = error { error.to_string() } else { error.to_string() };
    redact(&text).into_owned()
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

/// Records a fault of the database for the report of [`super::Store::is_usable`], and returns the result unchanged.
pub(super) fn report_if_unusable<T>(answer: Result<T, Error>) -> Result<T, Error> {
    if let Some(error) = answer.as_ref().err().filter(|error| fault(error).is_some()) {
        events::record_database_failure(reason(error));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_codes_of_both_engines_distinguish_a_fault_of_the_database_from_one_of_the_statement() {
        for (code, expected) in [
            // SQLITE_BUSY, _CONSTRAINT_UNIQUE, _FULL, _IOERR_WRITE, _IOERR_FSYNC, _IOERR_SHORT_READ, _CANTOPEN,
            // _READONLY_DBMOVED, _CORRUPT, _CORRUPT_INDEX, _NOTADB
            (5, None),
            (2067, None),
            (13, Some(Fault::Storage)),
            (778, Some(Fault::Storage)),
            (1034, Some(Fault::Storage)),
            (522, Some(Fault::Damage)),
            (14, Some(Fault::Storage)),
            (1032, Some(Fault::Storage)),
            (11, Some(Fault::Damage)),
            (779, Some(Fault::Damage)),
            (26, Some(Fault::Damage)),
        ] {
            assert_eq!(sqlite_fault(code), expected, "{code}");
        }
        for (code, expected) in [
            ("25006", Some(Fault::ReadOnly)),
            ("53100", Some(Fault::Storage)),
            ("58030", Some(Fault::Storage)),
            ("XX001", Some(Fault::Damage)),
            ("23505", None),
            ("57014", None),
            ("40001", None),
        ] {
            assert_eq!(postgres_fault(code), expected, "{code}");
        }
        assert_eq!(fault(&read_only_error()), Some(Fault::ReadOnly));
        assert_eq!(fault(&timeout_error()), Some(Fault::Connection));
        assert_eq!(fault(&Error::RowNotFound), None);
    }
}
