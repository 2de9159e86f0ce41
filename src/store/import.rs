//! Own transactions that are on chain but not in this database: sent after the backup from which it was restored.

use super::{
    Attempt, Store, StoreError,
    bind::{bind_inclusion, clamp},
    db_transaction::DbTransaction,
    new_transaction::insert_attempt,
    query::{Row, query},
    rows::RowReader,
    transact::Fence,
};
use crate::{
    registration::{Block, Cost, State, Timestamp, TransactionId},
    telemetry::spans,
};
use alloy::primitives::{Address, B256};

/// An own transaction as read from the chain, in a block at confirmation depth.
#[derive(Clone, Debug)]
pub struct ImportedTransaction {
    pub signer: Address,
    pub nonce: u64,
    pub gas_limit: u64,
    /// How many registrations it made.
    pub batch_size: usize,
    pub attempt: Attempt,
    pub block: Block,
    pub cost: Cost,
}

/// What the database holds under the nonce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportOutcome {
    /// This transaction, from now on.
    Imported(TransactionId),
    /// This transaction, from before.
    Present(TransactionId),
    /// An open transaction: its follower finds out which of its attempts was included.
    StillOpen,
    /// Another confirmed transaction.
    Conflicts,
}

impl Store {
    /// Writes an own transaction from the chain, unless it is known, as if this database had signed it. A transaction
    /// that was given up, because another sender seemed to have used its nonce, becomes confirmed.
    pub async fn import_transaction(
        &self,
        imported: &ImportedTransaction,
        at: Timestamp,
    ) -> Result<ImportOutcome, StoreError> {
        self.transact("import_transaction", Fence::Signer(imported.signer), async |tx| {
            let row = query("SELECT id, state, hash FROM transactions WHERE signer = $1 AND nonce = $2")
                .bind(imported.signer.to_vec())
                .bind(imported.nonce.cast_signed())
                .fetch_optional(&mut **tx)
                .await?;
            let outcome = import_outcome(row.as_ref(), imported.attempt.hash)?;
            if let ImportOutcome::Imported(id) = outcome {
                if row.is_none() {
                    insert_imported(tx, id, imported).await?;
                }
                insert_attempt_if_new(tx, id, &imported.attempt, imported.block.time).await?;
                confirm_imported(tx, id, imported, at).await?;
            }
            Ok(outcome)
        })
        .await
    }

    /// Adds an attempt of an open transaction that is on chain but not in this database.
    pub async fn import_attempt(&self, id: TransactionId, attempt: &Attempt, at: Timestamp) -> Result<(), StoreError> {
        self.transact("import_attempt", Fence::Transaction(id), async |tx| {
            insert_attempt_if_new(tx, id, attempt, at).await
        })
        .await
    }

    /// The signer's nonces in this database, from `from` on, in order.
    pub async fn nonces_from(&self, signer: Address, from: u64) -> Result<Vec<u64>, StoreError> {
        let query = query("SELECT nonce FROM transactions WHERE signer = $1 AND nonce >= $2 ORDER BY nonce")
            .bind(signer.to_vec())
            .bind(from.cast_signed());
        let found = spans::db("nonces_from", query.fetch_all(&self.reader)).await?;
        found.iter().map(|row| RowReader::new(row).number()).collect()
    }

    /// The block of the signer's newest included transaction.
    pub async fn newest_block(&self, signer: Address) -> Result<Option<u64>, StoreError> {
        let query = query(
            "SELECT block_number FROM transactions WHERE signer = $1 AND nonce IS NOT NULL AND block_number IS NOT \
             NULL ORDER BY nonce DESC LIMIT 1",
        )
        .bind(signer.to_vec());
        let found = spans::db("newest_block", query.fetch_optional(&self.reader)).await?;
        found.map_or(Ok(None), |row| RowReader::new(&row).unsigned())
    }
}

/// The id of a transaction that is first seen on chain: the first half of its hash, so that finding it again yields the
/// same row.
pub(super) fn transaction_id_from_hash(hash: B256) -> TransactionId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    TransactionId::from_bytes(bytes)
}

/// `row` is the one with the transaction's nonce.
fn import_outcome(row: Option<&Row>, hash: B256) -> Result<ImportOutcome, StoreError> {
    let Some(row) = row else { return Ok(ImportOutcome::Imported(transaction_id_from_hash(hash))) };
    let mut c = RowReader::new(row);
    let (id, state, stored) = (c.transaction_id()?, c.get::<String>()?, c.bytes::<B256>()?);
    Ok(match state.as_str() {
        "released" => ImportOutcome::Imported(id),
        "confirmed" if stored == hash => ImportOutcome::Present(id),
        "confirmed" => ImportOutcome::Conflicts,
        _ => ImportOutcome::StillOpen,
    })
}

/// When it was prepared, signed and sent is unknown; the block's time is an upper bound. A replica without the signer's
/// lease may have stored it as foreign, under the same id: it becomes an own transaction.
async fn insert_imported(
    tx: &mut DbTransaction,
    id: TransactionId,
    imported: &ImportedTransaction,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO transactions (id, signer, nonce, state, hash, gas_limit, batch_size, prepared_at, signed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET nonce = excluded.nonce, \
         gas_limit = excluded.gas_limit, batch_size = excluded.batch_size, prepared_at = excluded.prepared_at, \
         signed_at = excluded.signed_at",
    )
    .bind(id)
    .bind(imported.signer.to_vec())
    .bind(imported.nonce.cast_signed())
    .bind(State::Confirmed.code())
    .bind(imported.attempt.hash.to_vec())
    .bind(imported.gas_limit.cast_signed())
    .bind(clamp(imported.batch_size))
    .bind(imported.block.time)
    .bind(imported.block.time)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn confirm_imported(
    tx: &mut DbTransaction,
    id: TransactionId,
    imported: &ImportedTransaction,
    at: Timestamp,
) -> Result<(), StoreError> {
    let query = query(
        "UPDATE transactions SET state = $1, hash = $2, sent_at = COALESCE(sent_at, $3), included_at = $4, \
         confirmed_at = $5, block_number = $6, block_hash = $7, block_time = $8, gas_used = $9, effective_gas_price \
         = $10, l1_fee = $11 WHERE id = $12",
    )
    .bind(State::Confirmed.code())
    .bind(imported.attempt.hash.to_vec())
    .bind(imported.block.time)
    // Its cost belongs to the budget of the day on which it was paid.
    .bind(imported.block.time)
    .bind(at);
    bind_inclusion(query, &imported.block, &imported.cost).bind(id).execute(&mut **tx).await?;
    Ok(())
}

async fn insert_attempt_if_new(
    tx: &mut DbTransaction,
    id: TransactionId,
    attempt: &Attempt,
    at: Timestamp,
) -> Result<(), StoreError> {
    let row = query(
        "SELECT COALESCE(MAX(number), 0), SUM(CASE WHEN hash = $1 THEN 1 ELSE 0 END) FROM attempts WHERE \
         transaction_id = $2",
    )
    .bind(attempt.hash.to_vec())
    .bind(id)
    .fetch_one(&mut **tx)
    .await?;
    let mut c = RowReader::new(&row);
    let (last, is_known) = (c.get::<i64>()?, c.number()? > 0);
    if is_known {
        return Ok(());
    }
    insert_attempt(tx, id, (attempt, None), last + 1, at).await?;
    query("UPDATE transactions SET attempts = $1, hash = $2 WHERE id = $3")
        .bind(last + 1)
        .bind(attempt.hash.to_vec())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
