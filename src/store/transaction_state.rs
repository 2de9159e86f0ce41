//! What happens to a transaction and all it carries, written before it is acted on or said.
//!
//! A batch moves with a few statements, however large it is. Each names the states it may move from, by
//! [`Event::sources`], so that a late or repeated report changes nothing; and each is refused for a signer whose lease is another
//! replica's ([`StoreError::Fenced`]).

use super::{
    Store, StoreError,
    db_transaction::DbTransaction,
    rows::{self, RowReader},
    sql::placeholders,
};
use crate::registration::{
    Block, Cost, Diagnosis, Failure, Finality, RegistrationId, State, StateEvent, Timestamp, TransactionId,
};
use alloy::primitives::B256;
use sqlx::AssertSqlSafe;

/// So many transactions that carried a registration have to revert, the last one with nothing else in it, before it fails.
const MAX_REVERTS: i64 = 3;

/// Who took a transaction, as far as that was said, and when by the chain's own time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AcceptedBy {
    /// The endpoint; `None` when it is only known that somebody has it.
    pub endpoint: Option<String>,
    /// The newest block.
    pub head: Option<u64>,
}

/// A transaction in a canonical block.
#[derive(Clone, Copy, Debug)]
pub struct Inclusion {
    /// Hash of the included attempt.
    pub hash: B256,
    /// The block.
    pub block: Block,
    /// What it cost.
    pub cost: Cost,
}

