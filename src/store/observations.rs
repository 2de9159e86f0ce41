//! What a diagnosis needs to know of a pending transaction, stored for other replicas and for the next start.
//!
//! Most of it is stored together with state changes. Only failures have a write of their own, once each.

use super::{AcceptedBy, Store, StoreError, query::query, rows::RowReader, transact::Fence};
use crate::registration::{
    Timestamp, TransactionId,
    diagnosis::{NodeRejection, RejectKind},
};
use serde::{Deserialize, Serialize};

/// Made by the holder of the signer's lease.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoredObservations {
    pub accepted_by: AcceptedBy,
    /// The block that included it until a reorg.
    pub reorged_from_block: Option<u64>,
    /// How a node rejected the latest broadcast.
    pub last_rejection: Option<NodeRejection>,
    /// Since when its nonce is consumed without a receipt for any of its hashes.
    pub missing_since: Option<Timestamp>,
}

pub(super) const OBSERVATION_COLUMNS: &str = "taken_by, taken_head, reorged_out, refusal, missing_since";

/// Reads [`OBSERVATION_COLUMNS`].
pub(super) fn read_observations(c: &mut RowReader<'_>) -> Result<StoredObservations, StoreError> {
    Ok(StoredObservations {
        accepted_by: AcceptedBy { endpoint: c.get()?, head: c.unsigned()? },
        reorged_from_block: c.unsigned()?,
        // Only for diagnoses: an unreadable one must not block the transaction.
        last_rejection: c.get::<Option<String>>()?.and_then(|text| decode_rejection(&text).ok()),
        missing_since: c.time()?,
    })
}

impl Store {
    /// How a node rejected the latest broadcast; `None` when one has accepted it since.
    pub async fn set_last_rejection(
        &self,
        id: TransactionId,
        rejection: Option<&NodeRejection>,
    ) -> Result<(), StoreError> {
        let rejection = rejection.map(encode_rejection).transpose()?;
        self.transact("set_last_rejection", Fence::Transaction(id), async |tx| {
            query("UPDATE transactions SET refusal = $1 WHERE id = $2 AND state IN ('signed', 'submitted')")
                .bind(rejection)
                .bind(id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        })
        .await
    }

    /// Since when its nonce is consumed without a receipt for any of its hashes; `None` when that has ended.
    pub async fn set_missing_since(&self, id: TransactionId, since: Option<Timestamp>) -> Result<(), StoreError> {
        self.transact("set_missing_since", Fence::Transaction(id), async |tx| {
            query("UPDATE transactions SET missing_since = $1 WHERE id = $2 AND state IN ('signed', 'submitted')")
                .bind(since)
                .bind(id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        })
        .await
    }
}

/// The JSON of a rejection in its column; its keys are those of the first release.
#[derive(Serialize, Deserialize)]
struct StoredRejection {
    endpoint: String,
    code: i64,
    words: String,
    #[serde(with = "StoredRejectKind")]
    meaning: RejectKind,
    at: i64,
}

/// [`RejectKind`] by its names in the JSON, which stay when a variant is renamed.
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

fn encode_rejection(rejection: &NodeRejection) -> Result<String, StoreError> {
    let NodeRejection { endpoint, code, message: words, kind: meaning, at } = rejection.clone();
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
    fn a_stored_rejection_is_the_json_of_the_first_release_and_is_read_as_it_was_written() {
        for (kind, name) in [
            (RejectKind::InsufficientFunds, "insufficient_funds"),
            (RejectKind::FeeTooLow, "fee_too_low"),
            (RejectKind::SenderLimit, "sender_limit"),
            (RejectKind::GasLimit, "gas_limit"),
            (RejectKind::ReplacementUnderpriced, "replacement_underpriced"),
            (RejectKind::Other, "other"),
        ] {
            let rejection = NodeRejection {
                endpoint: "a.example".to_owned(),
                code: -32000,
                message: "no \"more\"".to_owned(),
                kind,
                at: Timestamp::from_seconds(7),
            };
            let json = format!(
                r#"{{"endpoint":"a.example","code":-32000,"words":"no \"more\"","meaning":"{name}","at":7000000}}"#
            );
            assert_eq!(encode_rejection(&rejection).unwrap(), json);
            assert_eq!(decode_rejection(&json).unwrap(), rejection);
        }
    }
}
