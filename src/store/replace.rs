//! What becomes of a transaction between its first bytes and a block: signed again, held up, found missing.

use super::{Attempt, Store, StoreError, new_transaction::insert_attempt, rows::RowReader};
use crate::registration::{BlockedReason, Timestamp, TransactionId, policy::budget::DailyBudget};
use alloy::primitives::Address;
use sqlx::{AssertSqlSafe, any::AnyRow};

/// A transaction that is signed again at its nonce.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Its latest signed version.
    pub attempt: Attempt,
    /// Which one that is, from 2 on.
    pub number: usize,
    /// Its gas limit.
    pub gas_limit: u64,
    /// How many registrations it carries.
    pub batch_size: usize,
    /// Now.
    pub signed_at: Timestamp,
    /// What this version may cost at most, all its fees counted, in wei.
    pub max_cost: u128,
    /// What the day allows; `None` when there is no limit.
    pub daily_budget: Option<DailyBudget>,
}

impl Store {
    /// Writes another signed version of a transaction that no block is known to hold. No node has seen the bytes yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a block holds it, or another version with this number is there; [`StoreError::OverBudget`]
    /// when the day's allowance has no room for what this version may cost more than those before it.
    pub async fn insert_replacement(&self, id: TransactionId, new: &Replacement) -> Result<(), StoreError> {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let (turn, tx) = self.begin_budgeted_write(new.daily_budget).await?;
        let tx = self.fence_for_tx(tx, id).await?;
        let mut tx = self.reserve_budget(turn.as_ref(), (id, new.max_cost), tx).await?;
        let updated = sqlx::query(
            "UPDATE transactions SET hash = $1, attempts = $2, gas_limit = $3, batch_size = $4, refusal = NULL \
             WHERE id = $5 AND attempts = $6 AND state IN ('signed', 'submitted')",
        )
        .bind(new.attempt.hash.to_vec())
        .bind(whole(new.number))
        .bind(new.gas_limit.cast_signed())
        .bind(whole(new.batch_size))
        .bind(id.as_bytes().to_vec())
        .bind(whole(new.number) - 1)
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() != 1 {
            return Err(StoreError::Conflict);
        }
        insert_attempt(&mut tx, id, (&new.attempt, Some(new.max_cost)), whole(new.number), new.signed_at).await?;
        sqlx::query(
            "UPDATE registrations SET blocked = '', revision = revision + 1, updated_at = $1 WHERE transaction_id = $2",
        )
        .bind(new.signed_at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        tx.commit().await
    }

    /// What all that a transaction carries waits for from now on, while no block holds it; `None` when nothing stands in its way
    /// any more. Returns of how many that is news.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_blocked_tx(
        &self,
        id: TransactionId,
        blocked: Option<BlockedReason>,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        self.update_blocked(id, blocked, "('signed', 'submitted')", at).await
    }

    /// What all that a transaction carries waits for, which no node took for that. The answer to a send may come after the chain's
    /// own: what a node is known to have stays as it is. Returns of how many that is news.
    ///
    /// # Errors
    /// When the database cannot be written; [`StoreError::Fenced`] when another replica acts for the signer.
    pub async fn set_blocked_unsent(
        &self,
        id: TransactionId,
        blocked: BlockedReason,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        self.update_blocked(id, Some(blocked), "('signed')", at).await
    }

    async fn update_blocked(
        &self,
        id: TransactionId,
        blocked: Option<BlockedReason>,
        states: &str,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let code = blocked.map_or("", BlockedReason::code);
        let mut tx = self.write_for_tx(id).await?;
        let changed = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET blocked = $1, revision = revision + 1, updated_at = $2 \
             WHERE transaction_id = $3 AND blocked <> $4 AND state IN {states}"
        )))
        .bind(code)
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .bind(code)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(changed.rows_affected())
    }

    /// The transaction that was given this nonce of a signer, and whether it was given up: its work went back to the queue.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find_transaction_by_nonce(
        &self,
        signer: Address,
        nonce: u64,
    ) -> Result<Option<(TransactionId, bool)>, StoreError> {
        let found = sqlx::query("SELECT id, state FROM transactions WHERE signer = $1 AND nonce = $2")
            .bind(signer.to_vec())
            .bind(nonce.cast_signed())
            .fetch_optional(&self.writer)
            .await?;
        let read = |row: AnyRow| {
            let mut c = RowReader::new(&row);
            Ok((TransactionId::from_bytes(c.bytes()?), c.get::<String>()? == "released"))
        };
        found.map(read).transpose()
    }
}
