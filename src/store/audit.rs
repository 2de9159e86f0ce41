//! What an auditor of a test sees: the database as it is on disk, through a connection of its own, whatever the service is doing.

use super::{
    StoreError, open,
    rows::{self, RowReader},
    sqlite,
};
use crate::registration::{Registration, RegistrationId};
use alloy::primitives::{Address, B256};
use sqlx::{AnyPool, AssertSqlSafe};
use std::{collections::HashSet, path::Path};

/// A look at a database that somebody else has open.
#[derive(Clone, Debug)]
pub(crate) struct Audit(AnyPool);

/// One transaction that has carried a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TransactionMembership {
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
    pub(crate) async fn has_raw_transaction(&self, raw: &[u8]) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT number FROM attempts WHERE raw = $1")
            .bind(raw.to_vec())
            .fetch_optional(&self.0)
            .await?;
        Ok(found.is_some())
    }

    /// Every registration, in the order of acceptance.
    pub(crate) async fn registrations(&self) -> Result<Vec<Registration>, StoreError> {
        let found = sqlx::query(AssertSqlSafe(format!("{} ORDER BY r.id", rows::SELECT_REGISTRATION)))
            .fetch_all(&self.0)
            .await?;
        found.iter().map(rows::read_registration).collect()
    }

    /// Which transactions of ours have carried what, the oldest first.
    pub(crate) async fn memberships(&self) -> Result<Vec<TransactionMembership>, StoreError> {
        let found = sqlx::query(
            "SELECT c.registration_id, t.signer, t.nonce, t.signed_at FROM registration_transactions c \
             JOIN transactions t ON t.id = c.transaction_id WHERE t.nonce IS NOT NULL ORDER BY t.signed_at, t.nonce",
        )
        .fetch_all(&self.0)
        .await?;
        let read = |row| {
            let mut c = RowReader::new(row);
            Ok(TransactionMembership {
                registration: c.registration_id()?,
                signer: c.bytes()?,
                nonce: c.unsigned()?.unwrap_or_default(),
                signed_at: c.get()?,
            })
        };
        found.iter().map(read).collect()
    }

    /// What was written for a signer by a replica that did not hold its lease.
    pub(crate) async fn stale_writes(&self) -> Result<Vec<String>, StoreError> {
        let found = sqlx::query("SELECT what FROM stale_writes").fetch_all(&self.0).await?;
        found.iter().map(|row| RowReader::new(row).get()).collect()
    }

    /// The transactions of these accounts that were taken for a stranger's.
    pub(crate) async fn foreign_transactions_of(&self, accounts: &[Address]) -> Result<Vec<B256>, StoreError> {
        let found = sqlx::query("SELECT signer, hash FROM transactions WHERE nonce IS NULL").fetch_all(&self.0).await?;
        let read = |row| -> Result<(Address, B256), StoreError> {
            let mut c = RowReader::new(row);
            Ok((c.bytes()?, c.bytes()?))
        };
        let found = found.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().filter(|(account, _)| accounts.contains(account)).map(|(_, hash)| hash).collect())
    }

    /// The nonces that were given out here.
    pub(crate) async fn nonces(&self) -> Result<HashSet<(Address, u64)>, StoreError> {
        let found =
            sqlx::query("SELECT signer, nonce FROM transactions WHERE nonce IS NOT NULL").fetch_all(&self.0).await?;
        let read = |row| {
            let mut c = RowReader::new(row);
            Ok((c.bytes()?, c.unsigned()?.unwrap_or_default()))
        };
        found.iter().map(read).collect()
    }

    /// Copies all that there is into a file that is not there.
    pub(crate) async fn copy_to(&self, copy: &Path) -> Result<(), StoreError> {
        let copy = AssertSqlSafe(format!("VACUUM INTO '{}'", copy.display()));
        sqlx::raw_sql(copy).execute(&self.0).await?;
        Ok(())
    }

    /// Puts everything back to how it was when this copy was made. Nobody else may have the database open.
    pub(crate) async fn restore_from(&self, copy: &Path) -> Result<(), StoreError> {
        let tables = open::TABLES.iter().filter(|table| !table.starts_with('_'));
        let put_back =
            |table| format!("DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM copy.{table}; ");
        let tables: String = tables.map(put_back).collect();
        let sql = format!("ATTACH '{}' AS copy; BEGIN IMMEDIATE; {tables} COMMIT; DETACH copy", copy.display());
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.0).await?;
        Ok(())
    }

    /// How many transactions of a signer are signed and neither confirmed nor given up.
    pub(crate) async fn open_transactions(&self, signer: Address) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) FROM transactions WHERE signer = $1 AND state IN ('signed', 'submitted', 'included')",
        )
        .bind(signer.to_vec())
        .fetch_one(&self.0)
        .await?;
        Ok(RowReader::new(&row).unsigned()?.unwrap_or_default())
    }
}

impl super::Store {
    /// Whether no connection is in use, so that nothing waits for the database.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_writing() && is_idle(self.reader.connections())
    }

    /// Whether something is being written.
    pub(crate) fn is_writing(&self) -> bool {
        !is_idle(self.writer.connections())
    }

    /// Lets go of the database as a process that dies does, but for what is on its way.
    pub(crate) async fn close_connections(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
}

fn is_idle(pool: &AnyPool) -> bool {
    pool.is_closed() || pool.num_idle() == pool.size() as usize
}
