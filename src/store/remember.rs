//! What a diagnosis wants to know of a transaction that is out, so that every replica, and the next start, knows it too.
//!
//! Most of it is written with what is written anyway. What is written for itself is what goes wrong, once.

use super::{Store, StoreError, Taken, rows::Columns};
use crate::registration::{
    Timestamp, TransactionId,
    diagnosis::{Meaning, Refused},
};
use serde::{Deserialize, Serialize};

/// What was seen of a transaction by whoever acted for its signer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Remembered {
    /// The endpoint that took the bytes, and the newest block then.
    pub taken: Taken,
    /// The block that held it until a reorg.
    pub reorged_out: Option<u64>,
    /// What a node said when it refused the bytes the last time they went out.
    pub refusal: Option<Refused>,
    /// Since when its nonce is consumed with no receipt for any of its hashes.
    pub missing_since: Option<Timestamp>,
}

/// The columns of what is remembered; [`remembered`] reads them.
pub(super) const REMEMBERED: &str = "taken_by, taken_head, reorged_out, refusal, missing_since";

/// Reads the columns of [`REMEMBERED`].
pub(super) fn remembered(c: &mut Columns<'_>) -> Result<Remembered, StoreError> {
    Ok(Remembered {
        taken: Taken { by: c.get()?, head: c.unsigned()? },
        reorged_out: c.unsigned()?,
        // It is for a diagnosis alone: one that cannot be read must not keep the work from going on.
        refusal: c.get::<Option<String>>()?.and_then(|text| read_refusal(&text).ok()),
        missing_since: c.time()?,
    })
}

impl Store {
    /// What a node said when it refused the bytes the last time they went out; `None` when one has taken them since.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn refused(&self, id: TransactionId, refusal: Option<&Refused>) -> Result<(), StoreError> {
        let mut tx = self.write_about(id).await?;
        sqlx::query("UPDATE transactions SET refusal = $1 WHERE id = $2 AND state IN ('signed', 'submitted')")
            .bind(refusal.map(write_refusal).transpose()?)
            .bind(id.as_bytes().to_vec())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    /// Its nonce is consumed, and there is no receipt for any of its hashes, since then; `None` when that is no longer so.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn missing(&self, id: TransactionId, since: Option<Timestamp>) -> Result<(), StoreError> {
        let mut tx = self.write_about(id).await?;
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
struct StoredRefusal {
    endpoint: String,
    code: i64,
    words: String,
    #[serde(with = "Named")]
    meaning: Meaning,
    at: i64,
}

/// [`Meaning`], by the names that are in the column.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Meaning")]
enum Named {
    Funds,
    Fee,
    SenderLimit,
    Gas,
    Replacement,
    Other,
}

fn write_refusal(refusal: &Refused) -> Result<String, StoreError> {
    let Refused { endpoint, code, words, meaning, at } = refusal.clone();
    let stored = StoredRefusal { endpoint, code, words, meaning, at: at.micros() };
    serde_json::to_string(&stored).map_err(StoreError::corrupt)
}

fn read_refusal(text: &str) -> serde_json::Result<Refused> {
    let StoredRefusal { endpoint, code, words, meaning, at } = serde_json::from_str(text)?;
    Ok(Refused { endpoint, code, words, meaning, at: Timestamp::from_micros(at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_as_it_was_written_whatever_it_means() {
        for meaning in
            [Meaning::Funds, Meaning::Fee, Meaning::SenderLimit, Meaning::Gas, Meaning::Replacement, Meaning::Other]
        {
            let refusal = Refused {
                endpoint: "a.example".to_owned(),
                code: -32000,
                words: "no \"more\"".to_owned(),
                meaning,
                at: Timestamp::from_seconds(7),
            };
            assert_eq!(read_refusal(&write_refusal(&refusal).unwrap()).unwrap(), refusal);
        }
    }
}
