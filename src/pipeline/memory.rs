//! What was seen of a transaction that is out and a diagnosis wants to know, here and in the store.
//!
//! Most of it is written with what is written anyway. What is written for itself, when it becomes true and when it no longer is,
//! are a refusal and a missing receipt: each at most once, so that nothing is written while all goes well.

use super::flights::Flight;
use crate::{
    registration::{Timestamp, diagnosis::Refused},
    store::{Remembered, Store, StoreError, Taken},
    telemetry::hindered,
};
use std::time::Duration;
use tokio::time::Instant;

/// What could not be written is tried again after this long.
const AGAIN: Duration = Duration::from_secs(10);

/// What was seen of it. The store has it too, but for the history, which a restart forgets.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The endpoint that took the bytes, and the newest block then.
    pub taken: Taken,
    /// What a node said when it refused the bytes the last time they went out.
    pub refusal: Option<Refused>,
    /// The block that held it until a reorg.
    pub reorged_out: Option<u64>,
    /// Since when its nonce is consumed with no receipt, once that has lasted.
    pub missing_since: Option<Timestamp>,
    /// What happened to it, oldest first, for whoever reads a report of it.
    pub history: Vec<(Timestamp, String)>,
    /// What of it the store is known to have.
    pub kept: Kept,
}

/// What is on disk, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// The refusal.
    pub refusal: Option<Refused>,
    /// Since when a receipt is missing.
    pub missing_since: Option<Timestamp>,
    /// When what could not be written is tried again.
    pub again: Option<Instant>,
}

impl From<Remembered> for Memory {
    fn from(stored: Remembered) -> Self {
        let kept = Kept { refusal: stored.refusal.clone(), missing_since: stored.missing_since, again: None };
        let Remembered { taken, refusal, reorged_out, missing_since } = stored;
        Self { taken, refusal, reorged_out, missing_since, history: Vec::new(), kept }
    }
}

impl Memory {
    /// Whether the store says something else about a refusal. The same words again are no news.
    fn is_refusal_news(&self) -> bool {
        match (&self.kept.refusal, &self.refusal) {
            (None, None) => false,
            (Some(kept), Some(says)) => !kept.is_same(says),
            (Some(_), None) | (None, Some(_)) => true,
        }
    }

    /// Whether the store says something else about a missing receipt.
    fn is_missing_news(&self) -> bool {
        self.kept.missing_since != self.missing_since
    }

    fn is_news(&self, now: Instant) -> bool {
        (self.is_refusal_news() || self.is_missing_news()) && self.kept.again.is_none_or(|again| now >= again)
    }
}

impl Flight {
    /// Keeps what is new, or no longer true, for other replicas and the next start. Writes nothing when the store knows it.
    pub async fn remember(&self, store: &Store) {
        let memory = {
            let progress = self.progress();
            if !progress.memory.is_news(Instant::now()) {
                return;
            }
            progress.memory.clone()
        };
        let written = self.write(store, memory).await;
        self.progress().memory.kept.again = written.is_err().then(|| Instant::now() + AGAIN);
        if let Err(error) = written {
            // A diagnosis elsewhere says less.
            hindered!(error, transaction_id = %self.id, "what was seen of a transaction could not be written");
        }
    }

    async fn write(&self, store: &Store, memory: Memory) -> Result<(), StoreError> {
        if memory.is_refusal_news() {
            store.refused(self.id, memory.refusal.as_ref()).await?;
            self.progress().memory.kept.refusal = memory.refusal.clone();
        }
        if memory.is_missing_news() {
            store.missing(self.id, memory.missing_since).await?;
            self.progress().memory.kept.missing_since = memory.missing_since;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::flights::{Phase, Progress, Versions},
        registration::{TransactionId, diagnosis::Meaning, policy::fees::Fees},
        store::{Attempt, NewTransaction, Settings},
    };
    use alloy::primitives::{Address, B256};
    use uuid::Uuid;

    const SIGNER: Address = Address::repeat_byte(9);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn refusal(words: &str, seconds: u64) -> Refused {
        let (endpoint, code, words) = ("a.example".to_owned(), -32000, words.to_owned());
        Refused { endpoint, code, words, meaning: Meaning::Gas, at: at(seconds) }
    }

    fn signed() -> (NewTransaction, Flight) {
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
            worst_cost: 251_000,
            allowance: None,
        };
        let versions = Versions { attempts: vec![attempt], gas_limit: 50_000, batch_size: 0 };
        let flight = Flight::new(new.id, (SIGNER, 0), at(11), versions, Vec::new(), Progress::new(Phase::Signed));
        (new, flight)
    }

    #[tokio::test]
    async fn what_was_seen_and_what_is_no_longer_so_is_on_disk_as_soon_as_it_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Settings::Sqlite(folder.path().join("r.db")), 10).await.unwrap();
        let (new, flight) = signed();
        let kept = async || store.open_transaction(new.id).await.unwrap().unwrap().remembered;

        flight.progress().memory.refusal = Some(refusal("out of gas", 12));
        flight.remember(&store).await;
        assert!(flight.progress().memory.kept.again.is_some(), "nobody may write for this signer yet");
        store.acquire(SIGNER).await.unwrap().unwrap();
        store.sign(&new, &[]).await.unwrap();
        flight.remember(&store).await;
        assert_eq!(kept().await.refusal, None, "it is not tried all the time");
        flight.progress().memory.kept.again = Some(Instant::now());
        flight.remember(&store).await;
        assert_eq!(kept().await.refusal, Some(refusal("out of gas", 12)));

        // The same words are no news; the end of them is.
        flight.progress().memory.refusal = Some(refusal("out of gas", 13));
        flight.remember(&store).await;
        assert_eq!(kept().await.refusal, Some(refusal("out of gas", 12)));
        flight.progress().memory.refusal = None;
        flight.remember(&store).await;
        assert_eq!(kept().await.refusal, None);

        flight.progress().memory.missing_since = Some(at(14));
        flight.remember(&store).await;
        assert_eq!(kept().await.missing_since, Some(at(14)));
        flight.progress().is_not_missing();
        flight.remember(&store).await;
        assert_eq!(kept().await.missing_since, None);
    }

    #[test]
    fn what_another_replica_has_written_is_known_to_be_on_disk() {
        let stored =
            Remembered { missing_since: Some(at(1)), refusal: Some(refusal("no", 1)), ..Remembered::default() };
        let mut memory = Memory::from(stored);
        assert!(!memory.is_news(Instant::now()));
        memory.refusal = None;
        assert!(memory.is_news(Instant::now()), "it is to be cleared");
    }
}
