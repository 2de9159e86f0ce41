//! Transactions of ours that are on chain and that this store does not know: made after the backup that it was restored from.

use super::{
    Attempt, Store, StoreError, db_transaction::DbTransaction, new_transaction::insert_attempt, rows::RowReader,
};
use crate::registration::{Block, Cost, State, Timestamp, TransactionId};
use alloy::primitives::{Address, B256};
use sqlx::any::AnyRow;

/// One of our own transactions, as the chain tells it, in a block at confirmation depth.
#[derive(Clone, Debug)]
pub struct ImportedTransaction {
    /// Who signed it.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// How many registrations it made.
    pub batch_size: usize,
    /// Its bytes and what it offers.
    pub attempt: Attempt,
    /// The block.
    pub block: Block,
    /// What it cost.
    pub cost: Cost,
}

/// What the store has under a nonce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportOutcome {
    /// This transaction, from now on.
    Imported(TransactionId),
    /// This transaction, already.
    Present(TransactionId),
    /// One that is open: whoever follows it finds out which of its versions the chain has.
    StillOpen,
    /// Another one, which is settled.
    Conflicts,
}

impl Store {
    /// Writes a transaction of ours that is on chain, unless it is known: as if this store had made it. One that was given up, for
    /// its nonce seemed to be consumed by a stranger, is taken back.
    ///
    /// # Errors
    /// When the database cannot be written; [`StoreError::Fenced`] when another replica acts for the signer.
    pub async fn import_transaction(
        &self,
        one: &ImportedTransaction,
        at: Timestamp,
    ) -> Result<ImportOutcome, StoreError> {
        let mut tx = self.write_for_signer(one.signer).await?;
        let row = sqlx::query("SELECT id, state, hash FROM transactions WHERE signer = $1 AND nonce = $2")
            .bind(one.signer.to_vec())
            .bind(one.nonce.cast_signed())
            .fetch_optional(&mut *tx)
            .await?;
        let known = import_outcome(row.as_ref(), one.attempt.hash)?;
        if let ImportOutcome::Imported(id) = known {
            if row.is_none() {
                insert_imported(&mut tx, id, one).await?;
            }
            insert_attempt_if_new(&mut tx, id, &one.attempt, one.block.time).await?;
            confirm_imported(&mut tx, id, one, at).await?;
        }
        tx.commit().await?;
        Ok(known)
    }

    /// A version of an open transaction is on chain that this store does not know.
    ///
    /// # Errors
    /// When the database cannot be written; [`StoreError::Fenced`] when another replica acts for the signer.
    pub async fn import_attempt(&self, id: TransactionId, attempt: &Attempt, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        insert_attempt_if_new(&mut tx, id, attempt, at).await?;
        tx.commit().await
    }

    /// The nonces from `from` on that this signer was given here, in order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn nonces_from(&self, signer: Address, from: u64) -> Result<Vec<u64>, StoreError> {
        let found = sqlx::query("SELECT nonce FROM transactions WHERE signer = $1 AND nonce >= $2 ORDER BY nonce")
            .bind(signer.to_vec())
            .bind(from.cast_signed())
            .fetch_all(&self.reader)
            .await?;
        found.iter().map(|row| Ok(RowReader::new(row).unsigned()?.unwrap_or_default())).collect()
    }

    /// The block of this signer's newest transaction that is known to be in one; `None` when there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn newest_block(&self, signer: Address) -> Result<Option<u64>, StoreError> {
        let found = sqlx::query(
            "SELECT block_number FROM transactions WHERE signer = $1 AND nonce IS NOT NULL AND block_number IS NOT NULL \
             ORDER BY nonce DESC LIMIT 1",
        )
        .bind(signer.to_vec())
        .fetch_optional(&self.reader)
        .await?;
        found.map_or(Ok(None), |row| RowReader::new(&row).unsigned())
    }
}

/// The store's id for a transaction that it learns of from the chain: the first half of its hash, so that a second find is the
/// same row.
pub(super) fn transaction_id_from_hash(hash: B256) -> TransactionId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    TransactionId::from_bytes(bytes)
}

