//! A primary that fails under load, in every way in which a node or its gateway can fail: no caller notices, nothing is
//! registered twice, and the log shows what happened.

use crate::harness::{
    Fault, HttpAnswer, LoadScenario, StackBuilder,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, SINGLE_ENDPOINT, failback, failover, healthy, unhealthy},
    proxy::{
        InjectedFault,
        node_errors::{BAD_KEY, NO_BACKEND, PROXYD_NO_BACKEND},
    },
};
use std::time::Duration;

/// Two endpoints in front of one node with Base's block time.
fn two_endpoints() -> StackBuilder {
    StackBuilder::block_time(0.2).endpoints(2)
}

/// The primary has this fault during fifty registrations and the backup takes over; calls fail over for one of these
/// reasons.
async fn assert_taken_over(fault: Fault, reasons: &[&str]) -> (LoadScenario, InjectedFault) {
    let (scenario, injected) =
        LoadScenario::run_with_load(two_endpoints(), async |scenario| scenario.primary().inject_all(fault)).await;

    scenario.expect_log([unhealthy(ENDPOINT_1), failover(ENDPOINT_1, ENDPOINT_2)]).await;
    let mut failovers = 0.0;
    for reason in reasons {
        failovers += scenario.failover_count(ENDPOINT_1, ENDPOINT_2, reason).await;
    }
    assert!(failovers >= 1.0, "no call failed over because of {reasons:?}");
    assert_ne!(scenario.state(ENDPOINT_1).await, "healthy");
    scenario.assert_no_warning_for(ENDPOINT_2);
    (scenario, injected)
}

