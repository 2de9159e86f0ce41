//! State changes of a transaction and its members, written before they are acted on or reported.
//!
//! A batch moves with a few statements, however large it is. Each names the states that it may move from, by
//! [`StateEvent::sources`], so that a late or repeated report changes nothing; and each is refused for a signer whose
//! lease another replica holds ([`StoreError::Fenced`]).

use super::{
    Store, StoreError,
    bind::{bind_ids, bind_inclusion},
    db_transaction::DbTransaction,
    query::query,
    rows::{self, RowReader},
    sql::{UNINDEXED_STATE, placeholders, state_guard},
    transact::Fence,
};
use crate::registration::{
    Block, Cost, Diagnosis, Failure, Finality, RegistrationId, State, StateEvent, Timestamp, TransactionId,
};
use alloy::primitives::B256;

/// A registration fails after this many reverts, if it was alone in the last transaction.
const MAX_REVERTS: i64 = 3;

/// The endpoint that accepted a transaction, and when in terms of the chain.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AcceptedBy {
    /// `None` when the transaction is known to the network but not through which endpoint.
    pub endpoint: Option<String>,
    /// Block number of the head.
    pub head: Option<u64>,
}

/// A transaction in a canonical block.
#[derive(Clone, Copy, Debug)]
pub struct Inclusion {
    /// Of the included attempt.
    pub hash: B256,
    pub block: Block,
    pub cost: Cost,
}

impl Store {
    /// A node has accepted the transaction: the confirmation timeout starts.
    pub async fn mark_submitted(
        &self,
        id: TransactionId,
        accepted_by: &AcceptedBy,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.transact("sent", Fence::Transaction(id), async |tx| {
            query(
                "UPDATE transactions SET state = $1, sent_at = $2, taken_by = $3, taken_head = $4, refusal = NULL \
                 WHERE id = $5 AND state = 'signed'",
            )
            .bind(State::Submitted.code())
            .bind(at)
            .bind(accepted_by.endpoint.clone())
            .bind(accepted_by.head.map(u64::cast_signed))
            .bind(id)
            .execute(&mut **tx)
            .await?;
            transition_members(tx, id, StateEvent::Submit, &[], at).await?;
            Ok(())
        })
        .await
    }

    /// The transaction is in a canonical block and has registered all members except `others`. Those keep their state
    /// until the block has its confirmation depth, and then go back to the queue; `deep` is whether it has that
    /// already.
    pub async fn mark_included(
        &self,
        id: TransactionId,
        inclusion: &Inclusion,
        others: &[RegistrationId],
        deep: bool,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let event = if deep { StateEvent::Confirm } else { StateEvent::Include };
        self.transact("mark_included", Fence::Transaction(id), async |tx| {
            // A node had accepted it even if the response was lost: the confirmation timeout then starts at inclusion.
            let query = query(
                "UPDATE transactions SET state = $1, hash = $2, sent_at = COALESCE(sent_at, $3), included_at = COALESCE(included_at, $4), \
                 block_number = $5, block_hash = $6, block_time = $7, gas_used = $8, effective_gas_price = $9, \
                 l1_fee = $10, confirmed_at = $11, reorged_out = NULL, refusal = NULL, missing_since = NULL WHERE id \
                 = $12",
            )
            .bind(event.target().code())
            .bind(inclusion.hash.to_vec())
            .bind(at)
            .bind(at);
            bind_inclusion(query, &inclusion.block, &inclusion.cost)
                .bind(deep.then_some(at))
                .bind(id)
                .execute(&mut **tx)
                .await?;
            if deep {
                requeue(tx, id, others, at).await?;
            }
            let moved = transition_members(tx, id, event, others, at).await?;
            tx.unfinished.removed = if deep { moved } else { 0 };
            Ok(())
        })
        .await
    }