/// What the row under the transaction's nonce says about it.
fn import_outcome(row: Option<&AnyRow>, hash: B256) -> Result<ImportOutcome, StoreError> {
    let Some(row) = row else { return Ok(ImportOutcome::Imported(transaction_id_from_hash(hash))) };
    let mut c = RowReader::new(row);
    let (id, state, stored) = (TransactionId::from_bytes(c.bytes()?), c.get::<String>()?, c.bytes::<B256>()?);
    Ok(match state.as_str() {
        "released" => ImportOutcome::Imported(id),
        "confirmed" if stored == hash => ImportOutcome::Present(id),
        "confirmed" => ImportOutcome::Conflicts,
        _ => ImportOutcome::StillOpen,
    })
}

/// When it was prepared, signed and sent is not known any more; the block's time is the latest that it can have been. One that was
/// taken for a stranger's, by a replica that does not act for its signer, stands under the same id and is ours from now on.
async fn insert_imported(
    tx: &mut DbTransaction,
    id: TransactionId,
    one: &ImportedTransaction,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO transactions (id, signer, nonce, state, hash, gas_limit, batch_size, prepared_at, signed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET nonce = excluded.nonce, \
         gas_limit = excluded.gas_limit, batch_size = excluded.batch_size, prepared_at = excluded.prepared_at, \
         signed_at = excluded.signed_at",
    )
    .bind(id.as_bytes().to_vec())
    .bind(one.signer.to_vec())
    .bind(one.nonce.cast_signed())
    .bind(State::Confirmed.code())
    .bind(one.attempt.hash.to_vec())
    .bind(one.gas_limit.cast_signed())
    .bind(i64::try_from(one.batch_size).unwrap_or(i64::MAX))
    .bind(one.block.time.micros())
    .bind(one.block.time.micros())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn confirm_imported(
    tx: &mut DbTransaction,
    id: TransactionId,
    one: &ImportedTransaction,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE transactions SET state = $1, hash = $2, sent_at = COALESCE(sent_at, $3), included_at = $4, confirmed_at = $5, \
         block_number = $6, block_hash = $7, block_time = $8, gas_used = $9, effective_gas_price = $10, l1_fee = $11 \
         WHERE id = $12",
    )
    .bind(State::Confirmed.code())
    .bind(one.attempt.hash.to_vec())
    .bind(one.block.time.micros())
    // What it cost belongs to the budget of the day that it was paid on.
    .bind(one.block.time.micros())
    .bind(at.micros())
    .bind(one.block.number.cast_signed())
    .bind(one.block.hash.to_vec())
    .bind(one.block.time.micros())
    .bind(one.cost.gas_used.cast_signed())
    .bind(one.cost.effective_gas_price.to_string())
    .bind(one.cost.l1_fee.map(|fee| fee.to_string()))
    .bind(id.as_bytes().to_vec())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Adds an attempt that is not known yet.
async fn insert_attempt_if_new(
    tx: &mut DbTransaction,
    id: TransactionId,
    attempt: &Attempt,
    at: Timestamp,
) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT COALESCE(MAX(number), 0), SUM(CASE WHEN hash = $1 THEN 1 ELSE 0 END) FROM attempts WHERE transaction_id = $2")
        .bind(attempt.hash.to_vec())
        .bind(id.as_bytes().to_vec())
        .fetch_one(&mut **tx)
        .await?;
    let mut c = RowReader::new(&row);
    let (last, known) = (c.get::<i64>()?, c.unsigned()?.unwrap_or_default() > 0);
    if known {
        return Ok(());
    }
    insert_attempt(tx, id, (attempt, None), last + 1, at).await?;
    sqlx::query("UPDATE transactions SET attempts = $1, hash = $2 WHERE id = $3")
        .bind(last + 1)
        .bind(attempt.hash.to_vec())
        .bind(id.as_bytes().to_vec())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
