//! What the store can fail with, split by what the caller can do about it.

use super::postgres;
use crate::{registration::policy::budget::OverBudget, telemetry::redact};
use std::path::PathBuf;

/// The store cannot be used right now, or holds something it should not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused a statement or could not be reached; nothing of it was written.
    #[error("the database cannot be used: {}", redact(&.0.to_string()))]
    Database(#[from] sqlx::Error),
    /// A row holds what no version of ours writes.
    #[error("the database holds a value that cannot be read: {}", redact(.0))]
    Corrupt(String),
    /// Rows were no longer as they had been read, so nothing was written. Reading again is enough.
    #[error("the rows changed in the meantime")]
    Conflict,
    /// The signer's lease is another replica's by now, so nothing was written.
    #[error("another replica acts for this signer")]
    Fenced,
    /// The day's budget has no room for it, so nothing was written.
    #[error("{0}")]
    OverBudget(OverBudget),
    /// A commit that was shared failed, and nothing of it was written. The log says why, once for all who shared it.
    #[error("the database cannot be written")]
    BatchFailed,
    /// The task that writes has ended: the service is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// A value that cannot be read.
    pub(super) fn corrupt(what: impl ToString) -> Self {
        Self::Corrupt(what.to_string())
    }

    /// Whether the database was not there for it, which is told by itself: whoever meets it has nothing to add.
    pub fn is_reported_elsewhere(&self) -> bool {
        match self {
            Self::Database(error) => postgres::is_connection_error(error),
            Self::Corrupt(_)
            | Self::Conflict
            | Self::Fenced
            | Self::OverBudget(_)
            | Self::BatchFailed
            | Self::Closed => false,
        }
    }

    /// Whether other transactions were in the way and nothing was written, so that the same again may succeed at once: a deadlock
    /// or a serialization failure (<https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html>).
    pub(super) fn is_serialization_conflict(&self) -> bool {
        let Self::Database(sqlx::Error::Database(refusal)) = self else { return false };
        matches!(refusal.code().as_deref(), Some("40P01" | "40001"))
    }
}

/// Why the store cannot be opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another registrar: stop that one, or give this one another REGISTRAR_DATABASE_URL", .0.display())]
    InUse(PathBuf),
    /// The file or its folder cannot be written.
    #[error("{} cannot be written ({kind}): mend its permissions or give another REGISTRAR_DATABASE_URL", path.display())]
    NotWritable {
        /// The database file.
        path: PathBuf,
        /// What the operating system says.
        kind: std::io::ErrorKind,
    },
    /// The database server does not answer.
    #[error(
        "the database server cannot be reached ({}): look whether it runs and lets this machine in, and at host and port in \
         REGISTRAR_DATABASE_URL", redact(&.0.to_string())
    )]
    Unreachable(#[source] sqlx::Error),
    /// Another replica, or whoever else has locked the tables, did not end in time.
    #[error(
        "the database is kept locked by somebody else, so that it cannot be brought to this version: a replica that has just begun \
         may be at it still, or one that is stopped; `SELECT * FROM pg_stat_activity` names who is connected"
    )]
    Locked,
    /// The connection to the database server is not as safe as the settings ask, or the server's certificate is not what they expect.
    #[error(
        "the connection to the database server cannot be made safe ({}): look at sslmode and sslrootcert in \
         REGISTRAR_DATABASE_URL, and at the server's certificate", redact(&.0.to_string())
    )]
    Tls(#[source] sqlx::Error),
    /// A certificate or key that the settings name cannot be read.
    #[error("{}, which REGISTRAR_DATABASE_URL names, cannot be read ({kind})", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        kind: std::io::ErrorKind,
    },
    /// The database server lets nobody in like this: it takes only TLS, or not this user, or not from here.
    #[error(
        "the database server does not let us in like this ({}): look at user, host and sslmode in REGISTRAR_DATABASE_URL, and at the \
         server's pg_hba.conf", redact(&.0.to_string())
    )]
    PgHbaRejected(#[source] sqlx::Error),
    /// The database server knows no such user, or the password is another one.
    #[error("the database server refuses the user or the password of REGISTRAR_DATABASE_URL")]
    Unauthenticated,
    /// The database server has no such database.
    #[error("the database of REGISTRAR_DATABASE_URL does not exist: make it with `createdb`, or name another one")]
    NoDatabase,
    /// The user may not make the schema, or may not use the one that is there.
    #[error(
        "the user of REGISTRAR_DATABASE_URL may not make or use the schema `registrar`: let the database's owner run \
         CREATE SCHEMA registrar AUTHORIZATION with that user, or grant it CREATE on the database"
    )]
    SchemaPermissionDenied,
    /// The database has tables that are not ours.
    #[error(
        "the database has tables that are not the registrar's (`{0}`): give it a database or, on PostgreSQL, a schema `registrar` of its own in REGISTRAR_DATABASE_URL"
    )]
    Foreign(String),
    /// It was made for another chain or contract.
    #[error("{0}")]
    RegistryMismatch(#[from] super::RegistryMismatch),
    /// The migrations failed: most often a database of a newer version.
    #[error("the database cannot be brought to this version: {}", redact(&.0.to_string()))]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// Anything else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Whether this may pass by itself, so that a start does well to wait: the server is on its way, or has too many guests.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Locked => true,
            Self::InUse(_)
            | Self::NotWritable { .. }
            | Self::Tls(_)
            | Self::Certificate { .. }
            | Self::PgHbaRejected(_)
            | Self::Unauthenticated
            | Self::NoDatabase
            | Self::SchemaPermissionDenied
            | Self::Foreign(_)
            | Self::RegistryMismatch(_)
            | Self::Migration(_)
            | Self::Store(_) => false,
        }
    }
}

impl OpenError {
    /// Whether another process is in the way, and nothing is wrong with the settings.
    pub fn is_locked_by_other_process(&self) -> bool {
        matches!(self, Self::InUse(_))
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
