//! The database goes away and comes back: nothing half done, everybody told, nobody to start anything again.

use super::CASE;
use crate::harness::{
    Database, Line, LineCondition, Plan, Stack, State, WaitFor, client::channel, document, eventually, registering,
};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Longer than any timeout or lease of the service.
const OUTAGE: Duration = Duration::from_secs(30);

/// A service whose database is at the other end of a line.
async fn on_a_line(plan: Plan) -> (Stack, Line) {
    let line = Line::to(&Database::new().await);
    let stack = plan.set("REGISTRAR_DATABASE_URL", &line.url).start().await;
    (stack, line)
}

/// What a call hears while the database is gone, and how soon.
async fn is_refused(stack: &Stack, number: u64, within: Duration) {
    let begun = Instant::now();
    let refusal = stack.client.register(registering(number, CASE, WaitFor::Accepted)).await.unwrap_err();
    assert_eq!(refusal.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert!(begun.elapsed() < within, "{:?}", begun.elapsed());
}

/// What grpc health says of the whole service.
async fn health(stack: &Stack) -> ServingStatus {
    let mut client = HealthClient::new(channel(stack.service.grpc).await);
    client.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner().status()
}

/// Whether the metrics say that the database is there, and that this replica acts for its signer.
async fn is_seen_by_operators(stack: &Stack, expected: f64) {
    eventually("the metrics to say so", async || {
        let page = stack.service.metrics().await;
        let seen = ["registrar_store_up", "registrar_signer_leased"].map(|name| page.value(name, &[]));
        (seen == [expected; 2]).then_some(())
    })
    .await;
}

/// Whatever it hinders, the loss is one line, with where and why, and so is the return.
fn is_told_once(log: &[Value], place: &str) {
    // What was out when it began may time out meanwhile, which is a fact of its own.
    let of_a_transaction = |line: &&Value| line["message"].as_str().unwrap().contains("not confirmed after");
    let is_bad = |line: &&Value| ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap());
    let bad: Vec<_> = log.iter().filter(is_bad).filter(|line| !of_a_transaction(line)).collect();
    let [lost] = bad[..] else { panic!("{} lines: {bad:#?}", bad.len()) };
    assert!(lost["message"].as_str().unwrap().starts_with("the database cannot be used"), "{lost}");
    assert!(lost["database"].as_str().unwrap().contains(place), "{lost}");
    let why = lost["error"].as_str().unwrap();
    assert!(!why.is_empty() && !why.contains("pool timed out"), "{lost}");
    let back: Vec<_> = log.iter().filter(|line| line["message"] == "the database can be used again").collect();
    assert!(matches!(back[..], [line] if line["seconds"].as_u64().unwrap() >= 20), "{back:#?}");
}

async fn goes_away_and_comes_back(condition: LineCondition, told_within: Duration) {
    let (stack, line) = on_a_line(Plan::on_demand()).await;
    let url = url::Url::parse(&line.url).unwrap();
    let place = format!("127.0.0.1:{}", url.port().unwrap());
    stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;
    let in_flight = stack.client.accept(2, CASE).await;
    stack.client.reaches(&in_flight.id, State::Submitted).await;

    let before = stack.service.log().len();
    line.becomes(condition);
    let gone = Instant::now();

    is_refused(&stack, 3, told_within).await;
    let not_ready = async || (stack.service.http("/readyz").await.0 == 503).then_some(());
    eventually("readiness to end", not_ready).await;
    let unwell = async || (health(&stack).await == ServingStatus::NotServing).then_some(());
    eventually("grpc health to say so", unwell).await;
    let get = stack.client.get(&in_flight.id).await.unwrap_err();
    assert_eq!(get.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
    is_seen_by_operators(&stack, 0.0).await;
    // What is on chain meanwhile cannot be written down yet.
    stack.anvil.mine_on_demand().await;
    while gone.elapsed() < OUTAGE {
        is_refused(&stack, 3, told_within).await;
    }

    line.becomes(LineCondition::Sound);

    let ready = async || (stack.service.http("/readyz").await.0 == 200).then_some(());
    eventually("readiness", ready).await;
    let well = async || (health(&stack).await == ServingStatus::Serving).then_some(());
    eventually("grpc health", well).await;
    is_seen_by_operators(&stack, 1.0).await;
    is_told_once(&stack.service.log()[before..], &place);
    stack.client.reaches(&in_flight.id, State::Confirmed).await;
    stack.client.confirm(3, CASE).await;
    stack.registry.holds_exactly((1..=3).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_database_that_is_gone_is_said_at_once_and_its_return_needs_nobody() {
    goes_away_and_comes_back(LineCondition::Cut, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_database_that_falls_silent_is_said_soon_and_its_return_needs_nobody() {
    goes_away_and_comes_back(LineCondition::Silent, Duration::from_secs(25)).await;
}

#[tokio::test]
async fn what_was_committed_although_nobody_was_told_is_found_by_the_same_pair() {
    let (stack, line) = on_a_line(Plan::on_demand()).await;
    line.becomes(LineCondition::LosesCommits);
    is_refused(&stack, 1, Duration::from_secs(10)).await;
    line.becomes(LineCondition::Sound);

    let kept = stack.client.get_pair(&document(1), CASE).await.unwrap();

    assert_eq!(stack.client.confirm(1, CASE).await.id, kept.id);
    stack.registry.holds_exactly([(document(1), CASE.to_owned())]).await;
}
