//! Registrations that no node has a transaction for although their queue timeout has passed.

use super::{
    Store, StoreError,
    bind::{bind_ids, clamp},
    db_transaction::DbTransaction,
    query::query,
    rows::{self, RowReader},
    sql::{UNINDEXED_STATE, chunks, placeholders},
    transact::Fence,
};
use crate::{
    registration::{Diagnosis, Registration, RegistrationId, Timestamp, TransactionId},
    telemetry::spans,
};

/// Those that were queued up to `$3` and are not marked, with ids above `$1` and up to `$2`.
pub(super) fn late_sql() -> String {
    format!(
        "{} WHERE r.state = 'queued' AND r.id > $1 AND r.id <= $2 AND r.delayed_at IS NULL AND COALESCE(r.queued_at, \
         r.created_at) <= $3 ORDER BY r.id LIMIT $4",
        rows::SELECT_REGISTRATION
    )
}

pub(super) const HAS_DELAYED_SQL: &str = "SELECT 1 FROM registrations WHERE state IN ('queued', 'signed') AND \
     delayed_at IS NOT NULL AND delay_cause = $1 LIMIT 1";

/// The result of marking registrations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delayed {
    /// Without those that are sent by now, or that another replica marked.
    pub marked: Vec<RegistrationId>,
    /// Registrations that the episode had before.
    pub marked_before: u64,
}

impl Store {
    /// At most `limit` queued registrations with ids above `after` whose time in the queue began at `since` or before,
    /// and which are not marked; in the order of ids. Those accepted after `since` are not looked at.
    pub async fn late_in_queue(
        &self,
        after: RegistrationId,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Registration>, StoreError> {
        let query = query(late_sql()).bind(after).bind(RegistrationId::last_at(since)).bind(since).bind(clamp(limit));
        let found = spans::db("late_in_queue", query.fetch_all(&self.reader)).await?;
        found.iter().map(rows::read_registration).collect()
    }

    /// Marks those of `ids` that are still queued, or `signed` in this transaction, as delayed, with the diagnosis, and
    /// counts them in the episode of its cause. A new episode begins when none of that cause waits any more.
    pub async fn mark_delayed(
        &self,
        ids: &[RegistrationId],
        signed: Option<TransactionId>,
        diagnosis: &Diagnosis,
        at: Timestamp,
    ) -> Result<Delayed, StoreError> {
        let cause = diagnosis.cause.code().as_bytes().to_vec();
        let text = rows::encode_diagnosis(diagnosis)?;
        let (fence, state) = match signed {
            None => (Fence::None, "queued"),
            // Another replica may have the signer's lease by now.
            Some(transaction) => (Fence::Transaction(transaction), "signed"),
        };
        self.transact("mark_delayed", fence, async |tx| {
            let counted = lock_episode(tx, &cause, at).await?;
            let is_ongoing = query(HAS_DELAYED_SQL).bind(cause.clone()).fetch_optional(&mut **tx).await?.is_some();
            let mut marked = Vec::with_capacity(ids.len());
            for chunk in chunks(ids) {
                let late = format!(
                    "id IN ({}) AND {UNINDEXED_STATE} = '{state}' AND delayed_at IS NULL RETURNING id",
                    placeholders(6, chunk.len())
                );
                let set = "delayed_at = $3, delay_cause = $4, delay_diagnosis = $5";
                let query = tx.change_registrations(set, &late, at).bind(at).bind(cause.clone()).bind(text.clone());
                for row in bind_ids(query, &chunk).fetch_all(&mut **tx).await? {
                    marked.push(RowReader::new(&row).registration_id()?);
                }
            }
            marked.sort_unstable();
            let marked_before = if is_ongoing { counted } else { 0 };
            let began_at = if is_ongoing { "began_at" } else { "$3" };
            let count = format!("UPDATE delay_episodes SET registrations = $1, began_at = {began_at} WHERE cause = $2");
            let count = query(count).bind(clamp(marked_before.saturating_add(marked.len() as u64))).bind(cause.clone());
            let count = if is_ongoing { count } else { count.bind(at) };
            count.execute(&mut **tx).await?;
            Ok(Delayed { marked, marked_before })
        })
        .await
    }
}

/// Locks the episode of this cause until the transaction ends. Returns its number of registrations.
async fn lock_episode(tx: &mut DbTransaction, cause: &[u8], at: Timestamp) -> Result<u64, StoreError> {
    let row = query(
        "INSERT INTO delay_episodes (cause, began_at, registrations) VALUES ($1, $2, 0) ON CONFLICT (cause) DO UPDATE \
         SET registrations = delay_episodes.registrations RETURNING registrations",
    )
    .bind(cause.to_vec())
    .bind(at)
    .fetch_one(&mut **tx)
    .await?;
    RowReader::new(&row).number()
}
