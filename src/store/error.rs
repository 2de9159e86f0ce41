//! What the store can fail with, split by what the caller can do about it.

use super::{
    RegistryMismatch,
    sql_errors::{Fault, fault, read_only_error, reason, sqlstate},
};
use crate::{registration::policy::budget::OverBudget, telemetry::redact};
use std::path::PathBuf;

/// The database cannot be used now, or a row or condition prevents the operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database rejected a statement or cannot be reached; nothing was written.
    #[error("the database cannot be used: {}", reason(.0))]
    Database(#[from] sqlx::Error),
    /// A row holds a value that no version of this program writes.
    #[error("the database holds an invalid value: {}", redact(.0))]
    Corrupt(String),
    /// The rows are no longer as they were read, so nothing was written. Reading them again is enough.
    #[error("the rows were changed in the meantime")]
    Conflict,
    /// Another replica holds the signer's lease, so nothing was written.
    #[error("another replica holds the lease of this signer")]
    Fenced,
    /// The rest of the daily budget is too small, so nothing was written.
    #[error("{0}")]
    OverBudget(OverBudget),
    /// A shared commit failed, and nothing of it was written. The log has the reason, once for all requests that shared
    /// it.
    #[error("the database cannot be written")]
    BatchFailed,
    /// The writer task has ended: the service is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn corrupt(what: impl ToString) -> Self {
        Self::Corrupt(what.to_string())
    }

    /// Whether waiting may resolve it: the server went away or only reads, as during a switch-over.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if matches!(fault(error), Some(Fault::Connection | Fault::ReadOnly)))
    }

    /// Whether the database as a whole cannot be used, which is reported separately: a caller need not log it.
    pub fn is_reported_elsewhere(&self) -> bool {
        match self {
            Self::Database(error) => fault(error).is_some(),
            Self::Corrupt(_)
            | Self::Conflict
            | Self::Fenced
            | Self::OverBudget(_)
            | Self::BatchFailed
            | Self::Closed => false,
        }
    }

    /// A deadlock or a serialization failure: nothing was written, and a retry may succeed at once
    /// (<https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html>).
    pub(super) fn is_serialization_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if ["40P01", "40001"].contains(&sqlstate(error).as_str()))
    }
}

/// Why the database cannot be opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{} is in use by another registrar; stop that process or set REGISTRAR_DATABASE_URL to another file",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file or its directory.
    #[error(
        "{} is not writable ({kind}); fix its permissions or set REGISTRAR_DATABASE_URL to another file", path.display()
    )]
    NotWritable { path: PathBuf, kind: std::io::ErrorKind },
    /// SQLite keeps its log beside one of the names: a start by another name would not find what is in it.
    #[error(
        "{} has {links} names (hard links); SQLite needs one, so keep one name or make a copy with \
         `sqlite3 ... \".backup FILE\"`", path.display()
    )]
    HardLinks { path: PathBuf, links: u64 },
    #[error(
        "the database server cannot be reached ({}); check that it is running and accepts connections from this \
         machine, and the host and port in REGISTRAR_DATABASE_URL", redact(&.0.to_string())
    )]
    Unreachable(#[source] sqlx::Error),
    #[error(
        "the pooler in REGISTRAR_DATABASE_URL rejects the connection ({}); for PgBouncer, add \
         `ignore_startup_parameters = extra_float_digits` to pgbouncer.ini", redact(&.0.to_string())
    )]
    PoolerParameter(#[source] sqlx::Error),
    #[error(
        "the pooler in REGISTRAR_DATABASE_URL does not pool by session, and the service needs its own sessions \
         (settings, prepared statements, advisory locks, LISTEN); for PgBouncer, set `pool_mode = session` for this \
         database, or connect to the server directly"
    )]
    PoolerMode,
    #[error("the database server of REGISTRAR_DATABASE_URL cannot be used: {}", reason(&read_only_error()))]
    ReadOnlyServer,
    /// Another replica, or another session that has locked the tables, did not finish in time.
    #[error(
        "the database is locked by another session, so its schema cannot be migrated; a replica that has just \
         started may still be migrating it, or one may be stopped while it does; `SELECT * FROM pg_stat_activity` \
         lists the sessions"
    )]
    Locked,
    /// TLS is not available as the settings require it, or the server's certificate is not the expected one.
    #[error(
        "the connection to the database server cannot be secured ({}); check sslmode and sslrootcert in \
         REGISTRAR_DATABASE_URL, and the server's certificate", redact(&.0.to_string())
    )]
    Tls(#[source] sqlx::Error),
    /// A certificate or key file that the settings name.
    #[error("{}, named in REGISTRAR_DATABASE_URL, is not readable ({kind})", path.display())]
    Certificate { path: PathBuf, kind: std::io::ErrorKind },
    /// No entry in pg_hba.conf allows this user, host and TLS mode.
    #[error(
        "the database server does not allow this connection ({}); check user, host and sslmode in \
         REGISTRAR_DATABASE_URL, and the server's pg_hba.conf", redact(&.0.to_string())
    )]
    PgHbaRejected(#[source] sqlx::Error),
    #[error("the database server rejects the user or the password in REGISTRAR_DATABASE_URL")]
    Unauthenticated,
    #[error("the database in REGISTRAR_DATABASE_URL does not exist; create it with `createdb`, or name another one")]
    NoDatabase,
    #[error(
        "the user in REGISTRAR_DATABASE_URL may not create or use the schema `registrar`; have the database's owner \
         run CREATE SCHEMA registrar AUTHORIZATION with that user, or grant it CREATE on the database"
    )]
    SchemaPermissionDenied,
    #[error(
        "the database has a table that does not belong to the registrar (`{0}`); set REGISTRAR_DATABASE_URL to an \
         empty database or, on PostgreSQL, to one without a schema `registrar`"
    )]
    Foreign(String),
    #[error("{0}")]
    RegistryMismatch(#[from] RegistryMismatch),
    #[error(
        "the database has version {found} of the schema, of a later release; this one knows {known} and cannot use it: \
         start the later release again, or restore the backup that was taken before the upgrade"
    )]
    LaterVersion { found: i64, known: i64 },
    #[error("the database schema cannot be migrated to this version: {}", redact(&.0.to_string()))]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// Whether waiting may resolve it: the server is starting, has no free connections, or another replica is
    /// migrating.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::ReadOnlyServer | Self::Locked => true,
            Self::Store(error) => error.is_transient(),
            Self::InUse(_)
            | Self::NotWritable { .. }
            | Self::HardLinks { .. }
            | Self::PoolerParameter(_)
            | Self::PoolerMode
            | Self::Tls(_)
            | Self::Certificate { .. }
            | Self::PgHbaRejected(_)
            | Self::Unauthenticated
            | Self::NoDatabase
            | Self::SchemaPermissionDenied
            | Self::Foreign(_)
            | Self::RegistryMismatch(_)
            | Self::LaterVersion { .. }
            | Self::Migration(_) => false,
        }
    }

    /// Whether another process has the database, and nothing is wrong with the settings.
    pub fn is_locked_by_other_process(&self) -> bool {
        matches!(self, Self::InUse(_))
    }
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
