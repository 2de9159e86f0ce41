//! What was seen of a transaction that is out and a diagnosis wants to know, here and in the store.
//!
//! Most of it is written with what is written anyway. What is written for itself, when it becomes true and when it no longer is,
//! are a refusal and a missing receipt: each at most once, so that nothing is written while all goes well.

use super::in_flight::PendingTx;
use crate::{
    registration::{Timestamp, diagnosis::NodeRejection},
    store::{AcceptedBy, Store, StoreError, StoredObservations},
    telemetry::log_retry,
};
use std::time::Duration;
use tokio::time::Instant;

/// What could not be written is tried again after this long.
const PERSIST_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What was seen of it. The store has it too, but for the history, which a restart forgets.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// The endpoint that took the bytes, and the newest block then.
    pub accepted_by: AcceptedBy,
    /// What a node said when it refused the bytes the last time they went out.
    pub last_rejection: Option<NodeRejection>,
    /// The block that held it until a reorg.
    pub reorged_out_of: Option<u64>,
    /// Since when its nonce is consumed with no receipt, once that has lasted.
    pub missing_since: Option<Timestamp>,
    /// What happened to it, oldest first, for whoever reads a report of it.
    pub history: Vec<(Timestamp, String)>,
    /// What of it the store is known to have.
    pub persisted: PersistedObservations,
}

/// What is on disk, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PersistedObservations {
    /// The refusal.
    pub last_rejection: Option<NodeRejection>,
    /// Since when a receipt is missing.
    pub missing_since: Option<Timestamp>,
    /// When what could not be written is tried again.
    pub retry_at: Option<Instant>,
}

impl From<StoredObservations> for Observations {
    fn from(stored: StoredObservations) -> Self {
        let kept = PersistedObservations {
            last_rejection: stored.last_rejection.clone(),
            missing_since: stored.missing_since,
            retry_at: None,
        };
        let StoredObservations { accepted_by, last_rejection, reorged_from_block, missing_since } = stored;
        Self {
            accepted_by,
            last_rejection,
            reorged_out_of: reorged_from_block,
            missing_since,
            history: Vec::new(),
            persisted: kept,
        }
    }
}

impl Observations {
    /// Whether the store says something else about a refusal. The same words again are no news.
    fn has_rejection_changed(&self) -> bool {
        match (&self.persisted.last_rejection, &self.last_rejection) {
            (None, None) => false,
            (Some(kept), Some(says)) => !kept.is_same_rejection(says),
            (Some(_), None) | (None, Some(_)) => true,
        }
    }

    /// Whether the store says something else about a missing receipt.
    fn has_missing_since_changed(&self) -> bool {
        self.persisted.missing_since != self.missing_since
    }

    fn needs_persisting(&self, now: Instant) -> bool {
        (self.has_rejection_changed() || self.has_missing_since_changed())
            && self.persisted.retry_at.is_none_or(|again| now >= again)
    }
}

impl PendingTx {
    /// Keeps what is new, or no longer true, for other replicas and the next start. Writes nothing when the store knows it.
    pub async fn persist_observations(&self, store: &Store) {
        let memory = {
            let progress = self.status();
            if !progress.observations.needs_persisting(Instant::now()) {
                return;
            }
            progress.observations.clone()
        };
        let written = self.write_observations(store, memory).await;
        self.status().observations.persisted.retry_at =
            written.is_err().then(|| Instant::now() + PERSIST_RETRY_INTERVAL);
        if let Err(error) = written {
            // A diagnosis elsewhere says less.
            log_retry!(error, transaction_id = %self.id, "what was seen of a transaction could not be written");
        }
    }

