//! What is accepted, and how it is found again.

use super::*;

#[tokio::test]
async fn a_pair_is_one_registration_however_often_it_comes() {
    let rig = StoreFixture::new(100).await;
    let first = rig.accept(1, "a").await;
    let calls = (0..20).map(|_| rig.accept(1, "a"));
    for again in futures_util::future::join_all(calls).await {
        assert_eq!((again.registration.id, again.is_new), (first.registration.id, false));
    }
    assert!(first.is_new);
    assert!(rig.accept(1, "b").await.is_new && rig.accept(2, "a").await.is_new);
    assert_eq!(rig.store.unfinished_count(), 3);
    assert_eq!(rig.get(first.registration.id).await, first.registration);
}

#[tokio::test]
async fn the_oldest_that_is_queued_is_the_one_that_was_accepted_first() {
    let rig = StoreFixture::new(100).await;
    assert_eq!(rig.store.oldest_queued().await.unwrap(), None);
    let [first, second] = [rig.accept(1, "a").await, rig.accept(2, "a").await].map(|accepted| accepted.registration);
    assert_eq!(rig.store.oldest_queued().await.unwrap(), Some(first.times.created));
    rig.insert_signed(0, &[first.id]).await;
    assert_eq!(rig.store.oldest_queued().await.unwrap(), Some(second.times.created));
    rig.insert_signed(1, &[second.id]).await;
    assert_eq!(rig.store.oldest_queued().await.unwrap(), None);
}

#[tokio::test]
async fn blocked_work_says_so_once_and_waits_for_its_time() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let ids = [id];
    let block = |until| rig.store.set_blocked_queued(&ids, BlockedReason::FeeCap, at(until), at(5));
    assert_eq!((block(50).await.unwrap(), block(50).await.unwrap()), (1, 0));
    assert!(rig.store.queued(at(49), 10).await.unwrap().is_empty());
    assert_eq!(rig.store.queued(at(50), 10).await.unwrap().len(), 1);
    assert_eq!(rig.get(id).await.blocked_reason, Some(BlockedReason::FeeCap));
    rig.insert_signed(0, &[id]).await;
    assert_eq!(rig.get(id).await.blocked_reason, None);
}

#[tokio::test]
async fn a_full_queue_takes_what_it_knows_and_nothing_new() {
    let rig = StoreFixture::new(2).await;
    let known = rig.accept(1, "a").await.registration.id;
    rig.accept(2, "a").await;
    let refused = rig.accept_handle.accept(request(3, "a")).await;
    assert!(matches!(refused, Err(AcceptError::QueueFull { limit: 2 })));
    assert_eq!(rig.accept(1, "a").await.registration.id, known);
}

#[tokio::test]
async fn pages_are_newest_first_and_filtered() {
    let rig = StoreFixture::new(100).await;
    for document in 1..=5 {
        rig.accept(document, if document % 2 == 0 { "even" } else { "odd" }).await;
    }
    let filter = Filter { case_id: Some("odd".parse().unwrap()), ..Filter::default() };
    let first = rig.store.list(&filter, None, 2).await.unwrap();
    let documents =
        |page: &[Registration]| page.iter().map(|r| r.request.pair.document_hash.as_bytes()[0]).collect::<Vec<_>>();
    assert_eq!(documents(&first), [5, 3]);
    assert_eq!(documents(&rig.store.list(&filter, Some(first[1].id), 2).await.unwrap()), [1]);
    let failed = Filter { states: vec![State::Failed], ..Filter::default() };
    assert!(rig.store.list(&failed, None, 5).await.unwrap().is_empty());
}
