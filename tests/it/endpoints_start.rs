//! Starting with endpoints that are unreachable or on another chain. An endpoint of another chain never gets a signed
//! transaction.

use crate::harness::{
    Anvil, Fault, LoadScenario, Service, StackBuilder, assert_pending,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, LogLine, SINGLE_ENDPOINT, failback, failover, healthy, unhealthy},
    until_observed, within,
};
use std::time::Duration;

fn quarantined(endpoint: &str) -> LogLine {
    unhealthy(endpoint).with("state", "quarantined")
}

/// With Base's block time.
fn builder() -> StackBuilder {
    StackBuilder::block_time(0.2)
}

async fn another_chain() -> Anvil {
    Anvil::start(&["--chain-id", "31338", "--block-time", "0.2"]).await
}

/// The primary has this fault during the start; the service starts with the backup and returns to the primary once it
/// recovers.
async fn assert_start_works_while_primary_fails(fault: Fault) {
    let (dependencies, settings) = builder().endpoints(2).prepare().await;
    let injected = dependencies.proxies[0].inject_all(fault);

    let scenario = LoadScenario::new(within("the start", dependencies.start(settings)).await);

    scenario.register_during(async |_| ()).await;
    scenario.expect_log([unhealthy(ENDPOINT_1).with("state", "down")]).await;
    assert_eq!(scenario.state(ENDPOINT_1).await, "down");
    scenario.assert_no_warning_for(ENDPOINT_2);
    injected.release();
    scenario.expect_log([unhealthy(ENDPOINT_1), healthy(ENDPOINT_1), failback(ENDPOINT_1)]).await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn the_service_starts_while_the_primary_refuses_connections() {
    assert_start_works_while_primary_fails(Fault::RefuseConnections).await;
}

#[tokio::test]
async fn the_service_starts_while_the_primary_hangs() {
    assert_start_works_while_primary_fails(Fault::Hang).await;
}

#[tokio::test]
async fn the_service_starts_while_the_primarys_gateway_fails() {
    assert_start_works_while_primary_fails(Fault::status(502)).await;
}

#[tokio::test]
async fn a_start_with_healthy_endpoints_logs_no_failover() {
    for _ in 0..3 {
        let scenario = LoadScenario::new(builder().endpoints(3).start().await);
        scenario.register_during(async |_| ()).await;
        for level in ["INFO", "WARN"] {
            assert_eq!(scenario.count(&LogLine::new(level, "RPC failover")), 0, "there was a failover");
        }
        scenario.assert_invariants().await;
    }
}

#[tokio::test]
async fn the_service_starts_with_only_the_last_endpoint() {
    let (dependencies, settings) = builder().endpoints(3).prepare().await;
    let _injected =
        [dependencies.proxies[0].inject_all(Fault::RefuseConnections), dependencies.proxies[1].inject_all(Fault::Hang)];

    let scenario = LoadScenario::new(within("the start", dependencies.start(settings)).await);

    scenario.register_during(async |_| ()).await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_start_waits_until_the_first_endpoint_is_reachable() {
    let (dependencies, settings) = builder().endpoints(2).prepare().await;
    let _away = dependencies.proxies[0].inject_all(Fault::LoseRequest);
    let back = dependencies.proxies[1].inject_all(Fault::LoseRequest);
    let mut starting = Box::pin(Service::start(&settings));
    // Both endpoints are tried.
    until_observed(&mut starting, back.until_hit()).await;
    assert_pending("the start without an endpoint", &mut starting, Duration::from_secs(1)).await;

    back.release();

    let service = within("the start", starting).await;
    crate::harness::Client::connect(service.grpc).await.confirm(1, "case-1").await;
}

#[tokio::test]
async fn a_start_fails_when_all_endpoints_are_on_another_chain() {
    let other = another_chain().await;
    let (_dependencies, settings) = builder().endpoint_at(other.url()).endpoint_at(other.url()).prepare().await;

    let failed = Service::expect_start_failure(&settings).await;

    assert_eq!(failed.code, 64, "{}", failed.output);
    for word in ["31337", "31338", "REGISTRAR_CHAIN_ID"] {
        assert!(failed.output.contains(word), "`{word}` is missing in: {}", failed.output);
    }
    assert_eq!(crate::harness::proxy::leak(&failed.output), None, "{}", failed.output);
}

#[tokio::test]
async fn a_primary_on_another_chain_is_quarantined_and_gets_no_transaction() {
    let other = another_chain().await;
    let (scenario, ()) =
        LoadScenario::run_with_load(builder().endpoint_at(other.url()).endpoints(1), async |_| ()).await;

    scenario.expect_log([quarantined(ENDPOINT_1)]).await;
    assert_eq!(scenario.state(ENDPOINT_1).await, "quarantined");
    assert_eq!(scenario.primary().sent(), Vec::<String>::new());
    assert_eq!(scenario.primary().count("eth_call"), 0, "only the chain id is requested from it");
    scenario.assert_no_warning_for(ENDPOINT_2);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_backup_on_another_chain_gets_no_transaction_even_without_a_primary() {
    let other = another_chain().await;
    let (scenario, ()) =
        LoadScenario::run_with_load(builder().endpoints(1).endpoint_at(other.url()), async |scenario| {
            scenario.primary().inject_all(Fault::RefuseConnections).hold_for(Duration::from_secs(3)).await;
        })
        .await;

    scenario.expect_log([quarantined(ENDPOINT_2)]).await;
    assert_eq!(scenario.backup().sent(), Vec::<String>::new());
    assert_eq!(scenario.count(&failover(ENDPOINT_1, ENDPOINT_2)), 0);
    assert_eq!(scenario.failover_count(ENDPOINT_1, ENDPOINT_2, "").await, 0.0);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_chain_id_that_is_wrong_once_is_asked_again() {
    let (dependencies, settings) = builder().endpoints(1).prepare().await;
    let wrong = dependencies.proxies[0].inject("eth_chainId", Fault::FirstResult("\"0xa4b1\""));
    let scenario = LoadScenario::new(within("the start", dependencies.start(settings)).await);
    wrong.until_hit().await;
    scenario.register(0..3).await;
    scenario.assert_no_warning_for(SINGLE_ENDPOINT);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn the_only_endpoint_is_used_again_soon_after_its_chain_id_is_right() {
    let scenario = LoadScenario::new(builder().endpoints(1).start().await);
    let away = scenario.primary().inject_all(Fault::RefuseConnections);
    scenario.wait_for_state(SINGLE_ENDPOINT, "down").await;
    let other = scenario.primary().inject("eth_chainId", Fault::OTHER_CHAIN);
    away.release();
    scenario.expect_log([quarantined(SINGLE_ENDPOINT)]).await;
    assert_eq!(scenario.primary().sent(), Vec::<String>::new());

    other.release();

    scenario.expect_log([quarantined(SINGLE_ENDPOINT), healthy(SINGLE_ENDPOINT)]).await;
    scenario.register(0..3).await;
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn an_endpoint_that_recovers_on_another_chain_is_quarantined_before_use() {
    let (scenario, injected) = LoadScenario::run_with_load(builder().endpoints(2), async |scenario| {
        scenario.primary().inject_all(Fault::RefuseConnections)
    })
    .await;
    scenario.wait_for_state(ENDPOINT_1, "down").await;
    let _other = scenario.primary().inject("eth_chainId", Fault::OTHER_CHAIN);
    let sent = scenario.primary().sent();

    injected.release();

    scenario.expect_log([failover(ENDPOINT_1, ENDPOINT_2), quarantined(ENDPOINT_1)]).await;
    scenario.register(100..110).await;
    assert_eq!(scenario.primary().sent(), sent, "no transaction is sent to it after it came back");
    scenario.assert_invariants().await;
}