    /// The block has its confirmation depth. Members that the transaction has not registered go back to the queue and
    /// are returned.
    pub async fn mark_confirmed(&self, id: TransactionId, at: Timestamp) -> Result<Vec<RegistrationId>, StoreError> {
        self.transact("mark_confirmed", Fence::Transaction(id), async |tx| {
            query("UPDATE transactions SET state = $1, confirmed_at = $2 WHERE id = $3 AND state = 'included'")
                .bind(State::Confirmed.code())
                .bind(at)
                .bind(id)
                .execute(&mut **tx)
                .await?;
            let left = tx.change_registrations(
                "state = $3, transaction_id = NULL, blocked = '', queued_at = $4, delayed_at = NULL",
                &format!("transaction_id = $5 AND {UNINDEXED_STATE} IN ('signed', 'submitted') RETURNING id"),
                at,
            );
            let left = left.bind(StateEvent::Requeue.target().code()).bind(at).bind(id).fetch_all(&mut **tx).await?;
            tx.unfinished.removed = transition_members(tx, id, StateEvent::Confirm, &[], at).await?;
            left.iter().map(|row| RowReader::new(row).registration_id()).collect()
        })
        .await
    }

    /// The transaction's block is no longer canonical.
    pub async fn mark_reorged(&self, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
        self.transact("mark_reorged", Fence::Transaction(id), async |tx| {
            let confirmed = format!(
                "SELECT COUNT(*) FROM registrations WHERE transaction_id = $1 AND {UNINDEXED_STATE} = 'confirmed'"
            );
            let confirmed = query(confirmed).bind(id).fetch_one(&mut **tx).await?;
            tx.unfinished.added = RowReader::new(&confirmed).number()?;
            // If the transaction had been confirmed, its timeout restarts.
            query(
                "UPDATE transactions SET sent_at = CASE WHEN confirmed_at IS NULL THEN sent_at ELSE $4 END, hash = \
                 COALESCE((SELECT a.hash FROM attempts a WHERE a.transaction_id = transactions.id AND a.number = \
                 transactions.attempts), hash), reorged_out = block_number, refusal = NULL, missing_since = NULL, \
                 state = $1, finality = $2, included_at = NULL, confirmed_at = NULL, block_number = NULL, block_hash \
                 = NULL, block_time = NULL, gas_used = NULL, effective_gas_price = NULL, l1_fee = NULL WHERE id = $3",
            )
            .bind(State::Submitted.code())
            .bind(Finality::Unsafe.code())
            .bind(id)
            .bind(at)
            .execute(&mut **tx)
            .await?;
            transition_members(tx, id, StateEvent::Reorg, &[], at).await?;
            Ok(())
        })
        .await
    }

