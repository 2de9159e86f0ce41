//! The commit before the first broadcast: nonce, signed bytes and what they carry, all or nothing.

use super::{
    Attempt, Store, StoreError,
    db_transaction::DbTransaction,
    sql::{chunks, value_placeholders},
    transaction_state::state_guard,
};
use crate::registration::{RegistrationId, State, StateEvent, Timestamp, TransactionId, policy::budget::DailyBudget};
use alloy::primitives::Address;
use sqlx::AssertSqlSafe;

/// A transaction that was signed and is about to be written, with its first attempt.
#[derive(Clone, Debug)]
pub struct NewTransaction {
    /// Its id in the store.
    pub id: TransactionId,
    /// Who signed it.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// Its gas limit.
    pub gas_limit: u64,
    /// When its registrations left the queue.
    pub prepared_at: Timestamp,
    /// Now.
    pub signed_at: Timestamp,
    /// Its first signed version.
    pub attempt: Attempt,
    /// What that may cost at most, all its fees counted, in wei.
    pub max_cost: u128,
    /// What the day allows; `None` when there is no limit, or when it must go out whatever was spent.
    pub daily_budget: Option<DailyBudget>,
}

impl Store {
    /// Writes nonce and signed bytes, and ties the registrations to them: all or nothing. No node has seen the bytes yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one of the registrations is not queued any more, or the nonce is taken;
    /// [`StoreError::OverBudget`] when the day's allowance has no room for it; [`StoreError::Fenced`] when another replica acts
    /// for the signer.
    pub async fn insert_signed_transaction(
        &self,
        new: &NewTransaction,
        members: &[RegistrationId],
    ) -> Result<(), StoreError> {
        let (turn, tx) = self.begin_budgeted_write(new.daily_budget).await?;
        let tx = self.fence_for_signer(tx, new.signer).await?;
        let mut tx = self.reserve_budget(turn.as_ref(), (new.id, new.max_cost), tx).await?;
        let inserted = sqlx::query(
            "INSERT INTO transactions (id, signer, nonce, state, hash, gas_limit, batch_size, attempts, prepared_at, signed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(new.id.as_bytes().to_vec())
        .bind(new.signer.to_vec())
        .bind(new.nonce.cast_signed())
        .bind(State::Signed.code())
        .bind(new.attempt.hash.to_vec())
        .bind(new.gas_limit.cast_signed())
        .bind(i64::try_from(members.len()).unwrap_or(i64::MAX))
        .bind(new.prepared_at.micros())
        .bind(new.signed_at.micros())
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() != 1 {
            return Err(StoreError::Conflict);
        }
        insert_attempt(&mut tx, new.id, (&new.attempt, Some(new.max_cost)), 1, new.signed_at).await?;
        insert_members(&mut tx, new.id, members).await?;
        let moved = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, transaction_id = $2, blocked = '', revision = revision + 1, updated_at = $3 \
             WHERE id IN (SELECT registration_id FROM registration_transactions WHERE transaction_id = $4) AND {}",
            state_guard(StateEvent::Sign)
        )))
        .bind(StateEvent::Sign.target().code())
        .bind(new.id.as_bytes().to_vec())
        .bind(new.signed_at.micros())
        .bind(new.id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() != members.len() as u64 {
            return Err(StoreError::Conflict);
        }
        tx.commit().await
    }
}

/// Writes a signed version, and what it may cost at most where that is known, in wei.
pub(super) async fn insert_attempt(
    tx: &mut DbTransaction,
    id: TransactionId,
    (attempt, worst_cost): (&Attempt, Option<u128>),
    number: i64,
    at: Timestamp,
) -> Result<(), StoreError> {
    let wei = |wei: u128| i64::try_from(wei).unwrap_or(i64::MAX);
    sqlx::query("INSERT INTO attempts VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(attempt.hash.to_vec())
        .bind(id.as_bytes().to_vec())
        .bind(number)
        .bind(attempt.raw.to_vec())
        .bind(wei(attempt.fees.max_fee_per_gas))
        .bind(wei(attempt.fees.max_priority_fee_per_gas))
        .bind(at.micros())
        .bind(worst_cost.map(|wei| wei.to_string()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn insert_members(
    tx: &mut DbTransaction,
    id: TransactionId,
    members: &[RegistrationId],
) -> Result<(), StoreError> {
    let mut position = 0_i64;
    for chunk in chunks(members) {
        let sql = format!(
            "INSERT INTO registration_transactions (transaction_id, position, registration_id) VALUES {}",
            value_placeholders(1, chunk.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for member in chunk {
            query = query.bind(id.as_bytes().to_vec()).bind(position).bind(member.as_bytes().to_vec());
            position += 1;
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}
