//! Stores what was observed of a pending transaction, for the diagnosis of other replicas and of the next start.
//!
//! Most observations are stored with a state change. A rejection and a missing receipt are written by themselves, when
//! they begin and when they end, so that nothing is written while all goes well.

use super::{in_flight::PendingTx, tx_state::ObservationChange};
use crate::{
    store::{Store, StoreError},
    telemetry::log_retry,
};
use std::time::Duration;
use tokio::time::Instant;

/// After a failed write, per transaction.
const PERSIST_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Writes what the store does not have. A failure costs only detail in a diagnosis elsewhere.
pub(super) async fn persist_observations(tx: &PendingTx, store: &Store) {
    let changes = tx.status().unpersisted_observations(Instant::now());
    if changes.is_empty() {
        return;
    }
    let written = write_changes(tx, store, changes).await;
    tx.status().set_persist_retry(written.is_err().then(|| Instant::now() + PERSIST_RETRY_INTERVAL));
    if let Err(error) = written {
        log_retry!(error, transaction_id = %tx.id, "failed to store observations of a transaction");
    }
}

async fn write_changes(tx: &PendingTx, store: &Store, changes: Vec<ObservationChange>) -> Result<(), StoreError> {
    for change in changes {
        match &change {
            ObservationChange::LastRejection(rejection) => {
                store.set_last_rejection(tx.id, rejection.as_ref()).await?;
            }
            ObservationChange::ReceiptMissingSince(since) => store.set_missing_since(tx.id, *since).await?,
        }
        tx.status().mark_persisted(change);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::{in_flight::Versions, tx_state::TxStatus},
        registration::{
            Timestamp, TransactionId,
            diagnosis::{NodeRejection, RejectKind},
            policy::fees::Fees,
        },
        store::{Attempt, NewTransaction, Settings},
    };
    use alloy::primitives::{Address, B256};
    use uuid::Uuid;

    const SIGNER: Address = Address::repeat_byte(9);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn rejection(message: &str, seconds: u64) -> NodeRejection {
        let (endpoint, code, message) = ("a.example".to_owned(), -32000, message.to_owned());
        NodeRejection { endpoint, code, message, kind: RejectKind::GasLimit, at: at(seconds) }
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
        let tx = PendingTx::new(new.id, (SIGNER, 0), at(11), versions, Vec::new(), TxStatus::signed());
        (new, tx)
    }

    #[tokio::test]
    async fn an_observation_and_its_end_are_stored_as_soon_as_they_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Settings::Sqlite(folder.path().join("r.db")), 10).await.unwrap();
        let (new, tx) = signed();
        let stored = async || store.open_transaction(new.id).await.unwrap().unwrap().observations;

        tx.status().record_rejection(Some(rejection("out of gas", 12)));
        persist_observations(&tx, &store).await;
        assert_eq!(
            tx.status().unpersisted_observations(Instant::now()),
            [],
            "the write was fenced, and is retried later"
        );
        store.acquire_lease(SIGNER).await.unwrap().unwrap();
        store.insert_signed_transaction(&new, &[]).await.unwrap();
        persist_observations(&tx, &store).await;
        assert_eq!(stored().await.last_rejection, None, "not before the retry interval has passed");
        tx.status().set_persist_retry(Some(Instant::now()));
        persist_observations(&tx, &store).await;
        assert_eq!(stored().await.last_rejection, Some(rejection("out of gas", 12)));

        // The same rejection again changes nothing; its end does.
        tx.status().record_rejection(Some(rejection("out of gas", 13)));
        persist_observations(&tx, &store).await;
        assert_eq!(stored().await.last_rejection, Some(rejection("out of gas", 12)));
        tx.status().record_rejection(None);
        persist_observations(&tx, &store).await;
        assert_eq!(stored().await.last_rejection, None);

        tx.status().record_receipt_missing(at(14));
        persist_observations(&tx, &store).await;
        assert_eq!(stored().await.missing_since, Some(at(14)));
        tx.status().clear_nonce_consumed();
        persist_observations(&tx, &store).await;
        assert_eq!(stored().await.missing_since, None);
    }
}
