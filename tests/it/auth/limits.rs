//! What one caller may use.

use super::{Guarded, READ_TOKEN, REGISTER_TOKEN, caller};
use crate::harness::{CASE, Client, StackBuilder, WaitFor, register_all_request, register_request};
use futures_util::future::join_all;
use std::time::Duration;
use tonic::Code;

const LIMIT: (Code, &str) = (Code::ResourceExhausted, "CALLER_LIMIT");

fn limited(more: &str) -> String {
    let scopes = r#""register", "read""#;
    [caller("limited", REGISTER_TOKEN, scopes, more), caller("other", READ_TOKEN, scopes, "")].concat()
}

#[tokio::test]
async fn a_caller_above_its_rate_is_refused_and_another_is_not() {
    let guarded = Guarded::start("enforce", &limited("rate = 1\nburst = 5")).await;
    // Over several connections together.
    let mut refused = Vec::new();
    for number in 0..20 {
        let limited = Client::connect(guarded.stack.service.grpc).await.with_token(REGISTER_TOKEN);
        refused.extend(limited.register(register_request(number, CASE, WaitFor::Accepted)).await.err());
        guarded.client(READ_TOKEN).accept(1_000 + number, CASE).await;
    }
    assert!((10..=15).contains(&refused.len()), "{} of 20 were refused", refused.len());
    for error in refused {
        assert_eq!(error.kind(), (Code::ResourceExhausted, "RATE_LIMITED"));
        let retry_after = error.retry_after.unwrap();
        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(1), "{retry_after:?}");
    }
}

#[tokio::test]
async fn limits_on_registrations_are_those_of_the_database_and_survive_a_restart() {
    for (more, key) in [("daily_limit = 3", "daily_limit"), ("max_unfinished = 3", "max_unfinished")] {
        let builder = StackBuilder::on_demand().postgres();
        let guarded = Guarded::start_with(builder, "enforce", &limited(more)).await;
        guarded.stack.anvil.stop_mining().await;
        let (replica, client) = guarded.stack.replica().await;
        let clients = [guarded.client(REGISTER_TOKEN), client.with_token(REGISTER_TOKEN)];
        let calls = (0..12)
            .map(|number| clients[number as usize % 2].register(register_request(number, CASE, WaitFor::Accepted)));
        let (accepted, refused): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((accepted.len(), refused.len()), (3, 9), "{key}");
        for error in refused.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind(), LIMIT);
            assert_eq!(error.metadata["limit"], key);
            assert!(error.retry_after.is_some());
        }
        guarded.client(READ_TOKEN).accept(100, CASE).await;
        drop((replica, client));
        let (_replica, client) = guarded.stack.replica().await;
        let again = client.with_token(REGISTER_TOKEN).register(register_request(101, CASE, WaitFor::Accepted)).await;
        assert_eq!(again.unwrap_err().kind(), LIMIT, "{key}");
    }
}

#[tokio::test]
async fn a_limit_that_is_reached_in_the_middle_of_a_call_refuses_all_of_it() {
    for (more, key) in [("daily_limit = 5", "daily_limit"), ("max_unfinished = 5", "max_unfinished")] {
        let guarded = Guarded::start("enforce", &limited(more)).await;
        guarded.stack.anvil.stop_mining().await;
        let limited = guarded.client(REGISTER_TOKEN);
        limited.register_all(register_all_request(0..3)).await.unwrap();
        let refused = limited.register_all(register_all_request(3..6)).await.unwrap_err();
        assert_eq!((refused.kind(), refused.metadata["limit"].as_str()), (LIMIT, key));
        assert!(refused.retry_after.is_some() && refused.message.contains("nothing was accepted"), "{refused:?}");
        assert_eq!(limited.list(Default::default()).await.unwrap().registrations.len(), 3);
        // What is known does not count.
        limited.register_all(register_all_request(0..5)).await.unwrap();
        assert_eq!(limited.register_all(register_all_request(4..6)).await.unwrap_err().kind(), LIMIT);
        guarded.client(READ_TOKEN).register_all(register_all_request(4..10)).await.unwrap();
    }
}

#[tokio::test]
async fn a_caller_waits_with_no_more_calls_and_streams_than_it_may() {
    let guarded = Guarded::start("enforce", &limited("max_waiting = 2")).await;
    guarded.stack.anvil.stop_mining().await;
    let (limited, other) = (guarded.client(REGISTER_TOKEN), guarded.client(READ_TOKEN));
    let id = limited.accept(1, CASE).await.id;
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(limited.watch(&id, WaitFor::Confirmed, 0).await.unwrap());
    }
    let refused = limited.watch(&id, WaitFor::Confirmed, 0).await.err().unwrap();
    assert_eq!((refused.kind(), refused.metadata["limit"].as_str()), (LIMIT, "max_waiting"));
    let refused = limited.register(register_request(2, CASE, WaitFor::Confirmed)).await.unwrap_err();
    assert_eq!(refused.kind(), LIMIT);
    other.watch(&id, WaitFor::Confirmed, 0).await.unwrap();

    watches.clear();
    let watched = async || limited.watch(&id, WaitFor::Confirmed, 0).await.ok();
    crate::harness::eventually("a free place", watched).await;
}
