//! Stored observations of a pending transaction.

use super::*;
use crate::registration::diagnosis::{NodeRejection, RejectKind};

fn rejection() -> NodeRejection {
    NodeRejection {
        endpoint: "a.example".to_owned(),
        code: -32000,
        message: "txpool is full".to_owned(),
        kind: RejectKind::SenderLimit,
        at: at(12),
    }
}

async fn observations(fixture: &StoreFixture, id: TransactionId) -> StoredObservations {
    fixture.store.open_transaction(id).await.unwrap().unwrap().observations
}

#[tokio::test]
async fn observations_are_kept_until_they_are_outdated() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.insert_signed(0, &[fixture.accept(1, "a").await.registration.id]).await;
    assert_eq!(observations(&fixture, id).await, StoredObservations::default());

    fixture.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    assert_eq!(
        observations(&fixture, id).await,
        StoredObservations { last_rejection: Some(rejection()), ..StoredObservations::default() }
    );

    let accepted_by = AcceptedBy { endpoint: Some("b.example".to_owned()), head: Some(7) };
    fixture.store.mark_submitted(id, &accepted_by, at(13)).await.unwrap();
    assert_eq!(
        observations(&fixture, id).await,
        StoredObservations { accepted_by: accepted_by.clone(), ..StoredObservations::default() }
    );

    fixture.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    fixture.store.set_missing_since(id, Some(at(14))).await.unwrap();
    let observed = observations(&fixture, id).await;
    assert_eq!((observed.last_rejection, observed.missing_since), (Some(rejection()), Some(at(14))));
    fixture.store.set_missing_since(id, None).await.unwrap();
    assert_eq!(observations(&fixture, id).await.missing_since, None, "cleared");
    fixture.store.insert_replacement(id, &replacement(2)).await.unwrap();
    assert_eq!(observations(&fixture, id).await.last_rejection, None, "of an earlier attempt");

    fixture.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    fixture.store.mark_included(id, &inclusion(8), &[], false, at(15)).await.unwrap();
    fixture.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    assert_eq!(
        observations(&fixture, id).await,
        StoredObservations { accepted_by: accepted_by.clone(), ..StoredObservations::default() }
    );
    fixture.store.mark_reorged(id, at(16)).await.unwrap();
    assert_eq!(
        observations(&fixture, id).await,
        StoredObservations { accepted_by, reorged_from_block: Some(8), ..StoredObservations::default() }
    );
    fixture.store.mark_included(id, &inclusion(9), &[], false, at(17)).await.unwrap();
    assert_eq!(observations(&fixture, id).await.reorged_from_block, None);
}

#[tokio::test]
async fn an_unreadable_rejection_is_ignored() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.insert_signed(0, &[fixture.accept(1, "a").await.registration.id]).await;
    query("UPDATE transactions SET refusal = '{\"meaning\":\"new\"}'").execute(&fixture.store.writer).await.unwrap();
    assert_eq!(observations(&fixture, id).await, StoredObservations::default());
}
