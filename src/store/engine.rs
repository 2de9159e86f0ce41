//! Which database engine serves, and what differs between the two. The statements do not.

use super::{notifications::NotificationOutbox, sqlite::FileLock};
use sqlx::postgres::PgConnectOptions;
use std::fmt;

/// The engine of an open store, with what it needs as long as the store is open.
pub(super) enum Engine {
    /// A file that one process has for itself.
    Sqlite {
        /// Ends with the process, however that dies.
        _lock: FileLock,
    },
    /// A server that several replicas may share.
    Postgres {
        /// How to reach it and our schema, for connections beside the pools.
        options: Box<PgConnectOptions>,
        /// What the other replicas are to be told.
        outbox: NotificationOutbox,
    },
    /// A file that several replicas of one test share; this one's name on its leases.
    #[cfg(test)]
    SharedFile(uuid::Uuid),
}

impl fmt::Debug for Engine {
    /// The options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_shared() { "Engine::Postgres(..)" } else { "Engine::Sqlite(..)" })
    }
}

impl Engine {
    /// Whether other processes may write to the same tables.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite { .. } => false,
            Self::Postgres { .. } => true,
            #[cfg(test)]
            Self::SharedFile(_) => true,
        }
    }

    /// Whether it has locks that a transaction may hold: where it has none, one connection writes at a time.
    pub(super) fn has_transaction_locks(&self) -> bool {
        match self {
            Self::Sqlite { .. } => false,
            Self::Postgres { .. } => true,
            #[cfg(test)]
            Self::SharedFile(_) => false,
        }
    }
}