impl Store {
    /// A node has taken the transaction: the confirmation clock starts.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_submitted(&self, id: TransactionId, taken: &AcceptedBy, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        sqlx::query(
            "UPDATE transactions SET state = $1, sent_at = $2, taken_by = $3, taken_head = $4, refusal = NULL \
             WHERE id = $5 AND state = 'signed'",
        )
        .bind(State::Submitted.code())
        .bind(at.micros())
        .bind(taken.endpoint.clone())
        .bind(taken.head.map(u64::cast_signed))
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        transition_members(&mut tx, id, StateEvent::Submit, at).await?;
        tx.commit().await
    }

    /// The transaction is in a canonical block and has registered all it carries but `others`. Those stay as they are until the
    /// block has its confirmation depth, and then go back to the queue; `deep` says whether it has that already.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_included(
        &self,
        id: TransactionId,
        inclusion: &Inclusion,
        others: &[RegistrationId],
        deep: bool,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let event = if deep { StateEvent::Confirm } else { StateEvent::Include };
        let mut tx = self.write_for_tx(id).await?;
        // A node that included it had it, even if its answer never came: the clock then starts at inclusion.
        sqlx::query(
            "UPDATE transactions SET state = $1, hash = $2, sent_at = COALESCE(sent_at, $3), included_at = $4, \
             block_number = $5, block_hash = $6, block_time = $7, gas_used = $8, effective_gas_price = $9, l1_fee = $10, \
             confirmed_at = $11, reorged_out = NULL, refusal = NULL, missing_since = NULL WHERE id = $12",
        )
        .bind(event.target().code())
        .bind(inclusion.hash.to_vec())
        .bind(at.micros())
        .bind(at.micros())
        .bind(inclusion.block.number.cast_signed())
        .bind(inclusion.block.hash.to_vec())
        .bind(inclusion.block.time.micros())
        .bind(inclusion.cost.gas_used.cast_signed())
        .bind(inclusion.cost.effective_gas_price.to_string())
        .bind(inclusion.cost.l1_fee.map(|fee| fee.to_string()))
        .bind(deep.then(|| at.micros()))
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        if deep {
            requeue_some_members(&mut tx, id, others, at).await?;
        }
        let moved = transition_members_except(&mut tx, id, event, others, at).await?;
        tx.commit_then(|| self.sub_unfinished(if deep { moved } else { 0 })).await?;
        Ok(())
    }

    /// The including block has its confirmation depth. What the transaction has not registered goes back to the queue: returns
    /// that.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_confirmed(&self, id: TransactionId, at: Timestamp) -> Result<Vec<RegistrationId>, StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        sqlx::query("UPDATE transactions SET state = $1, confirmed_at = $2 WHERE id = $3 AND state = 'included'")
            .bind(State::Confirmed.code())
            .bind(at.micros())
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        let left = sqlx::query(
            "UPDATE registrations SET state = $1, transaction_id = NULL, blocked = '', revision = revision + 1, updated_at = $2 \
             WHERE transaction_id = $3 AND state IN ('signed', 'submitted') RETURNING id",
        )
        .bind(StateEvent::Requeue.target().code())
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .fetch_all(&mut *tx)
        .await?;
        let moved = transition_members(&mut tx, id, StateEvent::Confirm, at).await?;
        tx.commit_then(|| self.sub_unfinished(moved)).await?;
        left.iter().map(|row| RowReader::new(row).registration_id()).collect()
    }

    /// The block that held the transaction is not canonical any more.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_reorged(&self, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        let was_confirmed =
            sqlx::query("SELECT COUNT(*) FROM registrations WHERE transaction_id = $1 AND state = 'confirmed'")
                .bind(id.as_bytes().to_vec())
                .fetch_one(&mut *tx)
                .await?;
        let was_confirmed = RowReader::new(&was_confirmed).unsigned()?.unwrap_or_default();
        sqlx::query(
            // What was confirmed in time begins its clock anew.
            "UPDATE transactions SET sent_at = CASE WHEN confirmed_at IS NULL THEN sent_at ELSE $4 END, \
             hash = COALESCE((SELECT a.hash FROM attempts a WHERE a.transaction_id = transactions.id \
             AND a.number = transactions.attempts), hash), \
             reorged_out = block_number, refusal = NULL, missing_since = NULL, state = $1, finality = $2, included_at = NULL, confirmed_at = NULL, block_number = NULL, \
             block_hash = NULL, block_time = NULL, gas_used = NULL, effective_gas_price = NULL, l1_fee = NULL WHERE id = $3",
        )
        .bind(State::Submitted.code())
        .bind(Finality::Unsafe.code())
        .bind(id.as_bytes().to_vec())
        .bind(at.micros())
        .execute(&mut *tx)
        .await?;
        transition_members(&mut tx, id, StateEvent::Reorg, at).await?;
        tx.commit_then(|| self.add_unfinished(was_confirmed)).await?;
        Ok(())
    }

    /// The transaction can never register what it carries: its nonce is consumed at depth. All of it goes back to the queue, and
    /// what reverted in smaller batches; what has reverted too often, and now alone, fails.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn requeue_members(
        &self,
        id: TransactionId,
        reverted: Option<&Failure>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        sqlx::query("UPDATE transactions SET state = 'released' WHERE id = $1")
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        let members = sqlx::query("SELECT COUNT(*) FROM registrations WHERE transaction_id = $1")
            .bind(id.as_bytes().to_vec())
            .fetch_one(&mut *tx)
            .await?;
        let alone = RowReader::new(&members).unsigned()? == Some(1);
        let mut failed = 0;
        if let Some(failure) = reverted.filter(|_| alone) {
            let marked = sqlx::query(AssertSqlSafe(format!(
                "UPDATE registrations SET state = $1, failure_reason = $2, failure_message = $3, failed_at = $4, updated_at = $5, \
                 revision = revision + 1 WHERE transaction_id = $6 AND reverts + 1 >= $7 AND {}",
                state_guard(StateEvent::Fail)
            )))
            .bind(StateEvent::Fail.target().code())
            .bind(failure.reason.code())
            .bind(failure.message.clone())
            .bind(at.micros())
            .bind(at.micros())
            .bind(id.as_bytes().to_vec())
            .bind(MAX_REVERTS)
            .execute(&mut *tx)
            .await?;
            failed = marked.rows_affected();
        }
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, transaction_id = NULL, blocked = '', reverts = reverts + $2, revision = revision + 1, \
             updated_at = $3 WHERE transaction_id = $4 AND {}",
            state_guard(StateEvent::Requeue)
        )))
        .bind(StateEvent::Requeue.target().code())
        .bind(i64::from(reverted.is_some()))
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        tx.commit_then(|| self.sub_unfinished(failed)).await?;
        Ok(())
    }

    /// The confirmation clock of the transaction ran out, and this is why. Returns whether it was still open; what is settled
    /// by now was not late.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn mark_timed_out(
        &self,
        id: TransactionId,
        diagnosis: &Diagnosis,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        let late = sqlx::query(
            "UPDATE transactions SET timed_out_at = $1, diagnosis = $2 \
             WHERE id = $3 AND state IN ('signed', 'submitted', 'included')",
        )
        .bind(at.micros())
        .bind(rows::encode_diagnosis(diagnosis)?)
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        let late = late.rows_affected() > 0;
        if late {
            bump_member_revisions(&mut tx, id, at).await?;
        }
        tx.commit().await?;
        Ok(late)
    }

    /// The transaction's block is at or below the safe or finalized head. What another replica acts for by now is left to it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn raise_finality(
        &self,
        ids: &[TransactionId],
        finality: Finality,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = DbTransaction::begin(&self.writer).await?;
        for id in ids {
            let raised = sqlx::query(
                "UPDATE transactions SET finality = $1 WHERE id = $2 AND state = 'confirmed' AND (nonce IS NULL OR EXISTS \
                 (SELECT 1 FROM leases WHERE leases.signer = transactions.signer AND leases.holder = $3))",
            )
            .bind(finality.code())
            .bind(id.as_bytes().to_vec())
            .bind(self.holder_id())
            .execute(&mut *tx)
            .await?;
            if raised.rows_affected() > 0 {
                bump_member_revisions(&mut tx, *id, at).await?;
            }
        }
        tx.commit().await
    }
}

