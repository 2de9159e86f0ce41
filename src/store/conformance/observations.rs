//! What was seen of a transaction that is out, for whoever looks at it next.

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

async fn observations(rig: &StoreFixture, id: TransactionId) -> StoredObservations {
    rig.store.open_transaction(id).await.unwrap().unwrap().observations
}

#[tokio::test]
async fn who_took_a_transaction_and_what_was_said_of_it_is_known_until_it_is_no_more_true() {
    let rig = StoreFixture::new(100).await;
    let id = rig.insert_signed(0, &[rig.accept(1, "a").await.registration.id]).await;
    assert_eq!(observations(&rig, id).await, StoredObservations::default());

    rig.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    assert_eq!(
        observations(&rig, id).await,
        StoredObservations { last_rejection: Some(rejection()), ..StoredObservations::default() }
    );

    let taken = AcceptedBy { endpoint: Some("b.example".to_owned()), head: Some(7) };
    rig.store.mark_submitted(id, &taken, at(13)).await.unwrap();
    assert_eq!(
        observations(&rig, id).await,
        StoredObservations { accepted_by: taken.clone(), ..StoredObservations::default() }
    );

    rig.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    rig.store.set_missing_since(id, Some(at(14))).await.unwrap();
    let told = observations(&rig, id).await;
    assert_eq!((told.last_rejection, told.missing_since), (Some(rejection()), Some(at(14))));
    rig.store.set_missing_since(id, None).await.unwrap();
    assert_eq!(observations(&rig, id).await.missing_since, None, "it was found");
    rig.store.insert_replacement(id, &replacement(2)).await.unwrap();
    assert_eq!(observations(&rig, id).await.last_rejection, None, "it was another version");

    rig.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    rig.store.mark_included(id, &inclusion(8), &[], false, at(15)).await.unwrap();
    rig.store.set_last_rejection(id, Some(&rejection())).await.unwrap();
    assert_eq!(
        observations(&rig, id).await,
        StoredObservations { accepted_by: taken.clone(), ..StoredObservations::default() }
    );
    rig.store.mark_reorged(id, at(16)).await.unwrap();
    assert_eq!(
        observations(&rig, id).await,
        StoredObservations { accepted_by: taken, reorged_from_block: Some(8), ..StoredObservations::default() }
    );
    rig.store.mark_included(id, &inclusion(9), &[], false, at(17)).await.unwrap();
    assert_eq!(observations(&rig, id).await.reorged_from_block, None);
}

#[tokio::test]
async fn a_refusal_that_cannot_be_read_keeps_no_work_from_going_on() {
    let rig = StoreFixture::new(100).await;
    let id = rig.insert_signed(0, &[rig.accept(1, "a").await.registration.id]).await;
    sqlx::query("UPDATE transactions SET refusal = '{\"meaning\":\"new\"}'").execute(&rig.store.writer).await.unwrap();
    assert_eq!(observations(&rig, id).await, StoredObservations::default());
}