/// As [`assert_taken_over`], and the primary is down in the end.
async fn assert_taken_over_and_down(fault: Fault, reasons: &[&str]) {
    let (scenario, _injected) = assert_taken_over(fault, reasons).await;
    scenario.wait_for_state(ENDPOINT_1, "down").await;
    // Later work does not use the primary; only occasional probes check whether it is back.
    let before = scenario.primary().counts();
    scenario.register(100..110).await;
    let after = scenario.primary().counts();
    let calls_since = |method: &str| after.get(method).unwrap_or(&0) - before.get(method).unwrap_or(&0);
    for method in ["eth_sendRawTransaction", "eth_call", "eth_getTransactionCount", "eth_getTransactionReceipt"] {
        assert_eq!(calls_since(method), 0, "{method} is sent to an endpoint that is down");
    }
    let probes: u64 = after.keys().map(|method| calls_since(method)).sum();
    assert!(probes <= 5, "{probes} calls of an endpoint that is down: {before:?}, {after:?}");
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_primary_that_refuses_connections_fails_over_and_back() {
    let (scenario, injected) = assert_taken_over(Fault::RefuseConnections, &["connect", "lost"]).await;
    scenario.wait_for_state(ENDPOINT_1, "down").await;

    injected.release();

    let failover_and_failback = [
        unhealthy(ENDPOINT_1),
        failover(ENDPOINT_1, ENDPOINT_2),
        healthy(ENDPOINT_1).with("from", "down"),
        failback(ENDPOINT_1),
    ];
    scenario.expect_log(failover_and_failback).await;
    assert_eq!(scenario.state(ENDPOINT_1).await, "healthy");
    let sent = scenario.backup().sent().len();
    scenario.register(100..101).await;
    assert_eq!(scenario.backup().sent().len(), sent, "a later transaction was sent to the backup");
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_primary_that_hangs_fails_over_and_back() {
    let (scenario, injected) = assert_taken_over(Fault::Hang, &["timeout", "hedge"]).await;

    injected.release();

    scenario
        .expect_log([
            unhealthy(ENDPOINT_1),
            failover(ENDPOINT_1, ENDPOINT_2),
            healthy(ENDPOINT_1),
            failback(ENDPOINT_1),
        ])
        .await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn later_work_does_not_wait_for_a_primary_that_keeps_hanging() {
    assert_taken_over_and_down(Fault::Hang, &["timeout", "hedge"]).await;
}

#[tokio::test]
async fn a_primary_that_resets_connections_fails_over() {
    assert_taken_over_and_down(Fault::Reset, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_that_closes_connections_fails_over() {
    assert_taken_over_and_down(Fault::LoseRequest, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_that_executes_calls_without_answering_fails_over() {
    assert_taken_over_and_down(Fault::LoseResponse, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_that_truncates_answers_fails_over() {
    assert_taken_over_and_down(Fault::TruncateResponse, &["lost"]).await;
}

#[tokio::test]
async fn a_primary_with_internal_errors_fails_over() {
    assert_taken_over_and_down(Fault::status(500), &["status"]).await;
}

#[tokio::test]
async fn a_primary_with_a_gateway_error_page_fails_over() {
    assert_taken_over_and_down(Fault::Http(HttpAnswer::status(502).html()), &["status"]).await;
}

#[tokio::test]
async fn a_primary_that_answers_with_html_fails_over() {
    assert_taken_over_and_down(Fault::Http(HttpAnswer::status(200).html()), &["unreadable"]).await;
}

#[tokio::test]
async fn a_primary_that_rejects_the_api_key_fails_over() {
    for status in [401, 403] {
        assert_taken_over(Fault::Http(HttpAnswer::status(status).with_error(BAD_KEY)), &["status"])
            .await
            .0
            .assert_invariants()
            .await;
    }
}

#[tokio::test]
async fn a_gateway_without_backends_fails_over_with_any_status() {
    for fault in [Fault::Http(HttpAnswer::status(503).with_error(PROXYD_NO_BACKEND)), Fault::Error(PROXYD_NO_BACKEND)] {
        assert_taken_over(fault, &["backend"]).await.0.assert_invariants().await;
    }
}

#[tokio::test]
async fn gateway_backend_errors_lose_no_registration() {
    for error in NO_BACKEND {
        let (scenario, _injected) = LoadScenario::run_with_load(two_endpoints(), async |scenario| {
            scenario.primary().inject_all(Fault::Error(error))
        })
        .await;
        assert!(scenario.failover_count(ENDPOINT_1, ENDPOINT_2, "").await >= 1.0, "{error:?}");
        scenario.assert_no_warning_for(ENDPOINT_2);
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_slow_primary_is_hedged() {
    let slow = Fault::Slow(Duration::from_millis(1500));
    let (scenario, _injected) = assert_taken_over(slow, &["hedge"]).await;
    scenario.wait_for_state(ENDPOINT_1, "degraded").await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_slightly_slow_primary_stays_the_primary() {
    let slow = Fault::Slow(Duration::from_millis(60));
    let (scenario, injected) =
        LoadScenario::run_with_load(two_endpoints(), async |scenario| scenario.primary().inject_all(slow)).await;
    assert!(injected.hits() > 0, "no call was slow");
    scenario.assert_no_warning_for(ENDPOINT_1);
    scenario.assert_no_warning_for(ENDPOINT_2);
    assert_eq!(scenario.count(&failover(ENDPOINT_1, ENDPOINT_2)), 0);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_primary_that_loses_every_second_answer_loses_no_registration() {
    let fault = Fault::LoseEverySecondResponse;
    let (scenario, _injected) =
        LoadScenario::run_with_load(two_endpoints(), async |scenario| scenario.primary().inject_all(fault)).await;
    assert!(scenario.failover_count(ENDPOINT_1, ENDPOINT_2, "lost").await >= 1.0);
    scenario.assert_no_warning_for(ENDPOINT_2);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn duplicated_calls_do_not_make_an_endpoint_unhealthy() {
    let (scenario, injected) =
        LoadScenario::run_with_load(two_endpoints(), async |scenario| scenario.primary().inject_all(Fault::Duplicate))
            .await;
    assert!(injected.hits() > 0, "no call was duplicated");
    scenario.assert_no_warning_for(ENDPOINT_1);
    assert_eq!(
        scenario.failover_count(ENDPOINT_1, ENDPOINT_2, "refused").await,
        0.0,
        "already known counts as success"
    );
    assert_eq!(scenario.backup().sent(), Vec::<String>::new());
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn endpoint_urls_are_not_exposed_at_trace_level() {
    for fault in [
        Fault::RefuseConnections,
        Fault::Hang,
        Fault::Reset,
        Fault::Http(HttpAnswer::status(502).html()),
        Fault::Error(BAD_KEY),
    ] {
        let builder = two_endpoints().set("RUST_LOG", "trace,h2=trace");
        // The harness checks every log line, error and metric for the URL.
        let (scenario, ()) = LoadScenario::run_with_load(builder, async |scenario| {
            scenario.primary().inject_all(fault).hold_for(Duration::from_secs(1)).await;
        })
        .await;
        scenario.assert_invariants().await;
    }
}

/// The single endpoint has this fault for a while; the work waits for it and is finished.
async fn assert_waited_for(fault: Fault, outcome: &str) {
    let (scenario, ()) = LoadScenario::run_with_load(StackBuilder::block_time(0.2).endpoints(1), async |scenario| {
        scenario.primary().inject_all(fault).hold_for(Duration::from_secs(3)).await;
    })
    .await;
    scenario.expect_call_outcome(SINGLE_ENDPOINT, outcome).await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_single_endpoint_that_refuses_connections_is_waited_for() {
    assert_waited_for(Fault::RefuseConnections, "connect").await;
}

#[tokio::test]
async fn a_single_endpoint_that_hangs_is_waited_for() {
    assert_waited_for(Fault::Hang, "timeout").await;
}

#[tokio::test]
async fn a_single_endpoint_with_gateway_error_pages_is_waited_for() {
    assert_waited_for(Fault::Http(HttpAnswer::status(502).html()), "status").await;
    assert_waited_for(Fault::Http(HttpAnswer::status(200).html()), "unreadable").await;
}

#[tokio::test]
async fn a_single_endpoint_that_loses_every_second_answer_is_used() {
    assert_waited_for(Fault::LoseEverySecondResponse, "lost").await;
}
