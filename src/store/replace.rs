//! Changes of a transaction between its first broadcast and a block: replaced, or blocked.

use super::{
    Attempt, Store, StoreError,
    bind::clamp,
    daily_budget::Expense,
    new_transaction::insert_attempt,
    query::{Row, query},
    rows::RowReader,
    sql::UNINDEXED_STATE,
    transact::Fence,
};
use crate::{
    registration::{BlockedReason, Timestamp, TransactionId, policy::budget::DailyBudget},
    telemetry::spans,
};
use alloy::primitives::Address;

/// A further signed attempt at the same nonce.
#[derive(Clone, Debug)]
pub struct Replacement {
    pub attempt: Attempt,
    /// From 2 on.
    pub number: usize,
    pub gas_limit: u64,
    pub batch_size: usize,
    pub signed_at: Timestamp,
    /// Of this attempt, with all its fees, in wei.
    pub max_cost: u128,
    /// `None` when there is no limit.
    pub daily_budget: Option<DailyBudget>,
}

impl Store {
    /// Writes a further attempt of a transaction that is not included; no node has received the bytes yet.
    /// [`StoreError::Conflict`] when it is included or has an attempt with this number, [`StoreError::OverBudget`] when
    /// the rest of the budget is smaller than what this attempt may cost more than the earlier ones.
    pub async fn insert_replacement(&self, id: TransactionId, new: &Replacement) -> Result<(), StoreError> {
        let expense = Expense { transaction: id, max_cost: new.max_cost, daily_budget: new.daily_budget };
        self.transact_budgeted("replace", Fence::Transaction(id), expense, async |tx| {
            let number = clamp(new.number);
            let updated = query(
                "UPDATE transactions SET hash = $1, attempts = $2, gas_limit = $3, batch_size = $4, refusal = NULL \
                 WHERE id = $5 AND attempts = $6 AND state IN ('signed', 'submitted')",
            )
            .bind(new.attempt.hash.to_vec())
            .bind(number)
            .bind(new.gas_limit.cast_signed())
            .bind(clamp(new.batch_size))
            .bind(id)
            .bind(number - 1)
            .execute(&mut **tx)
            .await?;
            if updated != 1 {
                return Err(StoreError::Conflict);
            }
            insert_attempt(tx, id, (&new.attempt, Some(new.max_cost)), number, new.signed_at).await?;
            let unblock = tx.change_registrations("blocked = ''", "transaction_id = $3", new.signed_at).bind(id);
            unblock.execute(&mut **tx).await?;
            Ok(())
        })
        .await
    }

    /// Sets why the members of a transaction that is not included are blocked; `None` when they no longer are. Returns
    /// for how many this is a change.
    pub async fn set_blocked_tx(
        &self,
        id: TransactionId,
        blocked: Option<BlockedReason>,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        self.update_blocked("set_blocked_tx", id, blocked, "('signed', 'submitted')", at).await
    }

    /// Sets why the members of a transaction that no node has accepted are blocked. The result of a broadcast may
    /// arrive after the inclusion: an accepted transaction is left unchanged. Returns for how many this is a change.
    pub async fn set_blocked_unsent(
        &self,
        id: TransactionId,
        blocked: BlockedReason,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        self.update_blocked("set_blocked_unsent", id, Some(blocked), "('signed')", at).await
    }

    async fn update_blocked(
        &self,
        name: &'static str,
        id: TransactionId,
        blocked: Option<BlockedReason>,
        states: &str,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let code = blocked.map_or("", BlockedReason::code);
        self.transact(name, Fence::Transaction(id), async |tx| {
            let others = format!("transaction_id = $4 AND blocked <> $5 AND {UNINDEXED_STATE} IN {states}");
            let changed = tx.change_registrations("blocked = $3", &others, at);
            let changed = changed.bind(code).bind(id).bind(code).execute(&mut **tx).await?;
            Ok(changed)
        })
        .await
    }

    /// The signer's transaction with this nonce, and whether it was given up: its registrations went back to the queue.
    pub async fn find_transaction_by_nonce(
        &self,
        signer: Address,
        nonce: u64,
    ) -> Result<Option<(TransactionId, bool)>, StoreError> {
        let query = query("SELECT id, state FROM transactions WHERE signer = $1 AND nonce = $2")
            .bind(signer.to_vec())
            .bind(nonce.cast_signed());
        let read = |row: Row| {
            let mut c = RowReader::new(&row);
            Ok((c.transaction_id()?, c.get::<String>()? == "released"))
        };
        spans::db("find_by_nonce", query.fetch_optional(&self.writer)).await?.map(read).transpose()
    }
}
