//! Which database engine is in use, and what differs between the two. The statements do not.

use super::{
    StoreError, changes::NotificationOutbox, database_file::DatabaseFile, servers::Servers, sessions::Sessions, sqlite,
};
use std::{fmt, sync::Arc};

pub(super) enum Engine {
    Sqlite(Arc<DatabaseFile>),
    Postgres {
        /// For connections outside the pools.
        servers: Arc<Servers>,
        sessions: Arc<Sessions>,
        outbox: NotificationOutbox,
    },
    /// A file that several replicas of one test share; the id names this replica in its leases.
    #[cfg(test)]
    SharedFile(uuid::Uuid),
}

impl fmt::Debug for Engine {
    /// Its parts have no form of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_shared() { "Engine::Postgres(..)" } else { "Engine::Sqlite(..)" })
    }
}

impl Engine {
    /// Whether other processes may write to the same tables.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres { .. } => true,
            #[cfg(test)]
            Self::SharedFile(_) => true,
        }
    }

    /// Whether a transaction can hold an advisory lock. An engine without such locks has a single writer connection.
    pub(super) fn has_transaction_locks(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres { .. } => true,
            #[cfg(test)]
            Self::SharedFile(_) => false,
        }
    }

    /// Whether a commit would reach the database that was opened. Only for the holder of the writer connection.
    pub(super) async fn check_before_commit(&self) -> Result<(), StoreError> {
        let Self::Sqlite(file) = self else { return Ok(()) };
        match file.check_unchanged() {
            Ok(None) => Ok(()),
            Ok(Some(stamp)) => Ok(sqlite::verify(file, stamp).await?),
            Err(problem) => Err(sqlx::Error::from(problem).into()),
        }
    }

    /// Before the writer connection is released.
    pub(super) fn committed(&self) {
        if let Self::Sqlite(file) = self {
            file.written();
        }
    }

    /// Whether the database that was committed to is still the one at its path.
    pub(super) fn check_after_commit(&self) -> Result<(), StoreError> {
        let Self::Sqlite(file) = self else { return Ok(()) };
        Ok(file.check_present().map_err(sqlx::Error::from)?)
    }
}
