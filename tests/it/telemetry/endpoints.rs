//! Endpoint failures: one warning per state change, and one error when none is available.

use super::{ObservedStack, level, message};
use crate::harness::{
    Fault, StackBuilder,
    load_scenario::{ENDPOINT_1, ENDPOINT_2},
    receivers::Span,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The states of this endpoint in the log, in order.
fn logged_states(observed: &ObservedStack, endpoint: &str) -> Vec<Value> {
    let words = format!("RPC endpoint {endpoint} unhealthy");
    let lines = observed.stack.service.log().into_iter().filter(|line| line["message"] == words.as_str());
    lines.map(|line| line["state"].clone()).collect()
}

#[tokio::test]
async fn a_failing_endpoint_is_one_warning_per_state_change() {
    let mut observed = ObservedStack::start(StackBuilder::block_time(0.2).endpoints(2)).await;
    observed.stack.client.confirm(1, super::CASE).await;

    let away = observed.stack.proxies()[0].inject_all(Fault::RefuseConnections);
    let down = |line: &Value| line["message"] == "RPC endpoint 127.0.0.1#1 unhealthy" && line["state"] == "down";
    observed.stack.service.wait_for_log("the first endpoint to be down", down).await;
    observed.stack.client.confirm(2, super::CASE).await;
    away.release();
    let healthy = |line: &Value| line["message"] == "RPC endpoint 127.0.0.1#1 healthy";
    observed.stack.service.wait_for_log("the first endpoint to be healthy", healthy).await;

    let words = format!("RPC endpoint {ENDPOINT_1} unhealthy");
    let expected = logged_states(&observed, ENDPOINT_1);
    let is_it = |event: &Value| message(event) == words;
    let exported = observed.sentry.events_where(expected.len(), "unhealthy endpoint", is_it).await;
    let states: Vec<_> = exported.iter().map(|event| event["contexts"]["rpc"]["state"].clone()).collect();
    assert_eq!(states, expected, "one event per state change");
    for event in &exported {
        assert_eq!(level(event), "warning", "{event:#}");
        let rpc = &event["contexts"]["rpc"];
        assert_eq!(rpc["endpoint"], ENDPOINT_1);
        for key in ["error", "latencyMs", "consecutiveFailures"] {
            assert!(!rpc[key].is_null(), "{key} in {rpc:#}");
        }
    }
    let last = &exported[exported.len() - 1]["contexts"]["rpc"];
    assert!(last["blockNumber"].is_u64(), "{last:#}");
    let others = observed.sentry.events().into_iter().filter(|event| message(event).contains(ENDPOINT_2)).count();
    assert_eq!(others, 0, "the other endpoint has events");
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn an_outage_of_all_endpoints_is_one_error() {
    let mut observed = ObservedStack::start(StackBuilder::block_time(0.2).endpoints(2)).await;
    let away: Vec<_> =
        observed.stack.proxies().iter().map(|proxy| proxy.inject_all(Fault::RefuseConnections)).collect();
    let accepted = observed.stack.client.accept(1, super::CASE).await;
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        let words = format!("RPC endpoint {endpoint} unhealthy");
        let down = |line: &Value| line["message"] == words.as_str() && line["state"] == "down";
        observed.stack.service.wait_for_log("the endpoint to be down", down).await;
    }
    drop(away);
    let back = |line: &Value| line["message"] == "RPC endpoints available again";
    observed.stack.service.wait_for_log("an endpoint to be available", back).await;
    observed.stack.client.wait_for_state(&accepted.id, crate::harness::State::Confirmed).await;

    let words = "All RPC endpoints unavailable";
    let event = observed.sentry.event(words, |event| message(event) == words).await;
    assert_eq!(level(&event), "error", "{event:#}");
    let rpc = event["contexts"]["rpc"].as_object().unwrap();
    let names: Vec<_> = rpc.keys().filter(|name| *name != "type").collect();
    assert_eq!(names, [ENDPOINT_1, ENDPOINT_2], "{rpc:#?}");
    for endpoint in [ENDPOINT_1, ENDPOINT_2] {
        assert_eq!(rpc[endpoint]["state"], "down", "{rpc:#?}");
        assert!(rpc[endpoint]["error"].as_str().is_some_and(|error| !error.is_empty()), "{rpc:#?}");
    }
    assert!(!event.to_string().contains("http://"), "a URL in {event:#}");
    let events = observed.sentry.events();
    assert_eq!(events.iter().filter(|event| message(event) == words).count(), 1);
    let repeats =
        |event: &&Value| !event["contexts"]["rpc"].is_null() && !event["contexts"]["Rust Tracing Fields"].is_null();
    assert_eq!(events.iter().find(repeats), None, "the fields are there twice");
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn health_probes_are_spans_and_sampled() {
    // Each endpoint is probed every second, and one probe in a hundred is kept when all traces are.
    let observed = ObservedStack::start(StackBuilder::block_time(0.2).endpoints(40)).await;

    let is_probe = |span: &Span| span.op == "rpc.health_check";
    let spans = observed.otlp.spans_where(5, "probes", is_probe).await;

    let probes: usize = observed.stack.proxies().iter().map(|proxy| proxy.times().len()).sum();
    assert!(spans.len() < probes / 10, "{} of {probes} probes are kept", spans.len());
    for span in &spans {
        let endpoint = span.get("endpoint").as_str().unwrap();
        assert!(endpoint.starts_with("127.0.0.1#"), "{span:#?}");
        assert_eq!((&*span.name, &span.ids.parent), (&*format!("Check {endpoint}"), &None));
        assert!(span.get("blockNumber").is_i64(), "{span:#?}");
        assert!(!span.get("lag").is_null(), "{span:#?}");
    }
}

#[tokio::test]
async fn a_failover_during_a_send_is_always_kept_in_its_trace() {
    let mut observed = ObservedStack::start_at(StackBuilder::block_time(0.2).endpoints(2), 0.0).await;
    let _away = observed.stack.proxies()[0].inject("eth_sendRawTransaction", Fault::LoseRequest);

    observed.stack.client.confirm(1, super::CASE).await;

    let failover = |line: &Value| line["message"] == "RPC failover" || line["message"] == "transaction sent";
    observed.stack.service.wait_for_log("the send or the failover", failover).await;
    let sends = observed
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
