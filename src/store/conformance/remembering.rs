//! What was seen of a transaction that is out, for whoever looks at it next.

use super::*;
use crate::registration::diagnosis::{Meaning, Refused};

fn refusal() -> Refused {
    Refused {
        endpoint: "a.example".to_owned(),
        code: -32000,
        words: "txpool is full".to_owned(),
        meaning: Meaning::SenderLimit,
        at: at(12),
    }
}

async fn remembered(rig: &Rig, id: TransactionId) -> Remembered {
    rig.store.open_transaction(id).await.unwrap().unwrap().remembered
}

#[tokio::test]
async fn who_took_a_transaction_and_what_was_said_of_it_is_known_until_it_is_no_more_true() {
    let rig = Rig::new(100).await;
    let id = rig.signed(0, &[rig.accept(1, "a").await.registration.id]).await;
    assert_eq!(remembered(&rig, id).await, Remembered::default());

    rig.store.refused(id, Some(&refusal())).await.unwrap();
    assert_eq!(remembered(&rig, id).await, Remembered { refusal: Some(refusal()), ..Remembered::default() });

    let taken = Taken { by: Some("b.example".to_owned()), head: Some(7) };
    rig.store.sent(id, &taken, at(13)).await.unwrap();
    assert_eq!(remembered(&rig, id).await, Remembered { taken: taken.clone(), ..Remembered::default() });

    rig.store.refused(id, Some(&refusal())).await.unwrap();
    rig.store.missing(id, Some(at(14))).await.unwrap();
    let told = remembered(&rig, id).await;
    assert_eq!((told.refusal, told.missing_since), (Some(refusal()), Some(at(14))));
    rig.store.missing(id, None).await.unwrap();
    assert_eq!(remembered(&rig, id).await.missing_since, None, "it was found");
    rig.store.replace(id, &replacement(2)).await.unwrap();
    assert_eq!(remembered(&rig, id).await.refusal, None, "it was another version");

    rig.store.refused(id, Some(&refusal())).await.unwrap();
    rig.store.included(id, &inclusion(8), &[], false, at(15)).await.unwrap();
    rig.store.refused(id, Some(&refusal())).await.unwrap();
    assert_eq!(remembered(&rig, id).await, Remembered { taken: taken.clone(), ..Remembered::default() });
    rig.store.reorged(id, at(16)).await.unwrap();
    assert_eq!(remembered(&rig, id).await, Remembered { taken, reorged_out: Some(8), ..Remembered::default() });
    rig.store.included(id, &inclusion(9), &[], false, at(17)).await.unwrap();
    assert_eq!(remembered(&rig, id).await.reorged_out, None);
}

#[tokio::test]
async fn a_refusal_that_cannot_be_read_keeps_no_work_from_going_on() {
    let rig = Rig::new(100).await;
    let id = rig.signed(0, &[rig.accept(1, "a").await.registration.id]).await;
    sqlx::query("UPDATE transactions SET refusal = '{\"meaning\":\"new\"}'").execute(&rig.store.writer).await.unwrap();
    assert_eq!(remembered(&rig, id).await, Remembered::default());
}
