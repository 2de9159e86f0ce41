//! The quotas of callers, which hold over all stores of a database together.

use super::*;
use crate::{registration::CallerQuota, store::CallerLimit};

fn request_of(caller: &str, document: u8) -> NewRegistration {
    NewRegistration { caller: caller.parse().ok(), ..request(document, "a") }
}

fn max_unfinished(limit: u64) -> CallerQuota {
    CallerQuota { max_unfinished: Some(limit), daily_limit: None }
}

fn daily(limit: u64) -> CallerQuota {
    CallerQuota { max_unfinished: None, daily_limit: Some(limit) }
}

impl StoreFixture {
    async fn accept_of(&self, caller: &str, document: u8, quota: CallerQuota) -> Result<Accepted, AcceptError> {
        self.accept_handle.accept_within(request_of(caller, document), quota).await
    }
}

#[tokio::test]
async fn a_caller_at_its_daily_limit_is_refused_and_its_known_pairs_and_others_are_not() {
    let fixture = StoreFixture::new(100).await;
    let first = fixture.accept_of("greedy", 1, daily(2)).await.unwrap();
    assert_eq!(first.registration.request.caller, "greedy".parse().ok());
    fixture.accept_of("greedy", 2, daily(2)).await.unwrap();
    let refused = fixture.accept_of("greedy", 3, daily(2)).await;
    let Err(AcceptError::CallerLimit(CallerLimit::Daily { limit: 2, resets_in })) = refused else {
        panic!("{refused:?}")
    };
    assert!(resets_in <= std::time::Duration::from_secs(24 * 60 * 60), "{resets_in:?}");

    assert!(!fixture.accept_of("greedy", 1, daily(2)).await.unwrap().is_new);
    assert!(fixture.accept_of("other", 3, daily(2)).await.unwrap().is_new);
    assert!(fixture.accept_of("greedy", 4, CallerQuota::default()).await.unwrap().is_new);
    assert!(fixture.accept_of("greedy", 5, daily(3)).await.unwrap().is_new, "what had no limit was not counted");
}

#[tokio::test]
async fn a_caller_at_its_limit_of_unfinished_registrations_continues_when_some_are_finished() {
    let fixture = StoreFixture::new(100).await;
    let mut ids = Vec::new();
    for document in 1..=3 {
        ids.push(fixture.accept_of("greedy", document, max_unfinished(3)).await.unwrap().registration.id);
    }
    let refused = fixture.accept_of("greedy", 4, max_unfinished(3)).await;
    assert!(matches!(refused, Err(AcceptError::CallerLimit(CallerLimit::Unfinished { limit: 3 }))), "{refused:?}");

    let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
    fixture.store.mark_failed(ids[0], &failure, at(1)).await.unwrap();
    // They are counted again after a second at the latest.
    let started = tokio::time::Instant::now();
    while fixture.accept_of("greedy", 4, max_unfinished(3)).await.is_err() {
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // A failed one that is registered again is unfinished again.
    let refused = fixture.accept_of("greedy", 1, max_unfinished(3)).await;
    assert!(matches!(refused, Err(AcceptError::CallerLimit(_))), "{refused:?}");
    let restarted = fixture.accept_of("other", 1, max_unfinished(3)).await.unwrap();
    assert_eq!((restarted.is_new, restarted.registration.request.caller), (true, "other".parse().ok()));
}

#[tokio::test]
async fn requests_that_share_a_commit_share_the_limit() {
    for quota in [daily(5), max_unfinished(5)] {
        let fixture = StoreFixture::new(100).await;
        let calls = (1..=20).map(|document| fixture.accept_of("greedy", document, quota));
        let accepted = futures_util::future::join_all(calls).await.into_iter().filter(Result::is_ok).count();
        assert_eq!((accepted, fixture.store.unfinished_count()), (5, 5), "{quota:?}");
    }
}