    async fn write_observations(&self, store: &Store, memory: Observations) -> Result<(), StoreError> {
        if memory.has_rejection_changed() {
            store.set_last_rejection(self.id, memory.last_rejection.as_ref()).await?;
            self.status().observations.persisted.last_rejection = memory.last_rejection.clone();
        }
        if memory.has_missing_since_changed() {
            store.set_missing_since(self.id, memory.missing_since).await?;
            self.status().observations.persisted.missing_since = memory.missing_since;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::in_flight::{TxPhase, TxStatus, Versions},
        registration::{TransactionId, diagnosis::RejectKind, policy::fees::Fees},
        store::{Attempt, NewTransaction, Settings},
    };
    use alloy::primitives::{Address, B256};
    use uuid::Uuid;

    const SIGNER: Address = Address::repeat_byte(9);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn refusal(words: &str, seconds: u64) -> NodeRejection {
        let (endpoint, code, words) = ("a.example".to_owned(), -32000, words.to_owned());
        NodeRejection { endpoint, code, message: words, kind: RejectKind::GasLimit, at: at(seconds) }
    }

    fn signed() -> (NewTransaction, PendingTx) {
        let fees = Fees { max_fee_per_gas: 5, max_priority_fee_per_gas: 1 };
        let attempt = Attempt { hash: B256::repeat_byte(1), raw: vec![1].into(), fees };
        let new = NewTransaction {
            id: TransactionId::from(Uuid::now_v7()),
            signer: SIGNER,
            nonce: 0,
            gas_limit: 50_000,
            prepared_at: at(10),
            signed_at: at(11),
            attempt: attempt.clone(),
            max_cost: 251_000,
            daily_budget: None,
        };
        let versions = Versions { attempts: vec![attempt], gas_limit: 50_000, batch_size: 0 };
        let flight = PendingTx::new(new.id, (SIGNER, 0), at(11), versions, Vec::new(), TxStatus::new(TxPhase::Signed));
        (new, flight)
    }

    #[tokio::test]
    async fn what_was_seen_and_what_is_no_longer_so_is_on_disk_as_soon_as_it_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Settings::Sqlite(folder.path().join("r.db")), 10).await.unwrap();
        let (new, flight) = signed();
        let kept = async || store.open_transaction(new.id).await.unwrap().unwrap().observations;

        flight.status().observations.last_rejection = Some(refusal("out of gas", 12));
        flight.persist_observations(&store).await;
        assert!(flight.status().observations.persisted.retry_at.is_some(), "nobody may write for this signer yet");
        store.acquire_lease(SIGNER).await.unwrap().unwrap();
        store.insert_signed_transaction(&new, &[]).await.unwrap();
        flight.persist_observations(&store).await;
        assert_eq!(kept().await.last_rejection, None, "it is not tried all the time");
        flight.status().observations.persisted.retry_at = Some(Instant::now());
        flight.persist_observations(&store).await;
        assert_eq!(kept().await.last_rejection, Some(refusal("out of gas", 12)));

        // The same words are no news; the end of them is.
        flight.status().observations.last_rejection = Some(refusal("out of gas", 13));
        flight.persist_observations(&store).await;
        assert_eq!(kept().await.last_rejection, Some(refusal("out of gas", 12)));
        flight.status().observations.last_rejection = None;
        flight.persist_observations(&store).await;
        assert_eq!(kept().await.last_rejection, None);

        flight.status().observations.missing_since = Some(at(14));
        flight.persist_observations(&store).await;
        assert_eq!(kept().await.missing_since, Some(at(14)));
        flight.status().clear_nonce_consumed();
        flight.persist_observations(&store).await;
        assert_eq!(kept().await.missing_since, None);
    }

    #[test]
    fn what_another_replica_has_written_is_known_to_be_on_disk() {
        let stored = StoredObservations {
            missing_since: Some(at(1)),
            last_rejection: Some(refusal("no", 1)),
            ..StoredObservations::default()
        };
        let mut memory = Observations::from(stored);
        assert!(!memory.needs_persisting(Instant::now()));
        memory.last_rejection = None;
        assert!(memory.needs_persisting(Instant::now()), "it is to be cleared");
    }
}
