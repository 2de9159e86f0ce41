//! What transactions have cost, and may cost.

use super::{Store, StoreError, rows::Columns};
use crate::registration::{Cost, Timestamp, TransactionId, policy::budget::Spending};

/// The fees of what was included from a time on. They are summed as floating-point numbers, which PostgreSQL and SQLite both do
/// alike, and whose error is far below a millionth of a gwei's share.
pub(super) const SPENT: &str = "SELECT COALESCE(SUM(CAST(gas_used AS DOUBLE PRECISION) * CAST(effective_gas_price AS DOUBLE PRECISION) \
     + CAST(COALESCE(l1_fee, '0') AS DOUBLE PRECISION)), 0.0) FROM transactions \
     WHERE included_at >= $1 AND gas_used IS NOT NULL";

/// What waits for a block, by each one's latest version.
pub(super) const OUT: &str = "SELECT COALESCE(SUM(CAST(t.gas_limit AS DOUBLE PRECISION) * CAST(a.max_fee_per_gas AS DOUBLE PRECISION)), 0.0), \
     COUNT(*) FROM transactions t JOIN attempts a ON a.transaction_id = t.id AND a.number = t.attempts \
     WHERE t.state IN ('signed', 'submitted', 'included') AND t.state <> 'included'";

impl Store {
    /// A transaction that reverted was paid for all the same.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn paid(&self, id: TransactionId, cost: &Cost, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write_about(id).await?;
        sqlx::query(
            "UPDATE transactions SET included_at = $1, gas_used = $2, effective_gas_price = $3, l1_fee = $4 WHERE id = $5",
        )
        .bind(at.micros())
        .bind(cost.gas_used.cast_signed())
        .bind(cost.effective_gas_price.to_string())
        .bind(cost.l1_fee.map(|fee| fee.to_string()))
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    /// What was spent since then by every signer, and what the transactions that wait for a block may cost.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn spending(&self, since: Timestamp) -> Result<Spending, StoreError> {
        // By the one that writes: what was just written counts.
        let spent = sqlx::query(SPENT).bind(since.micros()).fetch_one(&self.writer).await?;
        let out = sqlx::query(OUT).fetch_one(&self.writer).await?;
        let mut columns = Columns::of(&out);
        Ok(Spending {
            spent: wei(Columns::of(&spent).get()?),
            out: wei(columns.get()?),
            waiting: columns.unsigned()?.unwrap_or_default(),
        })
    }
}

/// A sum of fees is far below what the type holds, and never negative.
fn wei(sum: f64) -> u128 {
    sum as u128
}
