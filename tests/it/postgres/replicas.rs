//! Replicas that share one database: work accepted by one is done and visible on all.

use super::{CASE, wait_for_lease};
use crate::harness::{
    Cause, Client, Database, SentryStore, Service, StackBuilder, State, TestStack, WaitFor, account, document,
    eventually, register_request, retry_timing, wait::TEST_TIMEOUT,
};
use alloy::primitives::U64;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// A service that holds the signer's lease, and another replica that does not.
pub async fn pair(builder: StackBuilder) -> (TestStack, Service, Client) {
    let mut stack = builder.postgres().start().await;
    wait_for_lease(&mut stack.service).await;
    let (service, client) = stack.replica().await;
    (stack, service, client)
}

#[tokio::test]
async fn work_accepted_by_one_replica_is_confirmed_on_both() {
    let (stack, _other, client) = pair(StackBuilder::on_demand()).await;
    let mut numbers = 0..;

    // With notifications. By polling, which happens once a second, each would take a second.
    retry_timing("eight confirmations on the other replica", async || {
        let started = Instant::now();
        for number in numbers.by_ref().take(8) {
            let confirmed = client.confirm(number, CASE).await;
            assert_eq!(stack.client.get(&confirmed.id).await.unwrap(), confirmed);
        }
        if started.elapsed() < Duration::from_secs(7) { Ok(()) } else { Err(format!("took {:?}", started.elapsed())) }
    })
    .await;

    stack
        .registry
        .assert_registered_exactly((0..numbers.start).map(|number| (document(number), CASE.to_owned())))
        .await;
}

#[tokio::test]
async fn two_replicas_report_a_delayed_registration_once() {
    let sentry = SentryStore::start();
    let builder = StackBuilder::on_demand().sentry(&sentry).set("REGISTRAR_QUEUE_TIMEOUT", "2s");
    let (stack, other, client) = pair(builder).await;
    stack.anvil.set_balance(account(1), 0).await;
    let accepted = client.accept(1, CASE).await;
    let later = stack.client.accept(2, CASE).await;

    for (client, id) in [(&stack.client, &accepted.id), (&client, &later.id)] {
        client.wait_until(id, "a diagnosis", |registration| registration.diagnosis.is_some()).await;
    }
    let is_delay = |event: &Value| event["exception"]["values"][0]["type"] == "RegistrationDelayedError";
    sentry.events_where(2, "a delay of each registration", is_delay).await;
    // The replicas check once a second; a third document is reported after both have looked again.
    let last = client.accept(3, CASE).await;
    client.wait_until(&last.id, "a diagnosis", |registration| registration.diagnosis.is_some()).await;
    sentry.events_where(3, "the last delay", is_delay).await;

    assert_eq!(sentry.events().iter().filter(|event| is_delay(event)).count(), 3);
    let mut delayed = 0.0;
    for service in [&stack.service, &other] {
        let labels = [("cause", "insufficient_funds")];
        delayed += service.metrics().await.value("registrar_registrations_delayed_total", &labels);
    }
    assert_eq!(delayed, 3.0);
}

#[tokio::test]
async fn every_replica_counts_all_unfinished_registrations() {
    let (stack, other, _client) = pair(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 1)).await;
    stack.anvil.stop_mining().await;
    for number in 0..3 {
        stack.client.accept(number, CASE).await;
    }
    for service in [&stack.service, &other] {
        eventually("all three to be submitted, and none queued", async || {
            let page = service.metrics().await;
            let count = |state| page.value("registrar_in_flight", &[("state", state)]);
            (["queued", "signed", "submitted", "included"].map(count) == [0.0, 0.0, 3.0, 0.0]).then_some(())
        })
        .await;
    }
    stack.anvil.mine_on_demand().await;
}

#[tokio::test]
async fn a_watcher_on_the_other_replica_sees_every_change() {
    let (stack, _other, client) = pair(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let mut watch = client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();

    let mut seen = vec![watch.next().await.unwrap().unwrap()];
    for state in [State::Submitted, State::Included] {
        while seen.last().unwrap().state() != state {
            seen.push(watch.next().await.unwrap().unwrap());
        }
        stack.anvil.mine(1).await;
    }
    seen.extend(watch.rest().await);

    assert_eq!(seen.last().unwrap().state(), State::Confirmed);
    assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision), "a revision is repeated");
}

