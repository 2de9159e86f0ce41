//! State changes of registrations outside an own transaction: found on chain, failed, blocked.

use super::{
    Store, StoreError, UnfinalizedBlock,
    bind::bind_ids,
    db_transaction::DbTransaction,
    import::transaction_id_from_hash,
    query::query,
    rows::RowReader,
    sql::{UNINDEXED_STATE, chunks, placeholders, state_guard},
    transact::Fence,
};
use crate::registration::{
    Block, BlockedReason, Failure, Finality, RegistrationId, State, StateEvent, Timestamp, TransactionId,
};
use alloy::primitives::{Address, B256};

/// A registration that was found on chain, made by a foreign transaction or by an own one that was not in the database.
#[derive(Clone, Copy, Debug)]
pub struct FoundOnChain {
    pub id: RegistrationId,
    /// The transaction that registered the pair.
    pub hash: B256,
    pub registrar: Address,
    pub block: Block,
    /// The transaction's id, if it is an own one.
    pub own_transaction: Option<TransactionId>,
}

impl Store {
    /// Confirms registrations that were found on chain at confirmation depth. One that is not queued any more is left
    /// unchanged: another sender has signed it since it was looked up. Returns those that were queued, each with its
    /// block.
    pub async fn mark_found_on_chain(
        &self,
        found: &[FoundOnChain],
        at: Timestamp,
    ) -> Result<Vec<(RegistrationId, UnfinalizedBlock)>, StoreError> {
        self.transact("mark_found_on_chain", Fence::None, async |tx| {
            let mut moved = Vec::with_capacity(found.len());
            for one in found {
                let id = one.own_transaction.unwrap_or(transaction_id_from_hash(one.hash));
                let set = "state = $3, transaction_id = $4, blocked = ''";
                let updated = tx.change_registrations(set, &format!("id = $5 AND {UNINDEXED_STATE} = $6"), at);
                let updated = updated
                    .bind(StateEvent::Confirm.target().code())
                    .bind(id)
                    .bind(one.id)
                    .bind(State::Queued.code())
                    .execute(&mut **tx)
                    .await?;
                // Signed by another replica since the lookup: the transaction is that replica's, not foreign.
                if updated == 0 {
                    continue;
                }
                if one.own_transaction.is_none() {
                    insert_foreign(tx, id, one, at).await?;
                }
                let (finality, Block { number, hash, .. }) = (Finality::Unsafe, one.block);
                let signer = one.own_transaction.map(|_| one.registrar);
                moved.push((one.id, UnfinalizedBlock { id, signer, finality, number, hash }));
            }
            tx.unfinished.removed = moved.len() as u64;
            Ok(moved)
        })
        .await
    }

    /// A foreign transaction is no longer canonical: queues its registrations again and returns them.
    pub async fn requeue_foreign_reorged(
        &self,
        id: TransactionId,
        at: Timestamp,
    ) -> Result<Vec<RegistrationId>, StoreError> {
        self.transact("requeue_foreign_reorged", Fence::None, async |tx| {
            // First, so that another replica that finds the same transaction now waits and then inserts it again.
            query("DELETE FROM transactions WHERE id = $1 AND nonce IS NULL").bind(id).execute(&mut **tx).await?;
            let queued = tx.change_registrations(
                "state = $3, transaction_id = NULL, queued_at = $4, delayed_at = NULL",
                &format!("transaction_id = $5 AND {} RETURNING id", state_guard(StateEvent::ForeignReorged)),
                at,
            );
            let queued =
                queued.bind(StateEvent::ForeignReorged.target().code()).bind(at).bind(id).fetch_all(&mut **tx).await?;
            tx.unfinished.added = queued.len() as u64;
            queued.iter().map(|row| RowReader::new(row).registration_id()).collect()
        })
        .await
    }

    /// Fails a queued registration that cannot succeed. Returns whether it was still queued: one that another sender
    /// has signed since it was read is left unchanged.
    pub async fn mark_failed(&self, id: RegistrationId, failure: &Failure, at: Timestamp) -> Result<bool, StoreError> {
        self.transact("mark_failed", Fence::None, async |tx| {
            let set = "state = $3, failure_reason = $4, failure_message = $5, blocked = '', failed_at = $6";
            let failed = tx.change_registrations(set, &format!("id = $7 AND {UNINDEXED_STATE} = 'queued'"), at);
            let failed = failed
                .bind(StateEvent::Fail.target().code())
                .bind(failure.reason.code())
                .bind(failure.message.clone())
                .bind(at)
                .bind(id)
                .execute(&mut **tx)
                .await?;
            tx.unfinished.removed = failed;
            Ok(failed > 0)
        })
        .await
    }

    /// Sets why queued registrations are blocked and when they are tried again; others are left unchanged. Returns how
    /// many had another reason or none.
    pub async fn set_blocked_queued(
        &self,
        ids: &[RegistrationId],
        blocked: BlockedReason,
        retry_at: Timestamp,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        let code = blocked.code();
        self.transact("set_blocked_queued", Fence::None, async |tx| {
            let mut changed = 0;
            for chunk in chunks(ids) {
                let list = placeholders(5, chunk.len());
                let others = format!("blocked <> $4 AND id IN ({list}) AND {UNINDEXED_STATE} = 'queued'");
                let block = tx.change_registrations("blocked = $3", &others, at).bind(code).bind(code);
                let defer = format!(
                    "UPDATE registrations SET retry_at = $1, claimed_until = 0 WHERE id IN ({}) AND {UNINDEXED_STATE} = \
                     'queued'",
                    placeholders(2, chunk.len())
                );
                let defer = query(defer).bind(retry_at);
                changed += bind_ids(block, &chunk).execute(&mut **tx).await?;
                bind_ids(defer, &chunk).execute(&mut **tx).await?;
            }
            Ok(changed)
        })
        .await
    }
}

/// Inserts a foreign transaction in a canonical block.
async fn insert_foreign(
    tx: &mut DbTransaction,
    id: TransactionId,
    found: &FoundOnChain,
    at: Timestamp,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO transactions (id, signer, state, hash, sent_at, included_at, confirmed_at, block_number, \
         block_hash, block_time) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE SET \
         block_number = excluded.block_number, block_hash = excluded.block_hash, block_time = excluded.block_time, \
         finality = excluded.finality WHERE transactions.block_hash <> excluded.block_hash",
    )
    .bind(id)
    .bind(found.registrar.to_vec())
    .bind(State::Confirmed.code())
    .bind(found.hash.to_vec())
    .bind(found.block.time)
    .bind(at)
    .bind(at)
    .bind(found.block.number.cast_signed())
    .bind(found.block.hash.to_vec())
    .bind(found.block.time)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
