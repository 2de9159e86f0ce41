//! Database outages: no partial work, every caller is answered, and the service recovers without a restart.

use super::CASE;
use crate::harness::{
    Database, StackBuilder, State, TcpProxy, TcpProxyMode, TestStack, WaitFor, client::channel, document, eventually,
    register_request,
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Longer than any timeout or lease of the service.
const OUTAGE: Duration = Duration::from_secs(30);

/// A service whose connection to the database goes through a proxy.
async fn on_a_proxy(builder: StackBuilder) -> (TestStack, TcpProxy) {
    let proxy = TcpProxy::new(&Database::new().await);
    let stack = builder.set("REGISTRAR_DATABASE_URL", &proxy.url).start().await;
    (stack, proxy)
}

/// Asserts that calls fail with STORE_UNAVAILABLE within this time.
async fn assert_unavailable(stack: &TestStack, number: u64, within: Duration) {
    let started = Instant::now();
    let error = stack.client.register(register_request(number, CASE, WaitFor::Accepted)).await.unwrap_err();
    assert_eq!(error.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert!(started.elapsed() < within, "{:?}", started.elapsed());
}

/// The whole service's status in the gRPC health service.
async fn health(stack: &TestStack) -> ServingStatus {
    let mut client = HealthClient::new(channel(stack.service.grpc).await);
    client.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner().status()
}

/// Waits until the metrics report this for both the database connection and the lease.
async fn wait_for_metrics(stack: &TestStack, expected: f64) {
    eventually("the metrics to change", async || {
        let page = stack.service.metrics().await;
        let values = ["registrar_store_up", "registrar_signer_leased"].map(|name| page.value(name, &[]));
        (values == [expected; 2]).then_some(())
    })
    .await;
}

/// Asserts that the outage is one log line with the address and the reason, and its end another one.
fn assert_logged_once(log: &[Value], address: &str) {
    // Transactions that were pending when the outage started may time out, which is logged separately.
    let is_timeout_report = |line: &&Value| line["message"].as_str().unwrap().contains("not confirmed after");
    let is_bad = |line: &&Value| ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap());
    let bad: Vec<_> = log.iter().filter(is_bad).filter(|line| !is_timeout_report(line)).collect();
    let [lost] = bad[..] else { panic!("{} lines: {bad:#?}", bad.len()) };
    assert!(lost["message"].as_str().unwrap().starts_with("the database cannot be used"), "{lost}");
    assert!(lost["database"].as_str().unwrap().contains(address), "{lost}");
    let why = lost["error"].as_str().unwrap();
    assert!(!why.is_empty() && !why.contains("pool timed out"), "{lost}");
    let back: Vec<_> = log.iter().filter(|line| line["message"] == "the database can be used again").collect();
    assert!(matches!(back[..], [line] if line["seconds"].as_u64().unwrap() >= 20), "{back:#?}");
}

async fn assert_recovers_from(mode: TcpProxyMode, error_within: Duration) {
    let (stack, proxy) = on_a_proxy(StackBuilder::on_demand()).await;
    let url = url::Url::parse(&proxy.url).unwrap();
    let address = format!("127.0.0.1:{}", url.port().unwrap());
    stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;
    let in_flight = stack.client.accept(2, CASE).await;
    stack.client.wait_for_state(&in_flight.id, State::Submitted).await;

    let before = stack.service.log().len();
    proxy.set_mode(mode);
    let gone = Instant::now();

    assert_unavailable(&stack, 3, error_within).await;
    let not_ready = async || (stack.service.http("/readyz").await.0 == 503).then_some(());
    eventually("readiness to fail", not_ready).await;
    let not_serving = async || (health(&stack).await == ServingStatus::NotServing).then_some(());
    eventually("gRPC health to be NOT_SERVING", not_serving).await;
    let get = stack.client.get(&in_flight.id).await.unwrap_err();
    assert_eq!(get.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
    wait_for_metrics(&stack, 0.0).await;
    // Inclusions during the outage cannot be stored yet.
    stack.anvil.mine_on_demand().await;
    while gone.elapsed() < OUTAGE {
        assert_unavailable(&stack, 3, error_within).await;
    }

    proxy.set_mode(TcpProxyMode::Forward);

    let ready = async || (stack.service.http("/readyz").await.0 == 200).then_some(());
    eventually("readiness", ready).await;
    let serving = async || (health(&stack).await == ServingStatus::Serving).then_some(());
    eventually("gRPC health to be SERVING", serving).await;
    wait_for_metrics(&stack, 1.0).await;
    assert_logged_once(&stack.service.log()[before..], &address);
    stack.client.wait_for_state(&in_flight.id, State::Confirmed).await;
    stack.client.confirm(3, CASE).await;
    stack.registry.assert_registered_exactly((1..=3).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn the_service_recovers_from_a_stopped_database() {
    assert_recovers_from(TcpProxyMode::Refuse, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn the_service_recovers_from_a_frozen_database() {
    assert_recovers_from(TcpProxyMode::Stall, Duration::from_secs(25)).await;
}

#[tokio::test]
async fn a_commit_with_a_lost_reply_is_found_by_a_repeated_request() {
    let (stack, proxy) = on_a_proxy(StackBuilder::on_demand()).await;
    proxy.set_mode(TcpProxyMode::DropCommitReplies);
    assert_unavailable(&stack, 1, Duration::from_secs(10)).await;
    proxy.set_mode(TcpProxyMode::Forward);

    let stored = stack.client.get_pair(&document(1), CASE).await.unwrap();

    assert_eq!(stack.client.confirm(1, CASE).await.id, stored.id);
    stack.registry.assert_registered_exactly([(document(1), CASE.to_owned())]).await;
}