#[tokio::test]
async fn the_same_pairs_on_both_replicas_are_registered_once() {
    const COUNT: u64 = 100;
    let (stack, _other, client) = pair(StackBuilder::block_time(0.2).signers(2)).await;
    let confirm_all = |client: &Client, numbers: Vec<u64>| {
        let client = client.clone();
        join_all(numbers.into_iter().map(move |number| {
            let client = client.clone();
            async move { client.confirm(number, CASE).await.id }
        }))
    };

    let (one, mut other) = tokio::join!(
        confirm_all(&stack.client, (0..COUNT).collect()),
        confirm_all(&client, (0..COUNT).rev().collect())
    );

    other.reverse();
    assert_eq!(one, other);
    stack.registry.assert_registered_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_replica_has_at_most_twelve_database_connections() {
    let database = Database::new().await;
    let stack = StackBuilder::block_time(0.2).set("REGISTRAR_DATABASE_URL", database.url()).start().await;

    join_all((0..200).map(|number| stack.client.confirm(number, CASE))).await;

    let mut own = database.connect().await;
    let all = "SELECT COUNT(*) - 1 FROM pg_stat_activity WHERE datname = current_database() \
               AND backend_type = 'client backend'";
    let connections: i64 = sqlx::query_scalar(all).fetch_one(&mut own).await.unwrap();
    assert!((2..=12).contains(&connections), "{connections}");
}

#[tokio::test]
async fn both_replicas_give_the_same_diagnosis() {
    let (stack, _other, client) = pair(StackBuilder::on_demand()).await;
    stack.anvil.stop_mining().await;
    let first = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&first.id, State::Submitted).await;
    let second = client.accept(2, CASE).await;
    client.wait_for_state(&second.id, State::Submitted).await;
    // Blocks are mined but have no room for a registration.
    stack.anvil.rpc().run("evm_setBlockGasLimit", json!([U64::from(40_000)])).await;
    stack.anvil.mine(2).await;

    for (id, cause) in [(&first.id, Cause::TooLarge), (&second.id, Cause::BlockedByEarlierNonce)] {
        for client in [&stack.client, &client] {
            // Right after the submission there is no problem to diagnose yet.
            let diagnosed =
                async || (client.diagnose(id).await.unwrap().diagnosis.unwrap().cause() == cause).then_some(());
            eventually(cause.as_str_name(), diagnosed).await;
        }
    }
}

#[tokio::test]
async fn a_rolling_restart_fails_no_request_of_a_retrying_client() {
    let (mut stack, mut other, client) = pair(StackBuilder::block_time(0.2)).await;
    let addresses = watch::Sender::new([stack.client.clone(), client]);
    let done = CancellationToken::new();
    let callers = join_all((0..4_u64).map(|caller| {
        let (mut clients, done) = (addresses.subscribe(), done.clone());
        async move {
            let mut numbers = Vec::new();
            while !done.is_cancelled() || numbers.len() < 10 {
                let number = caller * 1_000_000 + numbers.len() as u64;
                register(&mut clients, number).await;
                numbers.push(number);
            }
            numbers
        }
    }));
    let restarts = async {
        stack.service.terminate();
        assert_eq!(stack.service.exit_code().await, 0);
        stack.restart().await;
        addresses.send_modify(|clients| clients[0] = stack.client.clone());
        other.terminate();
        assert_eq!(other.exit_code().await, 0);
        let (service, client) = stack.replica().await;
        other = service;
        addresses.send_modify(|clients| clients[1] = client);
        done.cancel();
    };

    let (numbers, ()) = tokio::join!(callers, restarts);

    let numbers = numbers.concat();
    stack
        .registry
        .assert_registered_exactly(numbers.into_iter().map(|number| (document(number), CASE.to_owned())))
        .await;
}

/// Registers on one replica or, while that one is shutting down or gone, on the other one.
pub async fn register(clients: &mut watch::Receiver<[Client; 2]>, number: u64) {
    let started = Instant::now();
    for turn in number.. {
        let client = clients.borrow()[(turn % 2) as usize].clone();
        match client.stub().register_document(register_request(number, CASE, WaitFor::Confirmed)).await {
            Ok(answer) => {
                let registration = answer.into_inner().registration.unwrap();
                return assert_eq!(registration.state(), State::Confirmed);
            }
            Err(status) => {
                // An error without a reason is the client's own: the replica refuses connections.
                let reason = status.metadata().get("x-error-reason").map(|reason| reason.to_str().unwrap());
                let is_expected = match reason {
                    Some(reason) => reason == "SHUTTING_DOWN" && status.code() == Code::Unavailable,
                    // The second one when the connection was closed before the request was on it.
                    None => matches!(status.code(), Code::Unavailable | Code::Cancelled),
                };
                assert!(is_expected, "{status:?}");
                assert!(started.elapsed() < TEST_TIMEOUT, "{status:?}");
                tokio::task::yield_now().await;
            }
        }
    }
}
