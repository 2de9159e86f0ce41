//! Each signer is one replica's at a time, and another one's when that replica is gone.

use super::{CASE, is_of_signer, leased};
use crate::harness::{Client, Database, Line, LineCondition, Plan, Service, Stack, State, document, in_one_of};
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

/// A replica is killed; fails when the other one has not taken its work over within two seconds.
async fn a_killed_replicas_work_moves() -> Result<(), String> {
    let (mut stack, _line, mut other, client) = pair().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await;

    stack.service.kill();
    let begun = Instant::now();

    leased(&mut other).await;
    let took = begun.elapsed();
    stack.anvil.mine_on_demand().await;
    client.reaches(&accepted.id, State::Confirmed).await;
    client.confirm(2, CASE).await;
    stack.registry.holds_exactly([(document(1), CASE.to_owned()), (document(2), CASE.to_owned())]).await;
    if took < Duration::from_secs(2) { Ok(()) } else { Err(format!("after {took:?}")) }
}

#[tokio::test]
async fn a_killed_replicas_work_moves_within_two_seconds() {
    in_one_of("a lease that moves", a_killed_replicas_work_moves).await;
}

/// A replica is cut off and comes back; fails when the other one has not taken its work over within ten seconds.
async fn a_replica_is_cut_off_and_back() -> Result<(), String> {
    let (stack, line, mut other, client) = pair().await;
    let first = stack.client.accept(1, CASE).await;
    stack.client.reaches(&first.id, State::Confirmed).await;

    line.becomes(LineCondition::Silent);
    let begun = Instant::now();

    leased(&mut other).await;
    let took = begun.elapsed();
    client.confirm(2, CASE).await;
    line.becomes(LineCondition::Sound);
    // The one that was cut off hears that it is not the holder any more, and serves all the same.
    let mut stack = stack;
    stack.service.logged("the loss", |line| is_of_signer(line, "lease lost")).await;
    stack.client.confirm(3, CASE).await;
    stack.registry.holds_exactly((1..=3).map(|number| (document(number), CASE.to_owned()))).await;
    if took < Duration::from_secs(10) { Ok(()) } else { Err(format!("after {took:?}")) }
}

#[tokio::test]
async fn a_replica_that_is_cut_off_loses_its_work_within_ten_seconds_and_harms_nothing_when_it_is_back() {
    in_one_of("a lease that moves", a_replica_is_cut_off_and_back).await;
}
