//! The database as it is on disk, read by tests through a connection of their own while the service runs.

use super::{
    Store, StoreError,
    migrations::TABLES,
    query::query,
    rows::{self, RowReader},
    sqlite::{self, SQLITE_STATEMENT_TIMEOUT},
    timeout_pool::{Source, TimeoutPool},
};
use crate::registration::{Registration, RegistrationId};
use alloy::primitives::{Address, B256};
use std::{collections::HashSet, path::Path};

/// A connection to a database that a service has open.
#[derive(Clone, Debug)]
pub(crate) struct Audit(TimeoutPool);

/// A transaction that has contained a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TransactionMembership {
    pub(crate) registration: RegistrationId,
    pub(crate) signer: Address,
    pub(crate) nonce: u64,
    pub(crate) signed_at: i64,
}

impl Audit {
    /// Opens an existing database.
    pub(crate) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let pool = TimeoutPool::new(Source::SharedFile(sqlite::pool(path, 1, String::new())), SQLITE_STATEMENT_TIMEOUT);
        pool.acquire().await?;
        Ok(Self(pool))
    }

    /// Whether no query is running.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    pub(crate) async fn has_raw_transaction(&self, raw: &[u8]) -> Result<bool, StoreError> {
        let found =
            query("SELECT number FROM attempts WHERE raw = $1").bind(raw.to_vec()).fetch_optional(&self.0).await?;
        Ok(found.is_some())
    }

    /// In the order of acceptance.
    pub(crate) async fn registrations(&self) -> Result<Vec<Registration>, StoreError> {
        let found = query(format!("{} ORDER BY r.id", rows::SELECT_REGISTRATION)).fetch_all(&self.0).await?;
        found.iter().map(rows::read_registration).collect()
    }

    /// Of own transactions, the oldest first.
    pub(crate) async fn memberships(&self) -> Result<Vec<TransactionMembership>, StoreError> {
        let found = query(
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
                nonce: c.number()?,
                signed_at: c.get()?,
            })
        };
        found.iter().map(read).collect()
    }

    /// Writes for a signer by a replica without its lease.
    pub(crate) async fn stale_writes(&self) -> Result<Vec<String>, StoreError> {
        let found = query("SELECT what FROM stale_writes").fetch_all(&self.0).await?;
        found.iter().map(|row| RowReader::new(row).get()).collect()
    }

    /// Transactions of these accounts that are stored as foreign.
    pub(crate) async fn foreign_transactions_of(&self, accounts: &[Address]) -> Result<Vec<B256>, StoreError> {
        let found = query("SELECT signer, hash FROM transactions WHERE nonce IS NULL").fetch_all(&self.0).await?;
        let read = |row| -> Result<(Address, B256), StoreError> {
            let mut c = RowReader::new(row);
            Ok((c.bytes()?, c.bytes()?))
        };
        let found = found.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(found.into_iter().filter(|(account, _)| accounts.contains(account)).map(|(_, hash)| hash).collect())
    }

    /// Nonces of own transactions.
    pub(crate) async fn nonces(&self) -> Result<HashSet<(Address, u64)>, StoreError> {
        let found = query("SELECT signer, nonce FROM transactions WHERE nonce IS NOT NULL").fetch_all(&self.0).await?;
        let read = |row| {
            let mut c = RowReader::new(row);
            Ok((c.bytes()?, c.number()?))
        };
        found.iter().map(read).collect()
    }

    /// Copies the database into a new file.
    pub(crate) async fn copy_to(&self, copy: &Path) -> Result<(), StoreError> {
        query(format!("VACUUM INTO '{}'", copy.display())).execute(&self.0).await?;
        Ok(())
    }

    /// Restores the state of a copy. No other connection may be open.
    pub(crate) async fn restore_from(&self, copy: &Path) -> Result<(), StoreError> {
        let tables = TABLES.iter().filter(|table| !table.starts_with('_'));
        let restore =
            |table| format!("DELETE FROM main.{table}; INSERT INTO main.{table} SELECT * FROM copy.{table}; ");
        let tables: String = tables.map(restore).collect();
        let sql = format!("ATTACH '{}' AS copy; BEGIN IMMEDIATE; {tables} COMMIT; DETACH copy", copy.display());
        self.0.acquire().await?.script(sql).await?;
        Ok(())
    }

    /// Number of a signer's transactions that are neither confirmed nor given up.
    pub(crate) async fn open_transactions(&self, signer: Address) -> Result<u64, StoreError> {
        let row = query(
            "SELECT COUNT(*) FROM transactions WHERE signer = $1 AND state IN ('signed', 'submitted', 'included')",
        )
        .bind(signer.to_vec())
        .fetch_one(&self.0)
        .await?;
        RowReader::new(&row).number()
    }
}

impl Store {
    /// Whether no connection is in use.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_writing() && self.reader.is_idle()
    }

    pub(crate) fn is_writing(&self) -> bool {
        !self.writer.is_idle()
    }

    /// Closes the database like a process that crashes, except that running statements finish.
    pub(crate) async fn close_connections(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
}
