//! A signer's lease is held by one replica and moves to another when that one is gone.

use super::{CASE, is_of_signer, wait_for_lease};
use crate::harness::{
    Client, Database, Service, StackBuilder, State, TcpProxy, TcpProxyMode, TestStack, document, retry_timing,
};
use std::time::Duration;
use tokio::time::Instant;

/// A service that holds the lease and reaches the database through a proxy, and another replica that waits for the
/// lease.
async fn pair() -> (TestStack, TcpProxy, Service, Client) {
    let database = Database::new().await;
    let proxy = TcpProxy::new(&database);
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", &proxy.url).start().await;
    wait_for_lease(&mut stack.service).await;
    let other = Service::start(&stack.settings.clone().set("REGISTRAR_DATABASE_URL", database.url())).await;
    let client = Client::connect(other.grpc).await;
    (stack, proxy, other, client)
}

/// Kills the leaseholder. `Err` when the other replica takes two seconds or more for the lease; anything else that is
/// wrong fails the test at once.
async fn take_over_from_killed_replica() -> Result<(), String> {
    let (mut stack, _proxy, mut other, client) = pair().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;

    stack.service.kill();
    let started = Instant::now();

    wait_for_lease(&mut other).await;
    let took = started.elapsed();
    stack.anvil.mine_on_demand().await;
    client.wait_for_state(&accepted.id, State::Confirmed).await;
    client.confirm(2, CASE).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.to_owned()), (document(2), CASE.to_owned())]).await;
    if took < Duration::from_secs(2) { Ok(()) } else { Err(format!("after {took:?}")) }
}

#[tokio::test]
async fn a_killed_replicas_lease_moves_within_two_seconds() {
    retry_timing("the lease after a kill", take_over_from_killed_replica).await;
}

/// Disconnects the leaseholder from the database and reconnects it. `Err` when the other replica takes ten seconds or
/// more for the lease.
async fn take_over_from_disconnected_replica() -> Result<(), String> {
    let (stack, proxy, mut other, client) = pair().await;
    let first = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&first.id, State::Confirmed).await;

    proxy.set_mode(TcpProxyMode::Stall);
    let started = Instant::now();

    wait_for_lease(&mut other).await;
    let took = started.elapsed();
    client.confirm(2, CASE).await;
    proxy.set_mode(TcpProxyMode::Forward);
    // The disconnected replica notices that it lost the lease and still accepts work.
    let mut stack = stack;
    stack.service.wait_for_log("the lost lease", |line| is_of_signer(line, "lease lost")).await;
    stack.client.confirm(3, CASE).await;
    stack.registry.assert_registered_exactly((1..=3).map(|number| (document(number), CASE.to_owned()))).await;
    if took < Duration::from_secs(10) { Ok(()) } else { Err(format!("after {took:?}")) }
}

#[tokio::test]
async fn a_disconnected_replicas_lease_moves_within_ten_seconds() {
    retry_timing("the lease after a disconnect", take_over_from_disconnected_replica).await;
}
