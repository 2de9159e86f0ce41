//! Which database engine is in use, and what differs between the two. The statements do not.

use super::{changes::NotificationOutbox, sqlite::FileLock};
use sqlx::postgres::PgConnectOptions;
use std::fmt;

pub(super) enum Engine {
    Sqlite {
        _lock: FileLock,
    },
    Postgres {
        /// For connections outside the pools; they select our schema.
        options: Box<PgConnectOptions>,
        outbox: NotificationOutbox,
    },
    /// A file that several replicas of one test share; the id names this replica in its leases.
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

    /// Whether a transaction can hold an advisory lock. An engine without such locks has a single writer connection.
    pub(super) fn has_transaction_locks(&self) -> bool {
        match self {
            Self::Sqlite { .. } => false,
            Self::Postgres { .. } => true,
            #[cfg(test)]
            Self::SharedFile(_) => false,
        }
    }
}
