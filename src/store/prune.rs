//! Retention: the signed bytes of final transactions are removed.
//!
//! They are by far the largest part of a stored transaction, and only needed to rebroadcast it after a crash or a
//! reorg. Once the transaction's block is final, neither can happen. Everything else is kept.

use super::{
    Store, StoreError,
    query::query,
    rows::RowReader,
    sql::{chunks, placeholders},
    transact::Fence,
};
use crate::registration::{Timestamp, TransactionId};

pub(super) const PRUNABLE_SQL: &str = "SELECT id FROM transactions WHERE finality = 'finalized' AND nonce IS NOT \
    NULL AND pruned_at IS NULL AND confirmed_at <= $1 ORDER BY confirmed_at LIMIT $2";

impl Store {
    /// Removes the signed bytes of at most `limit` final transactions that were confirmed before this time, and returns
    /// of how many. A transaction that is not final is never pruned, however old it is.
    ///
    /// The file does not shrink: its free pages are used again.
    pub async fn prune(&self, confirmed_before: Timestamp, limit: u32, at: Timestamp) -> Result<usize, StoreError> {
        self.transact("prune", Fence::None, async |tx| {
            let prunable = query(PRUNABLE_SQL).bind(confirmed_before).bind(i64::from(limit));
            let found = prunable.fetch_all(&mut **tx).await?;
            let ids = found.iter().map(|row| RowReader::new(row).transaction_id());
            let ids: Vec<TransactionId> = ids.collect::<Result<_, _>>()?;
            for chunk in chunks(&ids) {
                let list = placeholders(2, chunk.len());
                let clear = format!("UPDATE attempts SET raw = $1 WHERE transaction_id IN ({list})");
                let mark = format!("UPDATE transactions SET pruned_at = $1 WHERE id IN ({list})");
                let mut clear = query(clear).bind(Vec::<u8>::new());
                let mut mark = query(mark).bind(at);
                for id in &chunk {
                    (clear, mark) = (clear.bind(*id), mark.bind(*id));
                }
                clear.execute(&mut **tx).await?;
                mark.execute(&mut **tx).await?;
            }
            Ok(ids.len())
        })
        .await
    }
}
