//! Endpoints that fail: a warning for each change of their state, and one error when there is none left.

use super::{Watched, level, message};
use crate::harness::{
    Fault, Plan,
    receivers::Span,
    story::{FIRST, SECOND},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The states that the log says this endpoint was in, in order.
fn logged_states(watched: &Watched, endpoint: &str) -> Vec<Value> {
    let words = format!("RPC endpoint {endpoint} unhealthy");
    let lines = watched.stack.service.log().into_iter().filter(|line| line["message"] == words.as_str());
    lines.map(|line| line["state"].clone()).collect()
}

#[tokio::test]
async fn an_endpoint_that_fails_is_one_warning_for_each_change_of_its_state() {
    let mut watched = Watched::start(Plan::block_time(0.2).endpoints(2)).await;
    watched.stack.client.confirm(1, super::CASE).await;

    let away = watched.stack.proxies()[0].trap_all(Fault::Refuse);
    let down = |line: &Value| line["message"] == "RPC endpoint 127.0.0.1#1 unhealthy" && line["state"] == "down";
    watched.stack.service.logged("the first endpoint to be down", down).await;
    watched.stack.client.confirm(2, super::CASE).await;
    away.release();
    let healthy = |line: &Value| line["message"] == "RPC endpoint 127.0.0.1#1 healthy";
    watched.stack.service.logged("the first endpoint to be well", healthy).await;

    let words = format!("RPC endpoint {FIRST} unhealthy");
    let expected = logged_states(&watched, FIRST);
    let is_it = |event: &Value| message(event) == words;
    let told = watched.sentry.events_where(expected.len(), "unhealthy endpoint", is_it).await;
    let states: Vec<_> = told.iter().map(|event| event["contexts"]["rpc"]["state"].clone()).collect();
    assert_eq!(states, expected, "each once");
    for event in &told {
        assert_eq!(level(event), "warning", "{event:#}");
        let rpc = &event["contexts"]["rpc"];
        assert_eq!(rpc["endpoint"], FIRST);
        for key in ["error", "latencyMs", "consecutiveFailures"] {
            assert!(!rpc[key].is_null(), "{key} in {rpc:#}");
        }
    }
    let last = &told[told.len() - 1]["contexts"]["rpc"];
    assert!(last["blockNumber"].is_u64(), "{last:#}");
    let others = watched.sentry.events().into_iter().filter(|event| message(event).contains(SECOND)).count();
    assert_eq!(others, 0, "nothing bad of the other");
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn no_endpoint_at_all_is_one_error_however_long_it_lasts() {
    let mut watched = Watched::start(Plan::block_time(0.2).endpoints(2)).await;
    let away: Vec<_> = watched.stack.proxies().iter().map(|proxy| proxy.trap_all(Fault::Refuse)).collect();
    let accepted = watched.stack.client.accept(1, super::CASE).await;
    for endpoint in [FIRST, SECOND] {
        let words = format!("RPC endpoint {endpoint} unhealthy");
        let down = |line: &Value| line["message"] == words.as_str() && line["state"] == "down";
        watched.stack.service.logged("it to be down", down).await;
    }
    drop(away);
    let back = |line: &Value| line["message"] == "RPC endpoints available again";
    watched.stack.service.logged("one to be back", back).await;
    watched.stack.client.reaches(&accepted.id, crate::harness::State::Confirmed).await;

    let words = "All RPC endpoints unavailable";
    let event = watched.sentry.event(words, |event| message(event) == words).await;
    assert_eq!(level(&event), "error", "{event:#}");
    let count = watched.sentry.events().iter().filter(|event| message(event) == words).count();
    assert_eq!(count, 1);
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn looks_at_endpoints_are_spans_with_what_they_saw_of_which_few_are_kept() {
    // Each is looked at every second, and one look in a hundred is kept when all traces are.
    let watched = Watched::start(Plan::block_time(0.2).endpoints(40)).await;

    let is_look = |span: &Span| span.op == "rpc.health_check";
    let spans = watched.otlp.spans_where(5, "looks", is_look).await;

    let looks: usize = watched.stack.proxies().iter().map(|proxy| proxy.times().len()).sum();
    assert!(spans.len() < looks / 10, "{} of {looks} looks are kept", spans.len());
    for span in &spans {
        let endpoint = span.get("endpoint").as_str().unwrap();
        assert!(endpoint.starts_with("127.0.0.1#"), "{span:#?}");
        assert_eq!((&*span.name, &span.ids.parent), (&*format!("Check {endpoint}"), &None));
        assert!(span.get("blockNumber").is_i64(), "{span:#?}");
        assert!(!span.get("lag").is_null(), "{span:#?}");
    }
}

#[tokio::test]
async fn a_failover_that_a_call_felt_is_seen_in_its_trace_whatever_share_is_kept() {
    let mut watched = Watched::start_at(Plan::block_time(0.2).endpoints(2), 0.0).await;
    let _away = watched.stack.proxies()[0].trap("eth_sendRawTransaction", Fault::LoseRequest);

    watched.stack.client.confirm(1, super::CASE).await;

    let failover = |line: &Value| line["message"] == "RPC failover" || line["message"] == "transaction sent";
    watched.stack.service.logged("the sending", failover).await;
    let sends = watched
        .otlp
        .spans_where(2, "sends", |span| span.op == "rpc.client" && span.name == "eth_sendRawTransaction")
        .await;
    let mut by_endpoint = BTreeMap::new();
    for span in &sends {
        by_endpoint.insert(span.get("endpoint").to_string(), span.status.clone());
    }
    assert!(by_endpoint.len() == 2 && by_endpoint.values().any(|status| status.starts_with("error")), "{sends:#?}");
    assert!(sends.iter().any(|span| span.get("attempt") == &json!(2)), "{sends:#?}");
}
