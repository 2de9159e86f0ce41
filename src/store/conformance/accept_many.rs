//! Requests with many registrations: accepted together, or not at all.

use super::*;
use crate::{registration::CallerQuota, store::CallerLimit};

impl StoreFixture {
    async fn accept_all(&self, documents: &[u8]) -> Result<Vec<Accepted>, AcceptError> {
        self.accept_all_of(None, documents, CallerQuota::default()).await
    }

    async fn accept_all_of(
        &self,
        caller: Option<&str>,
        documents: &[u8],
        quota: CallerQuota,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let caller = caller.map(|name| name.parse().unwrap());
        let new =
            documents.iter().map(|document| NewRegistration { caller: caller.clone(), ..request(*document, "a") });
        self.accept_handle.accept_all(new.collect(), quota).await
    }
}

fn news(accepted: &[Accepted]) -> Vec<bool> {
    accepted.iter().map(|accepted| accepted.is_new).collect()
}

#[tokio::test]
async fn many_are_accepted_in_the_order_of_the_request_and_found_again() {
    let fixture = StoreFixture::new(1_000).await;
    let known = fixture.accept(7, "a").await.registration;
    let documents: Vec<u8> = (1..=200).rev().collect();
    let accepted = fixture.accept_all(&documents).await.unwrap();
    let hashes = accepted.iter().map(|one| one.registration.request.pair.document_hash.as_bytes()[0]);
    assert_eq!(hashes.collect::<Vec<_>>(), documents);
    for (document, one) in documents.iter().zip(&accepted) {
        assert_eq!((one.is_new, one.registration.id == known.id), (*document != 7, *document == 7), "{document}");
        assert_eq!(fixture.get(one.registration.id).await, one.registration);
    }
    assert_eq!(fixture.store.unfinished_count(), 200);
    let new = accepted.iter().filter(|one| one.is_new);
    assert!(new.map(|one| one.registration.id).is_sorted(), "lists show them in the order of the request");

    let again = fixture.accept_all(&documents).await.unwrap();
    assert!(again.iter().zip(&accepted).all(|(again, first)| again.registration == first.registration));
    assert!(!news(&again).contains(&true));
}

#[tokio::test]
async fn a_pair_that_is_in_several_requests_of_a_commit_or_twice_in_one_is_one_registration() {
    let fixture = StoreFixture::new(1_000).await;
    let (first, second, twice) =
        tokio::join!(fixture.accept_all(&[1, 2, 3]), fixture.accept_all(&[3, 2, 1]), fixture.accept_all(&[9, 9, 1]));
    let ids = |accepted: Vec<Accepted>| accepted.into_iter().map(|one| one.registration.id).collect::<Vec<_>>();
    let (first, second, twice) = (first.unwrap(), second.unwrap(), twice.unwrap());
    assert_eq!((news(&first), news(&second)), (vec![true; 3], vec![false; 3]));
    assert_eq!(news(&twice), [true, false, false]);
    let (first, mut second, twice) = (ids(first), ids(second), ids(twice));
    second.reverse();
    assert_eq!((&first, twice[0], twice[2]), (&second, twice[1], first[0]));
    assert_eq!(fixture.store.unfinished_count(), 4);
}

#[tokio::test]
async fn a_request_that_does_not_fit_into_the_queue_changes_nothing() {
    let fixture = StoreFixture::new(5).await;
    fixture.accept_all(&[1, 2, 3]).await.unwrap();
    let refused = fixture.accept_all(&[4, 5, 6]).await;
    assert!(matches!(refused, Err(AcceptError::QueueFull { limit: 5 })), "{refused:?}");
    assert_eq!(fixture.store.unfinished_count(), 3);
    assert_eq!(fixture.store.list(&Filter::default(), None, 10).await.unwrap().len(), 3);
    // Those that are known need no room.
    assert_eq!(news(&fixture.accept_all(&[1, 4, 2, 5, 3]).await.unwrap()), [false, true, false, true, false]);
    assert_eq!(news(&fixture.accept_all(&[1, 2, 3, 4, 5]).await.unwrap()), [false; 5]);
    assert!(matches!(fixture.accept_all(&[5, 6]).await, Err(AcceptError::QueueFull { .. })));
}

#[tokio::test]
async fn a_limit_of_the_caller_that_is_reached_in_the_middle_changes_nothing() {
    let fixture = StoreFixture::new(100).await;
    let daily = CallerQuota { max_unfinished: None, daily_limit: Some(4) };
    let unfinished = CallerQuota { max_unfinished: Some(4), daily_limit: None };
    for (caller, quota, documents) in [("daily", daily, [1, 2, 3]), ("unfinished", unfinished, [11, 12, 13])] {
        let [first, second, third] = documents;
        fixture.accept_all_of(Some(caller), &documents, quota).await.unwrap();
        let stored = fixture.store.unfinished_count();
        let refused = fixture.accept_all_of(Some(caller), &[first + 5, second + 5], quota).await;
        let Err(AcceptError::CallerLimit(CallerLimit::Daily { limit, .. } | CallerLimit::Unfinished { limit })) =
            refused
        else {
            panic!("{caller}: {refused:?}")
        };
        assert_eq!((limit, fixture.store.unfinished_count()), (4, stored), "{caller}");
        let fits = fixture.accept_all_of(Some(caller), &[first, third, first + 5], quota).await.unwrap();
        assert_eq!(news(&fits), [false, false, true], "{caller}: known pairs do not count");
        assert!(fixture.accept_all_of(Some(caller), &[second + 5], quota).await.is_err(), "{caller}");
        let other = fixture.accept_all_of(Some("other"), &[first + 5, second + 5], quota).await.unwrap();
        assert_eq!(news(&other), [false, true]);
    }
}

#[tokio::test]
async fn failed_ones_of_a_request_start_again() {
    let fixture = StoreFixture::new(100).await;
    let first = fixture.accept_all(&[1, 2, 3, 4]).await.unwrap();
    let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
    for failed in [0, 2] {
        fixture.store.mark_failed(first[failed].registration.id, &failure, at(1)).await.unwrap();
    }
    assert_eq!(fixture.store.unfinished_count(), 2);
    let again = fixture.accept_all_of(Some("other"), &[1, 2, 3, 4, 5], CallerQuota::default()).await.unwrap();
    assert_eq!(news(&again), [true, false, true, false, true]);
    for (before, after) in first.iter().zip(&again) {
        assert_eq!(before.registration.id, after.registration.id);
        assert_eq!((after.registration.state, &after.registration.failure), (State::Queued, &None));
        let caller = after.is_new.then(|| "other".parse().unwrap());
        assert_eq!(after.registration.request.caller, caller);
    }
    assert_eq!(fixture.store.unfinished_count(), 5);

    // A full queue has no room for a restart.
    let fixture = StoreFixture::new(2).await;
    let first = fixture.accept_all(&[1, 2]).await.unwrap();
    fixture.store.mark_failed(first[0].registration.id, &failure, at(1)).await.unwrap();
    fixture.accept_all(&[3]).await.unwrap();
    assert!(matches!(fixture.accept_all(&[1, 2]).await, Err(AcceptError::QueueFull { .. })));
    assert_eq!(fixture.get(first[0].registration.id).await.state, State::Failed);
}