/// The states an event may move a registration from, as a condition.
pub(super) fn state_guard(event: StateEvent) -> String {
    let codes: Vec<_> = event.sources().map(|state| format!("'{}'", state.code())).collect();
    format!("state IN ({})", codes.join(", "))
}

/// Moves all members but `others`.
async fn transition_members_except(
    tx: &mut DbTransaction,
    id: TransactionId,
    event: StateEvent,
    others: &[RegistrationId],
    at: Timestamp,
) -> Result<u64, StoreError> {
    if others.is_empty() {
        return transition_members(tx, id, event, at).await;
    }
    let sql = format!(
        "UPDATE registrations SET state = $1, blocked = '', revision = revision + 1, updated_at = $2 \
         WHERE transaction_id = $3 AND {} AND id NOT IN ({})",
        state_guard(event),
        placeholders(4, others.len())
    );
    let query =
        sqlx::query(AssertSqlSafe(sql)).bind(event.target().code()).bind(at.micros()).bind(id.as_bytes().to_vec());
    let query = others.iter().fold(query, |query, other| query.bind(other.as_bytes().to_vec()));
    Ok(query.execute(&mut **tx).await?.rows_affected())
}

async fn transition_members(
    tx: &mut DbTransaction,
    id: TransactionId,
    event: StateEvent,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let moved = sqlx::query(AssertSqlSafe(format!(
        "UPDATE registrations SET state = $1, blocked = '', revision = revision + 1, updated_at = $2 WHERE transaction_id = $3 AND {}",
        state_guard(event)
    )))
    .bind(event.target().code())
    .bind(at.micros())
    .bind(id.as_bytes().to_vec())
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected())
}

async fn bump_member_revisions(tx: &mut DbTransaction, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE registrations SET revision = revision + 1, updated_at = $1 WHERE transaction_id = $2")
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn requeue_some_members(
    tx: &mut DbTransaction,
    transaction: TransactionId,
    ids: &[RegistrationId],
    at: Timestamp,
) -> Result<(), StoreError> {
    for id in ids {
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, transaction_id = NULL, blocked = '', revision = revision + 1, updated_at = $2 \
             WHERE id = $3 AND transaction_id = $4 AND {}",
            state_guard(StateEvent::Requeue)
        )))
        .bind(StateEvent::Requeue.target().code())
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .bind(transaction.as_bytes().to_vec())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}