    /// The transaction can never register its members: its nonce is consumed at confirmation depth. They go back to the
    /// queue, after a revert to smaller batches; a member that was alone and has reverted [`MAX_REVERTS`] times fails.
    pub async fn requeue_members(
        &self,
        id: TransactionId,
        reverted: Option<&Failure>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.transact("requeue_members", Fence::Transaction(id), async |tx| {
            query("UPDATE transactions SET state = 'released' WHERE id = $1").bind(id).execute(&mut **tx).await?;
            if let Some(failure) = reverted {
                tx.unfinished.removed = fail_if_alone(tx, id, failure, at).await?;
            }
            let requeue = tx.change_registrations(
                "state = $3, transaction_id = NULL, blocked = '', reverts = reverts + $4, queued_at = $5, delayed_at = \
                 NULL",
                &format!("transaction_id = $6 AND {}", state_guard(StateEvent::Requeue)),
                at,
            );
            requeue
                .bind(StateEvent::Requeue.target().code())
                .bind(i64::from(reverted.is_some()))
                .bind(at)
                .bind(id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        })
        .await
    }

    /// The confirmation timeout has passed, for the reason in `diagnosis`. Returns whether the transaction was still
    /// open: one that is confirmed or given up by now was not late.
    pub async fn mark_timed_out(
        &self,
        id: TransactionId,
        diagnosis: &Diagnosis,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let diagnosis = rows::encode_diagnosis(diagnosis)?;
        self.transact("mark_timed_out", Fence::Transaction(id), async |tx| {
            let updated = query(
                "UPDATE transactions SET timed_out_at = $1, diagnosis = $2 \
                 WHERE id = $3 AND state IN ('signed', 'submitted', 'included')",
            )
            .bind(at)
            .bind(diagnosis)
            .bind(id)
            .execute(&mut **tx)
            .await?;
            let is_late = updated > 0;
            if is_late {
                bump_member_revisions(tx, id, at).await?;
            }
            Ok(is_late)
        })
        .await
    }

    /// The transactions' blocks are at or below the safe or finalized head. Those of signers whose lease another
    /// replica holds are left unchanged.
    pub async fn raise_finality(
        &self,
        ids: &[TransactionId],
        finality: Finality,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.transact("raise_finality", Fence::None, async |tx| {
            for id in ids {
                let raised = query(
                    "UPDATE transactions SET finality = $1 WHERE id = $2 AND state = 'confirmed' AND (nonce IS NULL \
                     OR EXISTS (SELECT 1 FROM leases WHERE leases.signer = transactions.signer AND leases.holder = \
                     $3))",
                )
                .bind(finality.code())
                .bind(*id)
                .bind(self.leases.holder_id())
                .execute(&mut **tx)
                .await?;
                if raised > 0 {
                    bump_member_revisions(tx, *id, at).await?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Moves all members except `others`. Returns how many it moved.
async fn transition_members(
    tx: &mut DbTransaction,
    id: TransactionId,
    event: StateEvent,
    others: &[RegistrationId],
    at: Timestamp,
) -> Result<u64, StoreError> {
    let except =
        if others.is_empty() { String::new() } else { format!(" AND id NOT IN ({})", placeholders(5, others.len())) };
    let members = format!("transaction_id = $4 AND {}{except}", state_guard(event));
    let query = tx.change_registrations("state = $3, blocked = ''", &members, at).bind(event.target().code()).bind(id);
    Ok(bind_ids(query, others).execute(&mut **tx).await?)
}

async fn bump_member_revisions(tx: &mut DbTransaction, id: TransactionId, at: Timestamp) -> Result<(), StoreError> {
    tx.change_registrations("", "transaction_id = $3", at).bind(id).execute(&mut **tx).await?;
    Ok(())
}

/// Fails the only member of a reverted transaction, if it has reverted too often. Returns how many failed.
async fn fail_if_alone(
    tx: &mut DbTransaction,
    id: TransactionId,
    failure: &Failure,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let members = query("SELECT COUNT(*) FROM registrations WHERE transaction_id = $1").bind(id);
    if RowReader::new(&members.fetch_one(&mut **tx).await?).number()? != 1 {
        return Ok(0);
    }
    let failed = tx.change_registrations(
        "state = $3, failure_reason = $4, failure_message = $5, failed_at = $6",
        &format!("transaction_id = $7 AND reverts + 1 >= $8 AND {}", state_guard(StateEvent::Fail)),
        at,
    );
    let failed = failed
        .bind(StateEvent::Fail.target().code())
        .bind(failure.reason.code())
        .bind(failure.message.clone())
        .bind(at)
        .bind(id)
        .bind(MAX_REVERTS)
        .execute(&mut **tx)
        .await?;
    Ok(failed)
}

async fn requeue(
    tx: &mut DbTransaction,
    transaction: TransactionId,
    ids: &[RegistrationId],
    at: Timestamp,
) -> Result<(), StoreError> {
    for id in ids {
        let requeue = tx.change_registrations(
            "state = $3, transaction_id = NULL, blocked = '', queued_at = $4, delayed_at = NULL",
            &format!("id = $5 AND transaction_id = $6 AND {}", state_guard(StateEvent::Requeue)),
            at,
        );
        let requeue = requeue.bind(StateEvent::Requeue.target().code()).bind(at);
        requeue.bind(*id).bind(transaction).execute(&mut **tx).await?;
    }
    Ok(())
}
