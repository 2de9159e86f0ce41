//! Retention: what nobody needs any more is removed, and what people ask for stays.
//!
//! The raw bytes of a transaction's attempts are by far the most of what is stored of it. They are there to be sent again, after a
//! crash or a reorg; once the transaction's block is final, neither can happen. What it was, cost and carried stays.

use super::{
    Store, StoreError,
    db_transaction::DbTransaction,
    rows::RowReader,
    sql::{chunks, placeholders},
};
use crate::registration::{Timestamp, TransactionId};
use sqlx::AssertSqlSafe;

/// Final transactions of ours whose raw bytes are still there, the longest confirmed first.
pub(super) const PRUNABLE_SQL: &str = "SELECT id FROM transactions WHERE finality = 'finalized' AND nonce IS NOT NULL AND pruned_at IS NULL \
                                   AND confirmed_at <= $1 ORDER BY confirmed_at LIMIT $2";

impl Store {
    /// Removes the raw bytes of at most `most` final transactions that were confirmed before this time. Returns of how many it did. Of
    /// a transaction that is not final nothing is removed, however old it is.
    ///
    /// The file does not shrink by it: the room is used again.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn prune(&self, confirmed_before: Timestamp, most: u32, at: Timestamp) -> Result<usize, StoreError> {
        let mut tx = DbTransaction::begin(&self.writer).await?;
        let found =
            sqlx::query(PRUNABLE_SQL).bind(confirmed_before.micros()).bind(i64::from(most)).fetch_all(&mut *tx).await?;
        let read = |row| RowReader::new(row).bytes().map(TransactionId::from_bytes);
        let ids: Vec<TransactionId> = found.iter().map(read).collect::<Result<_, StoreError>>()?;
        for chunk in chunks(&ids) {
            let among = placeholders(2, chunk.len());
            let emptied = format!("UPDATE attempts SET raw = $1 WHERE transaction_id IN ({among})");
            let marked = format!("UPDATE transactions SET pruned_at = $1 WHERE id IN ({among})");
            let mut emptied = sqlx::query(AssertSqlSafe(emptied)).bind(Vec::<u8>::new());
            let mut marked = sqlx::query(AssertSqlSafe(marked)).bind(at.micros());
            for id in chunk {
                emptied = emptied.bind(id.as_bytes().to_vec());
                marked = marked.bind(id.as_bytes().to_vec());
            }
            emptied.execute(&mut *tx).await?;
            marked.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(ids.len())
    }
}
