//! Each signer is one replica's at a time, and another one's when that replica is gone.

use super::{CASE, is_of_signer, leased};
use crate::harness::{Client, Database, Line, LineCondition, Plan, Service, Stack, State, document};
use std::time::Duration;
use tokio::time::Instant;

/// A service that holds its signer's lease, by a line of its own to the database, and another one that waits for it.
async fn pair() -> (Stack, Line, Service, Client) {
    let database = Database::new().await;
    let line = Line::to(&database);
    let mut stack = Plan::on_demand().set("REGISTRAR_DATABASE_URL", &line.url).start().await;
    leased(&mut stack.service).await;
    let other = Service::start(&stack.settings.clone().set("REGISTRAR_DATABASE_URL", database.url())).await;
    let client = Client::connect(other.grpc).await;
    (stack, line, other, client)
}

#[tokio::test]
async fn a_killed_replicas_work_moves_within_two_seconds() {
    let (mut stack, _line, mut other, client) = pair().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await;

    stack.service.kill();
    let begun = Instant::now();

    leased(&mut other).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    stack.anvil.mine_on_demand().await;
    client.reaches(&accepted.id, State::Confirmed).await;
    client.confirm(2, CASE).await;
    stack.registry.holds_exactly([(document(1), CASE.to_owned()), (document(2), CASE.to_owned())]).await;
}

#[tokio::test]
async fn a_replica_that_is_cut_off_loses_its_work_within_ten_seconds_and_harms_nothing_when_it_is_back() {
    let (stack, line, mut other, client) = pair().await;
    let first = stack.client.accept(1, CASE).await;
    stack.client.reaches(&first.id, State::Confirmed).await;

    line.becomes(LineCondition::Silent);
    let begun = Instant::now();

    leased(&mut other).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    client.confirm(2, CASE).await;
    line.becomes(LineCondition::Sound);
    // The one that was cut off hears that it is not the holder any more, and serves all the same.
    let mut stack = stack;
    stack.service.logged("the loss", |line| is_of_signer(line, "lease lost")).await;
    stack.client.confirm(3, CASE).await;
    stack.registry.holds_exactly((1..=3).map(|number| (document(number), CASE.to_owned()))).await;
}
