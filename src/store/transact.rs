//! Every write transaction: its name, its span, the lease that it needs, and its commit.

use super::{Store, StoreError, db_transaction::DbTransaction, query::query, rows::RowReader};
use crate::{registration::TransactionId, telemetry::spans};
use alloy::primitives::Address;

/// Whose lease this process must hold for a write. The lease's row stays locked until the write ends, so that the lease
/// cannot change hands in between.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fence {
    None,
    Signer(Address),
    /// The signer of this transaction.
    Transaction(TransactionId),
}

impl Store {
    /// Runs a write transaction and commits it; on an error nothing of it is written. `name` is the name of its span.
    /// Every statement has the writer pool's timeout. [`StoreError::Fenced`] if another replica holds the lease.
    pub(super) async fn transact<T>(
        &self,
        name: &'static str,
        fence: Fence,
        write: impl AsyncFnOnce(&mut DbTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let run = async {
            let mut tx = DbTransaction::begin(&self.writer, &self.change_numbers).await?;
            self.check_fence(&mut tx, fence).await?;
            let result = write(&mut tx).await?;
            self.commit(tx).await?;
            Ok(result)
        };
        spans::db(name, run).await
    }

    pub(super) async fn commit(&self, tx: DbTransaction) -> Result<(), StoreError> {
        self.engine.check_before_commit().await?;
        let has_changes = tx.has_changes;
        tx.commit_then(|unfinished| {
            self.engine.committed();
            self.probe.committed();
            self.add_unfinished(unfinished.added);
            self.sub_unfinished(unfinished.removed);
        })
        .await?;
        if has_changes {
            self.changes_committed.notify_one();
        }
        self.engine.check_after_commit()
    }

    pub(super) async fn check_fence(&self, tx: &mut DbTransaction, fence: Fence) -> Result<(), StoreError> {
        let (signer, key) = match fence {
            Fence::None => return Ok(()),
            Fence::Signer(signer) => ("$1", signer.to_vec()),
            Fence::Transaction(id) => ("(SELECT signer FROM transactions WHERE id = $1)", id.as_bytes().to_vec()),
        };
        let sql = format!(
            "UPDATE leases SET uses = uses + 1 WHERE signer = {signer} AND holder = $2 RETURNING signer, token"
        );
        let query = query(sql).bind(key).bind(self.leases.holder_id());
        let row = query.fetch_optional(&mut **tx).await?.ok_or(StoreError::Fenced)?;
        let mut c = RowReader::new(&row);
        let (signer, token): (Address, i64) = (c.bytes()?, c.get()?);
        if self.leases.is_held(signer, token) { Ok(()) } else { Err(StoreError::Fenced) }
    }
}
