//! Accepting, blocking and listing registrations.

use super::*;

#[tokio::test]
async fn a_pair_is_one_registration_however_often_it_is_accepted() {
    let fixture = StoreFixture::new(100).await;
    let first = fixture.accept(1, "a").await;
    let calls = (0..20).map(|_| fixture.accept(1, "a"));
    for again in futures_util::future::join_all(calls).await {
        assert_eq!((again.registration.id, again.is_new), (first.registration.id, false));
    }
    assert!(first.is_new);
    assert!(fixture.accept(1, "b").await.is_new && fixture.accept(2, "a").await.is_new);
    assert_eq!(fixture.store.unfinished_count(), 3);
    assert_eq!(fixture.get(first.registration.id).await, first.registration);
}

#[tokio::test]
async fn the_oldest_queued_registration_is_the_one_accepted_first() {
    let fixture = StoreFixture::new(100).await;
    assert_eq!(fixture.store.oldest_queued().await.unwrap(), None);
    let [first, second] =
        [fixture.accept(1, "a").await, fixture.accept(2, "a").await].map(|accepted| accepted.registration);
    assert_eq!(fixture.store.oldest_queued().await.unwrap(), Some(first.times.created));
    fixture.insert_signed(0, &[first.id]).await;
    assert_eq!(fixture.store.oldest_queued().await.unwrap(), Some(second.times.created));
    fixture.insert_signed(1, &[second.id]).await;
    assert_eq!(fixture.store.oldest_queued().await.unwrap(), None);
}

#[tokio::test]
async fn a_blocked_registration_changes_once_and_is_not_due_before_its_retry_time() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let ids = [id];
    let block = |until| fixture.store.set_blocked_queued(&ids, BlockedReason::FeeCap, at(until), at(5));
    assert_eq!((block(50).await.unwrap(), block(50).await.unwrap()), (1, 0));
    assert!(fixture.store.queued(at(49), 10).await.unwrap().is_empty());
    assert_eq!(fixture.store.queued(at(50), 10).await.unwrap().len(), 1);
    assert_eq!(fixture.get(id).await.blocked_reason, Some(BlockedReason::FeeCap));
    fixture.insert_signed(0, &[id]).await;
    assert_eq!(fixture.get(id).await.blocked_reason, None);
}

#[tokio::test]
async fn a_full_queue_accepts_known_pairs_and_rejects_new_ones() {
    let fixture = StoreFixture::new(2).await;
    let known = fixture.accept(1, "a").await.registration.id;
    fixture.accept(2, "a").await;
    let rejected = fixture.accept_handle.accept(request(3, "a")).await;
    assert!(matches!(rejected, Err(AcceptError::QueueFull { limit: 2 })));
    assert_eq!(fixture.accept(1, "a").await.registration.id, known);
}

#[tokio::test]
async fn pages_are_newest_first_and_filtered() {
    let fixture = StoreFixture::new(100).await;
    for document in 1..=5 {
        fixture.accept(document, if document % 2 == 0 { "even" } else { "odd" }).await;
    }
    let filter = Filter { case_id: Some("odd".parse().unwrap()), ..Filter::default() };
    let first = fixture.store.list(&filter, None, 2).await.unwrap();
    let documents =
        |page: &[Registration]| page.iter().map(|r| r.request.pair.document_hash.as_bytes()[0]).collect::<Vec<_>>();
    assert_eq!(documents(&first), [5, 3]);
    assert_eq!(documents(&fixture.store.list(&filter, Some(first[1].id), 2).await.unwrap()), [1]);
    let failed = Filter { states: vec![State::Failed], ..Filter::default() };
    assert!(fixture.store.list(&failed, None, 5).await.unwrap().is_empty());
}

#[tokio::test]
async fn pages_are_in_the_order_of_create_time_also_after_the_clock_was_set_back() {
    let fixture = StoreFixture::new(100).await;
    for (document, seconds) in [(1, 1_900_000_000), (2, 1_900_000_100), (3, 1_800_000_000), (4, 1_900_000_050)] {
        crate::clock::simulated::follow_tokio(at(seconds));
        fixture.accept(document, "a").await;
    }
    let page = fixture.store.list(&Filter::default(), None, 10).await.unwrap();
    let documents: Vec<_> = page.iter().map(|r| r.request.pair.document_hash.as_bytes()[0]).collect();
    assert_eq!(documents, [2, 4, 1, 3]);
    assert!(page.is_sorted_by(|newer, older| newer.times.created >= older.times.created));
    let rest = fixture.store.list(&Filter::default(), Some(page[1].id), 10).await.unwrap();
    assert_eq!(rest, page[2..]);
}
