//! The commit before the first broadcast: nonce, signed bytes and members, all or nothing.

use super::{
    Attempt, Store, StoreError,
    bind::clamp,
    daily_budget::Expense,
    db_transaction::DbTransaction,
    query::query,
    sql::{InsertSql, state_guard},
    transact::Fence,
};
use crate::registration::{RegistrationId, State, StateEvent, Timestamp, TransactionId, policy::budget::DailyBudget};
use alloy::primitives::Address;

const INSERT_MEMBERS: InsertSql = InsertSql {
    into: "INSERT INTO registration_transactions (transaction_id, position, registration_id)",
    columns: 3,
    then: "",
    skips_known: false,
};

/// A signed transaction with its first attempt, to be written.
#[derive(Clone, Debug)]
pub struct NewTransaction {
    pub id: TransactionId,
    pub signer: Address,
    pub nonce: u64,
    pub gas_limit: u64,
    /// When its registrations left the queue.
    pub prepared_at: Timestamp,
    pub signed_at: Timestamp,
    pub attempt: Attempt,
    /// Of the attempt, with all its fees, in wei.
    pub max_cost: u128,
    /// `None` when there is no limit, or when it must be sent whatever was spent.
    pub daily_budget: Option<DailyBudget>,
}

impl Store {
    /// Writes nonce, signed bytes and members; no node has received the bytes yet. [`StoreError::Conflict`] when one of
    /// the registrations is not queued any more or the nonce is used, [`StoreError::OverBudget`] when the rest of the
    /// budget is too small.
    pub async fn insert_signed_transaction(
        &self,
        new: &NewTransaction,
        members: &[RegistrationId],
    ) -> Result<(), StoreError> {
        let expense = Expense { transaction: new.id, max_cost: new.max_cost, daily_budget: new.daily_budget };
        self.transact_budgeted("sign", Fence::Signer(new.signer), expense, async |tx| {
            insert_transaction(tx, new, members.len()).await?;
            insert_attempt(tx, new.id, (&new.attempt, Some(new.max_cost)), 1, new.signed_at).await?;
            insert_members(tx, new.id, members).await?;
            let moved = tx.change_registrations(
                "state = $3, transaction_id = $4, blocked = ''",
                &format!(
                    "id IN (SELECT registration_id FROM registration_transactions WHERE transaction_id = $5) AND {}",
                    state_guard(StateEvent::Sign)
                ),
                new.signed_at,
            );
            let moved =
                moved.bind(StateEvent::Sign.target().code()).bind(new.id).bind(new.id).execute(&mut **tx).await?;
            if moved == members.len() as u64 { Ok(()) } else { Err(StoreError::Conflict) }
        })
        .await
    }
}

async fn insert_transaction(tx: &mut DbTransaction, new: &NewTransaction, batch_size: usize) -> Result<(), StoreError> {
    let inserted = query(
        "INSERT INTO transactions (id, signer, nonce, state, hash, gas_limit, batch_size, attempts, prepared_at, \
         signed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9) ON CONFLICT DO NOTHING",
    )
    .bind(new.id)
    .bind(new.signer.to_vec())
    .bind(new.nonce.cast_signed())
    .bind(State::Signed.code())
    .bind(new.attempt.hash.to_vec())
    .bind(new.gas_limit.cast_signed())
    .bind(clamp(batch_size))
    .bind(new.prepared_at)
    .bind(new.signed_at)
    .execute(&mut **tx)
    .await?;
    if inserted == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Writes an attempt with its maximum cost in wei, if known.
pub(super) async fn insert_attempt(
    tx: &mut DbTransaction,
    id: TransactionId,
    (attempt, max_cost): (&Attempt, Option<u128>),
    number: i64,
    at: Timestamp,
) -> Result<(), StoreError> {
    query("INSERT INTO attempts VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(attempt.hash.to_vec())
        .bind(id)
        .bind(number)
        .bind(attempt.raw.to_vec())
        .bind(clamp(attempt.fees.max_fee_per_gas))
        .bind(clamp(attempt.fees.max_priority_fee_per_gas))
        .bind(at)
        .bind(max_cost.map(|wei| wei.to_string()))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn insert_members(
    tx: &mut DbTransaction,
    id: TransactionId,
    members: &[RegistrationId],
) -> Result<(), StoreError> {
    let rows = (0_i64..).zip(members).map(|(position, member)| vec![id.into(), position.into(), (*member).into()]);
    tx.insert(&INSERT_MEMBERS, rows.collect()).await?;
    Ok(())
}
