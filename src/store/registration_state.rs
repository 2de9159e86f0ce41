//! What becomes of single registrations without a transaction of ours: found on chain, failed, blocked.

use super::{
    Store, StoreError, UnfinalizedBlock,
    db_transaction::DbTransaction,
    import::transaction_id_from_hash,
    rows::RowReader,
    sql::{chunks, placeholders},
    transaction_state::state_guard,
};
use crate::registration::{
    Block, BlockedReason, Failure, Finality, RegistrationId, State, StateEvent, Timestamp, TransactionId,
};
use alloy::primitives::{Address, B256};
use sqlx::AssertSqlSafe;

/// A registration that was found on chain: made by somebody else's transaction, or by one of ours that the store did not know.
#[derive(Clone, Copy, Debug)]
pub struct FoundOnChain {
    /// The registration.
    pub id: RegistrationId,
    /// The transaction that registered the pair.
    pub hash: B256,
    /// Who registered it.
    pub registrar: Address,
    /// The block.
    pub block: Block,
    /// That transaction as the store has it by now, if it is one of ours.
    pub own_transaction: Option<TransactionId>,
}

impl Store {
    /// These were found on chain at confirmation depth. One that is not queued any more stays as it
    /// is: it was looked up before another lane signed it. Returns those that were, each with the block that holds it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_found_on_chain(
        &self,
        found: &[FoundOnChain],
        at: Timestamp,
    ) -> Result<Vec<(RegistrationId, UnfinalizedBlock)>, StoreError> {
        let mut tx = DbTransaction::begin(&self.writer).await?;
        let mut moved = Vec::with_capacity(found.len());
        for one in found {
            let id = one.own_transaction.unwrap_or(transaction_id_from_hash(one.hash));
            let updated = sqlx::query(
                "UPDATE registrations SET state = $1, transaction_id = $2, blocked = '', revision = revision + 1, updated_at = $3 \
                 WHERE id = $4 AND state = $5",
            )
            .bind(StateEvent::Confirm.target().code())
            .bind(id.as_bytes().to_vec())
            .bind(at.micros())
            .bind(one.id.as_bytes().to_vec())
            .bind(State::Queued.code())
            .execute(&mut *tx)
            .await?;
            // A replica that looked before another one signed it must not call that one's transaction a stranger's.
            if updated.rows_affected() == 0 {
                continue;
            }
            if one.own_transaction.is_none() {
                insert_foreign(&mut tx, id, one, at).await?;
            }
            let (finality, Block { number, hash, .. }) = (Finality::Unsafe, one.block);
            let block =
                UnfinalizedBlock { id, signer: one.own_transaction.map(|_| one.registrar), finality, number, hash };
            moved.push((one.id, block));
        }
        tx.commit_then(|| self.sub_unfinished(moved.len() as u64)).await?;
        Ok(moved)
    }

    /// Somebody else's transaction is no longer canonical: what it had registered is queued again. Returns that.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn requeue_foreign_reorged(
        &self,
        id: TransactionId,
        at: Timestamp,
    ) -> Result<Vec<RegistrationId>, StoreError> {
        let mut tx = DbTransaction::begin(&self.writer).await?;
        // First, so that another replica that finds the same transaction just now waits, and writes it anew.
        sqlx::query("DELETE FROM transactions WHERE id = $1 AND nonce IS NULL")
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        let queued = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, transaction_id = NULL, revision = revision + 1, updated_at = $2 \
             WHERE transaction_id = $3 AND {} RETURNING id",
            state_guard(StateEvent::ForeignReorged)
        )))
        .bind(StateEvent::ForeignReorged.target().code())
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .fetch_all(&mut *tx)
        .await?;
        tx.commit_then(|| self.add_unfinished(queued.len() as u64)).await?;
        queued.iter().map(|row| RowReader::new(row).registration_id()).collect()
    }

    /// This one is queued and cannot succeed as it stands. Returns whether it was queued still: what another lane has signed since it
    /// was looked at is that one's to judge.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_failed(&self, id: RegistrationId, failure: &Failure, at: Timestamp) -> Result<bool, StoreError> {
        let mut tx = DbTransaction::begin(&self.writer).await?;
        let failed = sqlx::query(
            "UPDATE registrations SET state = $1, failure_reason = $2, failure_message = $3, blocked = '', failed_at = $4, \
             updated_at = $5, revision = revision + 1 WHERE id = $6 AND state = 'queued'",
        )
        .bind(StateEvent::Fail.target().code())
        .bind(failure.reason.code())
        .bind(failure.message.clone())
        .bind(at.micros())
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        tx.commit_then(|| self.sub_unfinished(failed.rows_affected())).await?;
        Ok(failed.rows_affected() > 0)
    }

    /// These are queued, wait for an operator and are looked at again at `retry_at`. What has gone on in the meantime stays as it is.
    /// Returns how many did not say so before.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_blocked_queued(
        &self,
        ids: &[RegistrationId],
        blocked: BlockedReason,
        retry_at: Timestamp,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let code = blocked.code();
        let mut tx = DbTransaction::begin(&self.writer).await?;
        let mut changed = 0;
        for chunk in chunks(ids) {
            let among = placeholders(4, chunk.len());
            let mut news = sqlx::query(AssertSqlSafe(format!(
                "UPDATE registrations SET blocked = $1, revision = revision + 1, updated_at = $2 \
                 WHERE blocked <> $3 AND id IN ({among}) AND state = 'queued'"
            )))
            .bind(code)
            .bind(at.micros())
            .bind(code);
            let mut later = sqlx::query(AssertSqlSafe(format!(
                "UPDATE registrations SET retry_at = $1, claimed_until = 0 WHERE id IN ({}) AND state = 'queued'",
                placeholders(2, chunk.len())
            )))
            .bind(retry_at.micros());
            for id in chunk {
                news = news.bind(id.as_bytes().to_vec());
                later = later.bind(id.as_bytes().to_vec());
            }
            changed += news.execute(&mut *tx).await?.rows_affected();
            later.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(changed)
    }
}

/// The transaction of somebody else, in a canonical block.
async fn insert_foreign(
    tx: &mut DbTransaction,
    id: TransactionId,
    one: &FoundOnChain,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO transactions (id, signer, state, hash, sent_at, included_at, confirmed_at, block_number, block_hash, \
         block_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE SET \
         block_number = excluded.block_number, block_hash = excluded.block_hash, block_time = excluded.block_time, \
         finality = excluded.finality WHERE transactions.block_hash <> excluded.block_hash",
    )
    .bind(id.as_bytes().to_vec())
    .bind(one.registrar.to_vec())
    .bind(State::Confirmed.code())
    .bind(one.hash.to_vec())
    .bind(one.block.time.micros())
    .bind(at.micros())
    .bind(at.micros())
    .bind(one.block.number.cast_signed())
    .bind(one.block.hash.to_vec())
    .bind(one.block.time.micros())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
