//! What happens to registrations, written before it is acted on or said.
//!
//! A batch moves with a few statements, however large it is. Each names the states it may move from, by
//! [`Event::sources`], so that a late or repeated report changes nothing.

use super::{
    Attempt, Store, StoreError, rows,
    sql::{chunks, list, tuples},
    write::Write,
};
use crate::registration::{
    Block, Blocked, Cost, Diagnosis, Event, Failure, Finality, RegistrationId, State, Timestamp, TransactionId,
};
use alloy::primitives::{Address, B256};
use sqlx::AssertSqlSafe;

/// How often a registration's transactions may revert before it fails.
const MAX_REVERTS: i64 = 3;

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

/// A registration that was found on chain, made by somebody else's transaction.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The registration.
    pub id: RegistrationId,
    /// The transaction that registered the pair.
    pub hash: B256,
    /// Who registered it.
    pub registrar: Address,
    /// The block.
    pub block: Block,
}

impl Store {
    /// Writes nonce and signed bytes, and ties the registrations to them: all or nothing. No node has seen the bytes yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one of the registrations is not queued any more, or the nonce is taken.
    pub async fn sign(&self, new: &NewTransaction, members: &[RegistrationId]) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
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
        insert_attempt(&mut tx, new.id, &new.attempt, 1, new.signed_at).await?;
        insert_members(&mut tx, new.id, members).await?;
        let moved = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, transaction_id = $2, blocked = '', revision = revision + 1, updated_at = $3 \
             WHERE id IN (SELECT registration_id FROM registration_transactions WHERE transaction_id = $4) AND {}",
            moves(Event::Sign)
        )))
        .bind(Event::Sign.target().code())
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

    /// A node has taken the transaction: the confirmation clock starts.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn sent(&self, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
        sqlx::query("UPDATE transactions SET state = $1, sent_at = $2 WHERE id = $3 AND state = 'signed'")
            .bind(State::Submitted.code())
            .bind(at.micros())
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        move_members(&mut tx, id, Event::Send, at).await?;
        tx.commit().await
    }

    /// The transaction is in a canonical block and has registered all it carries but `released`, which go back to the queue;
    /// `deep` says whether the block has its confirmation depth already.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn included(
        &self,
        id: TransactionId,
        inclusion: &Inclusion,
        released: &[RegistrationId],
        deep: bool,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let event = if deep { Event::Confirm } else { Event::Include };
        let mut tx = Write::begin(&self.writer).await?;
        release_some(&mut tx, released, at).await?;
        // A node that included it had it, even if its answer never came: the clock then starts at inclusion.
        sqlx::query(
            "UPDATE transactions SET state = $1, hash = $2, sent_at = COALESCE(sent_at, $3), included_at = $4, \
             block_number = $5, block_hash = $6, block_time = $7, gas_used = $8, effective_gas_price = $9, l1_fee = $10, \
             confirmed_at = $11 WHERE id = $12",
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
        let moved = move_members(&mut tx, id, event, at).await?;
        tx.commit().await?;
        self.finished(if deep { moved } else { 0 });
        Ok(())
    }

    /// The including block has its confirmation depth.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn confirmed(&self, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
        sqlx::query("UPDATE transactions SET state = $1, confirmed_at = $2 WHERE id = $3 AND state = 'included'")
            .bind(State::Confirmed.code())
            .bind(at.micros())
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        let moved = move_members(&mut tx, id, Event::Confirm, at).await?;
        tx.commit().await?;
        self.finished(moved);
        Ok(())
    }

    /// The block that held the transaction is not canonical any more.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn reorged(&self, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
        let was_confirmed = sqlx::query(
            "UPDATE registrations SET revision = revision WHERE transaction_id = $1 AND state = 'confirmed'",
        )
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE transactions SET state = $1, finality = $2, included_at = NULL, confirmed_at = NULL, block_number = NULL, \
             block_hash = NULL, block_time = NULL, gas_used = NULL, effective_gas_price = NULL, l1_fee = NULL WHERE id = $3",
        )
        .bind(State::Submitted.code())
        .bind(Finality::Unsafe.code())
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        move_members(&mut tx, id, Event::Reorg, at).await?;
        tx.commit().await?;
        self.begun(was_confirmed.rows_affected());
        Ok(())
    }

    /// The transaction can never register what it carries: its nonce is consumed at depth. All of it goes back to the queue;
    /// what has reverted too often fails.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn release(
        &self,
        id: TransactionId,
        reverted: Option<&Failure>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
        sqlx::query("UPDATE transactions SET state = 'released' WHERE id = $1")
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        let mut failed = 0;
        if let Some(failure) = reverted {
            let marked = sqlx::query(AssertSqlSafe(format!(
                "UPDATE registrations SET state = $1, failure_reason = $2, failure_message = $3, failed_at = $4, updated_at = $5, \
                 revision = revision + 1 WHERE transaction_id = $6 AND reverts + 1 >= $7 AND {}",
                moves(Event::Fail)
            )))
            .bind(Event::Fail.target().code())
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
            "UPDATE registrations SET state = $1, transaction_id = NULL, reverts = reverts + $2, revision = revision + 1, \
             updated_at = $3 WHERE transaction_id = $4 AND {}",
            moves(Event::Release)
        )))
        .bind(Event::Release.target().code())
        .bind(i64::from(reverted.is_some()))
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.finished(failed);
        Ok(())
    }

    /// These were found on chain at confirmation depth, registered by somebody else.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn found(&self, found: &[Found], at: Timestamp) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
        let mut moved = 0;
        for one in found {
            let id = foreign_transaction(one.hash);
            sqlx::query(
                "INSERT INTO transactions (id, signer, state, hash, sent_at, included_at, confirmed_at, block_number, block_hash, \
                 block_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING",
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
            .execute(&mut *tx)
            .await?;
            let updated = sqlx::query(AssertSqlSafe(format!(
                "UPDATE registrations SET state = $1, transaction_id = $2, blocked = '', revision = revision + 1, updated_at = $3 \
                 WHERE id = $4 AND {}",
                moves(Event::Confirm)
            )))
            .bind(Event::Confirm.target().code())
            .bind(id.as_bytes().to_vec())
            .bind(at.micros())
            .bind(one.id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
            moved += updated.rows_affected();
        }
        tx.commit().await?;
        self.finished(moved);
        Ok(())
    }

    /// This one cannot succeed as it stands.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn fail(&self, id: RegistrationId, failure: &Failure, at: Timestamp) -> Result<(), StoreError> {
        let failed = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, failure_reason = $2, failure_message = $3, blocked = '', failed_at = $4, \
             updated_at = $5, revision = revision + 1 WHERE id = $6 AND {}",
            moves(Event::Fail)
        )))
        .bind(Event::Fail.target().code())
        .bind(failure.reason.code())
        .bind(failure.message.clone())
        .bind(at.micros())
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&self.writer)
        .await?;
        self.finished(failed.rows_affected());
        Ok(())
    }

    /// These wait for an operator and are looked at again at `retry_at`; `None` says that they move again. Returns how many
    /// did not say so before.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn block(
        &self,
        ids: &[RegistrationId],
        blocked: Option<Blocked>,
        retry_at: Timestamp,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let code = blocked.map_or("", Blocked::code);
        let mut tx = Write::begin(&self.writer).await?;
        let mut changed = 0;
        for chunk in chunks(ids) {
            let among = list(4, chunk.len());
            let mut news = sqlx::query(AssertSqlSafe(format!(
                "UPDATE registrations SET blocked = $1, revision = revision + 1, updated_at = $2 WHERE blocked <> $3 AND id IN ({among})"
            )))
            .bind(code)
            .bind(at.micros())
            .bind(code);
            let mut later = sqlx::query(AssertSqlSafe(format!(
                "UPDATE registrations SET retry_at = $1 WHERE id IN ({})",
                list(2, chunk.len())
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

    /// The confirmation clock of the transaction ran out, and this is why.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn timed_out(&self, id: TransactionId, diagnosis: &Diagnosis, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
        sqlx::query("UPDATE transactions SET timed_out_at = $1, diagnosis = $2 WHERE id = $3")
            .bind(at.micros())
            .bind(rows::write_diagnosis(diagnosis)?)
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        touch_members(&mut tx, id, at).await?;
        tx.commit().await
    }

    /// The transaction's block is at or below the safe or finalized head.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn finality(&self, ids: &[TransactionId], finality: Finality, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = Write::begin(&self.writer).await?;
        for id in ids {
            sqlx::query("UPDATE transactions SET finality = $1 WHERE id = $2")
                .bind(finality.code())
                .bind(id.as_bytes().to_vec())
                .execute(&mut *tx)
                .await?;
            touch_members(&mut tx, *id, at).await?;
        }
        tx.commit().await
    }
}

/// The store's id for a transaction that is not ours: the first half of its hash, so that a second find is the same row.
pub(super) fn foreign_transaction(hash: B256) -> TransactionId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    TransactionId::from_bytes(bytes)
}

