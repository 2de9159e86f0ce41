//! Following a registration: every change once, from where one left off, to its end.

use crate::harness::{Finality, Plan, Registration, Stack, State, WaitFor};
use std::time::Duration;
use tonic::Code;

const CASE: &str = "case-1";

/// A service on a node that mines when told.
async fn standstill(plan: Plan) -> Stack {
    let stack = plan.start().await;
    stack.anvil.stop_mining().await;
    stack
}

/// The states of a journey, repeats left out.
fn states(seen: &[Registration]) -> Vec<State> {
    let mut states: Vec<State> = seen.iter().map(Registration::state).collect();
    states.dedup();
    states
}

fn revisions_grow(seen: &[Registration]) {
    let revisions: Vec<i64> = seen.iter().map(|registration| registration.revision).collect();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
}

#[tokio::test]
async fn a_watcher_sees_the_state_at_once_and_every_change_once() {
    let stack = standstill(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    let accepted = stack.client.accept(1, CASE).await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();

    let mut seen = vec![watch.next().await.unwrap().unwrap()];
    while seen.last().unwrap().state() != State::Submitted {
        seen.push(watch.next().await.unwrap().unwrap());
    }
    stack.anvil.mine(1).await;
    while seen.last().unwrap().state() != State::Included {
        seen.push(watch.next().await.unwrap().unwrap());
    }
    stack.anvil.mine(1).await;
    seen.extend(watch.rest().await);

    revisions_grow(&seen);
    let path = [State::Queued, State::Submitted, State::Included, State::Confirmed];
    assert!(path.ends_with(&states(&seen)) && states(&seen).len() >= 3, "{:?}", states(&seen));
    assert_eq!(seen.last().unwrap(), &stack.client.get(&accepted.id).await.unwrap());
}

#[tokio::test]
async fn two_watchers_see_the_same() {
    let stack = standstill(Plan::on_demand()).await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await;
    let mut one = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    let mut two = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    let first = one.next().await.unwrap().unwrap();
    assert_eq!(two.next().await.unwrap().unwrap(), first);

    stack.anvil.mine_on_demand().await;

    assert_eq!(one.rest().await.last(), two.rest().await.last());
}

#[tokio::test]
async fn a_stream_resumes_after_the_revision_it_is_told() {
    let stack = standstill(Plan::on_demand()).await;
    let accepted = stack.client.accept(1, CASE).await;
    let submitted = stack.client.reaches(&accepted.id, State::Submitted).await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, submitted.revision).await.unwrap();
    let mut next = Box::pin(watch.next());
    assert!(crate::harness::stays_pending(&mut next, Duration::from_millis(200)).await, "nothing is new yet");

    stack.anvil.mine_on_demand().await;
    let mut seen = vec![next.await.unwrap().unwrap()];
    seen.extend(watch.rest().await);

    assert!(seen[0].revision > submitted.revision);
    revisions_grow(&seen);
    assert_eq!(seen.last().unwrap().state(), State::Confirmed);
}

#[tokio::test]
async fn a_stream_of_a_settled_registration_gives_it_once_and_ends() {
    let stack = Plan::on_demand().start().await;
    let confirmed = stack.client.confirm(1, CASE).await;

    let seen = stack.client.watch(&confirmed.id, WaitFor::Confirmed, 0).await.unwrap().rest().await;
    assert_eq!(seen, std::slice::from_ref(&confirmed));

    let seen = stack.client.watch(&confirmed.id, WaitFor::Confirmed, confirmed.revision).await.unwrap().rest().await;
    assert_eq!(seen, [], "what the caller has is not sent again");
}

#[tokio::test]
async fn a_stream_ends_at_the_level_it_is_told() {
    let stack = standstill(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    let accepted = stack.client.accept(1, CASE).await;

    let seen = stack.client.watch(&accepted.id, WaitFor::Submitted, 0).await.unwrap().rest().await;
    assert_eq!(seen.last().unwrap().state(), State::Submitted);
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Included, 0).await.unwrap();
    stack.anvil.mine(1).await;
    assert_eq!(watch.rest().await.last().unwrap().state(), State::Included);
}

#[tokio::test]
async fn a_stream_goes_on_to_finality_when_it_is_told() {
    let stack = Plan::block_time(0.2).anvil(&["--slots-in-an-epoch", "2"]).start().await;
    let accepted = stack.client.accept(1, CASE).await;

    let seen = stack.client.watch(&accepted.id, WaitFor::Finalized, 0).await.unwrap().rest().await;

    revisions_grow(&seen);
    let last = seen.last().unwrap();
    assert_eq!((last.state(), last.finality()), (State::Confirmed, Finality::Finalized));
}

#[tokio::test]
async fn a_reader_that_is_late_gets_the_newest_state_and_the_end() {
    let stack = Plan::on_demand().start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();

    stack.client.reaches(&accepted.id, State::Confirmed).await;

    let seen = watch.rest().await;
    revisions_grow(&seen);
    assert_eq!(seen.last().unwrap().state(), State::Confirmed);
}

#[tokio::test]
async fn a_stream_ends_unavailable_when_the_server_shuts_down() {
    let mut stack = standstill(Plan::on_demand()).await;
    let accepted = stack.client.accept(1, CASE).await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    watch.next().await.unwrap().unwrap();

    stack.service.terminate();

    let refusal = loop {
        match watch.next().await.expect("an error ends the stream") {
            Ok(_) => {}
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.kind(), (Code::Unavailable, "SHUTTING_DOWN"));
    assert_eq!(stack.service.exit_code().await, 0);
}
