//! What a diagnosis wants to know of a transaction that is out, so that every replica, and the next start, knows it too.
//!
//! Most of it is written with what is written anyway. What is written for itself is what goes wrong, once.

use super::{AcceptedBy, Store, StoreError, rows::RowReader};
use crate::registration::{
    Timestamp, TransactionId,
    diagnosis::{NodeRejection, RejectKind},
};
use serde::{Deserialize, Serialize};

/// What was seen of a transaction by whoever acted for its signer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredObservations {
    /// The endpoint that took the bytes, and the newest block then.
    pub accepted_by: AcceptedBy,
    /// The block that held it until a reorg.
    pub reorged_from_block: Option<u64>,
    /// What a node said when it refused the bytes the last time they went out.
    pub last_rejection: Option<NodeRejection>,
    /// Since when its nonce is consumed with no receipt for any of its hashes.
    pub missing_since: Option<Timestamp>,
}

/// The columns of what is remembered; [`remembered`] reads them.
pub(super) const OBSERVATION_COLUMNS: &str = "taken_by, taken_head, reorged_out, refusal, missing_since";

/// Reads the columns of [`REMEMBERED`].
pub(super) fn read_observations(c: &mut RowReader<'_>) -> Result<StoredObservations, StoreError> {
    Ok(StoredObservations {
        accepted_by: AcceptedBy { endpoint: c.get()?, head: c.unsigned()? },
        reorged_from_block: c.unsigned()?,
        // It is for a diagnosis alone: one that cannot be read must not keep the work from going on.
        last_rejection: c.get::<Option<String>>()?.and_then(|text| decode_rejection(&text).ok()),
        missing_since: c.time()?,
    })
}

impl Store {
    /// What a node said when it refused the bytes the last time they went out; `None` when one has taken them since.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_last_rejection(
        &self,
        id: TransactionId,
        refusal: Option<&NodeRejection>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        sqlx::query("UPDATE transactions SET refusal = $1 WHERE id = $2 AND state IN ('signed', 'submitted')")
            .bind(refusal.map(encode_rejection).transpose()?)
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    /// Its nonce is consumed, and there is no receipt for any of its hashes, since then; `None` when that is no longer so.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn set_missing_since(&self, id: TransactionId, since: Option<Timestamp>) -> Result<(), StoreError> {
        let mut tx = self.write_for_tx(id).await?;
        sqlx::query("UPDATE transactions SET missing_since = $1 WHERE id = $2 AND state IN ('signed', 'submitted')")
            .bind(since.map(Timestamp::micros))
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }
}

/// A refusal as its column holds it.
#[derive(Serialize, Deserialize)]
struct StoredRejection {
    endpoint: String,
    code: i64,
    words: String,
    #[serde(with = "StoredRejectKind")]
    meaning: RejectKind,
    at: i64,
}

/// [`RejectKind`], by the names that are in the column.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "RejectKind")]
enum StoredRejectKind {
    InsufficientFunds,
    FeeTooLow,
    SenderLimit,
    GasLimit,
    ReplacementUnderpriced,
    Other,
}

fn encode_rejection(refusal: &NodeRejection) -> Result<String, StoreError> {
    let NodeRejection { endpoint, code, message: words, kind: meaning, at } = refusal.clone();
    let stored = StoredRejection { endpoint, code, words, meaning, at: at.micros() };
    serde_json::to_string(&stored).map_err(StoreError::corrupt)
}

fn decode_rejection(text: &str) -> serde_json::Result<NodeRejection> {
    let StoredRejection { endpoint, code, words, meaning, at } = serde_json::from_str(text)?;
    Ok(NodeRejection { endpoint, code, message: words, kind: meaning, at: Timestamp::from_micros(at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_as_it_was_written_whatever_it_means() {
        for meaning in [
            RejectKind::InsufficientFunds,
            RejectKind::FeeTooLow,
            RejectKind::SenderLimit,
            RejectKind::GasLimit,
            RejectKind::ReplacementUnderpriced,
            RejectKind::Other,
        ] {
            let refusal = NodeRejection {
                endpoint: "a.example".to_owned(),
                code: -32000,
                message: "no \"more\"".to_owned(),
                kind: meaning,
                at: Timestamp::from_seconds(7),
            };
            assert_eq!(decode_rejection(&encode_rejection(&refusal).unwrap()).unwrap(), refusal);
        }
    }
}