/// The states an event may move a registration from, as a condition.
fn moves(event: Event) -> String {
    let codes: Vec<_> = event.sources().map(|state| format!("'{}'", state.code())).collect();
    format!("state IN ({})", codes.join(", "))
}

async fn move_members(tx: &mut Write, id: TransactionId, event: Event, at: Timestamp) -> Result<u64, StoreError> {
    let moved = sqlx::query(AssertSqlSafe(format!(
        "UPDATE registrations SET state = $1, blocked = '', revision = revision + 1, updated_at = $2 WHERE transaction_id = $3 AND {}",
        moves(event)
    )))
    .bind(event.target().code())
    .bind(at.micros())
    .bind(id.as_bytes().to_vec())
    .execute(&mut **tx)
    .await?;
    Ok(moved.rows_affected())
}

async fn touch_members(tx: &mut Write, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE registrations SET revision = revision + 1, updated_at = $1 WHERE transaction_id = $2")
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn release_some(tx: &mut Write, ids: &[RegistrationId], at: Timestamp) -> Result<(), StoreError> {
    for id in ids {
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, transaction_id = NULL, revision = revision + 1, updated_at = $2 WHERE id = $3 AND {}",
            moves(Event::Release)
        )))
        .bind(Event::Release.target().code())
        .bind(at.micros())
        .bind(id.as_bytes().to_vec())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

async fn insert_attempt(
    tx: &mut Write,
    id: TransactionId,
    attempt: &Attempt,
    number: i64,
    at: Timestamp,
) -> Result<(), StoreError> {
    let wei = |wei: u128| i64::try_from(wei).unwrap_or(i64::MAX);
    sqlx::query("INSERT INTO attempts VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(attempt.hash.to_vec())
        .bind(id.as_bytes().to_vec())
        .bind(number)
        .bind(attempt.raw.to_vec())
        .bind(wei(attempt.fees.max_fee_per_gas))
        .bind(wei(attempt.fees.max_priority_fee_per_gas))
        .bind(at.micros())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn insert_members(tx: &mut Write, id: TransactionId, members: &[RegistrationId]) -> Result<(), StoreError> {
    let mut position = 0_i64;
    for chunk in chunks(members) {
        let sql = format!(
            "INSERT INTO registration_transactions (transaction_id, position, registration_id) VALUES {}",
            tuples(1, chunk.len(), 3)
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
