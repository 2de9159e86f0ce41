//! What an auditor of a test sees: the database as it is on disk, through a connection of its own, whatever the service is doing.

use super::{
    StoreError,
    rows::{self, Columns},
    sqlite,
};
use crate::registration::{Registration, RegistrationId};
use alloy::primitives::Address;
use sqlx::{AnyPool, AssertSqlSafe};
use std::path::Path;

/// A look at a database that somebody else has open.
#[derive(Clone, Debug)]
pub(crate) struct Audit(AnyPool);

/// One transaction that has carried a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Carried {
    pub(crate) registration: RegistrationId,
    pub(crate) signer: Address,
    pub(crate) nonce: u64,
    pub(crate) signed_at: i64,
}

impl Audit {
    /// Opens a database that is there.
    pub(crate) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        sqlx::any::install_default_drivers();
        sqlite::connect(&format!("sqlite://{}?mode=rwc", path.display()), 1).await.map(Self)
    }

    /// Whether nothing is asked of it just now.
    pub(crate) fn is_idle(&self) -> bool {
        is_idle(&self.0)
    }

    /// Whether these bytes are on disk.
    pub(crate) async fn has_bytes(&self, raw: &[u8]) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT number FROM attempts WHERE raw = $1")
            .bind(raw.to_vec())
            .fetch_optional(&self.0)
            .await?;
        Ok(found.is_some())
    }

    /// Every registration, in the order of acceptance.
    pub(crate) async fn registrations(&self) -> Result<Vec<Registration>, StoreError> {
        let found =
            sqlx::query(AssertSqlSafe(format!("{} ORDER BY r.id", rows::REGISTRATION))).fetch_all(&self.0).await?;
        found.iter().map(rows::registration).collect()
    }

    /// Which transactions of ours have carried what, the oldest first.
    pub(crate) async fn carried(&self) -> Result<Vec<Carried>, StoreError> {
        let found = sqlx::query(
            "SELECT c.registration_id, t.signer, t.nonce, t.signed_at FROM registration_transactions c \
             JOIN transactions t ON t.id = c.transaction_id WHERE t.nonce IS NOT NULL ORDER BY t.signed_at, t.nonce",
        )
        .fetch_all(&self.0)
        .await?;
        let read = |row| {
            let mut c = Columns::of(row);
            Ok(Carried {
                registration: c.registration_id()?,
                signer: c.bytes()?,
                nonce: c.unsigned()?.unwrap_or_default(),
                signed_at: c.get()?,
            })
        };
        found.iter().map(read).collect()
    }

    /// How many transactions of a signer are signed and neither confirmed nor given up.
    pub(crate) async fn open_transactions(&self, signer: Address) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM transactions WHERE signer = $1 AND state IN ('signed', 'submitted', 'included')",
        )
        .bind(signer.to_vec())
        .fetch_one(&self.0)
        .await?;
        Ok(Columns::of(&row).unsigned()?.unwrap_or_default())
    }
}

impl super::Store {
    /// Whether no connection is in use, so that nothing waits for the database.
    pub(crate) fn is_idle(&self) -> bool {
        is_idle(self.writer.connections()) && is_idle(self.reader.connections())
    }
}

fn is_idle(pool: &AnyPool) -> bool {
    pool.is_closed() || pool.num_idle() == pool.size() as usize
}
