//! Watching a registration: every change once, resumable, until its end.

use crate::harness::{CASE, Finality, Registration, StackBuilder, State, TestStack, WaitFor};
use std::time::Duration;
use tonic::Code;

async fn stalled_chain(builder: StackBuilder) -> TestStack {
    let stack = builder.start().await;
    stack.anvil.stop_mining().await;
    stack
}

/// The sequence of states, without repeats.
fn states(seen: &[Registration]) -> Vec<State> {
    let mut states: Vec<State> = seen.iter().map(Registration::state).collect();
    states.dedup();
    states
}

fn assert_revisions_increase(seen: &[Registration]) {
    let revisions: Vec<i64> = seen.iter().map(|registration| registration.revision).collect();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
}

#[tokio::test]
async fn a_watcher_gets_the_state_at_once_and_every_change_once() {
    let stack = stalled_chain(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
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

    assert_revisions_increase(&seen);
    let path = [State::Queued, State::Submitted, State::Included, State::Confirmed];
    assert!(path.ends_with(&states(&seen)) && states(&seen).len() >= 3, "{:?}", states(&seen));
    assert_eq!(seen.last().unwrap(), &stack.client.get(&accepted.id).await.unwrap());
}

#[tokio::test]
async fn two_watchers_get_the_same_states() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    let mut one = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    let mut two = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    let first = one.next().await.unwrap().unwrap();
    assert_eq!(two.next().await.unwrap().unwrap(), first);

    stack.anvil.mine_on_demand().await;

    assert_eq!(one.rest().await.last(), two.rest().await.last());
}

#[tokio::test]
async fn a_stream_resumes_after_a_given_revision() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let accepted = stack.client.accept(1, CASE).await;
    let submitted = stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, submitted.revision).await.unwrap();
    let mut next = Box::pin(watch.next());
    crate::harness::assert_pending("the next state without a change", &mut next, Duration::from_millis(200)).await;

    stack.anvil.mine_on_demand().await;
    let mut seen = vec![next.await.unwrap().unwrap()];
    seen.extend(watch.rest().await);

    assert!(seen[0].revision > submitted.revision);
    assert_revisions_increase(&seen);
    assert_eq!(seen.last().unwrap().state(), State::Confirmed);
}

#[tokio::test]
async fn a_stream_of_a_confirmed_registration_returns_it_once_and_ends() {
    let stack = StackBuilder::on_demand().start().await;
    let confirmed = stack.client.confirm(1, CASE).await;

    let seen = stack.client.watch(&confirmed.id, WaitFor::Confirmed, 0).await.unwrap().rest().await;
    assert_eq!(seen, std::slice::from_ref(&confirmed));

    let seen = stack.client.watch(&confirmed.id, WaitFor::Confirmed, confirmed.revision).await.unwrap().rest().await;
    assert_eq!(seen, [], "a revision that the caller has is sent again");
}

#[tokio::test]
async fn a_stream_ends_at_the_requested_level() {
    let stack = stalled_chain(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    let accepted = stack.client.accept(1, CASE).await;

    let seen = stack.client.watch(&accepted.id, WaitFor::Submitted, 0).await.unwrap().rest().await;
    assert_eq!(seen.last().unwrap().state(), State::Submitted);
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Included, 0).await.unwrap();
    stack.anvil.mine(1).await;
    assert_eq!(watch.rest().await.last().unwrap().state(), State::Included);
}

#[tokio::test]
async fn a_stream_continues_to_finality_on_request() {
    let stack = StackBuilder::block_time(0.2).anvil(&["--slots-in-an-epoch", "2"]).start().await;
    let accepted = stack.client.accept(1, CASE).await;

    let seen = stack.client.watch(&accepted.id, WaitFor::Finalized, 0).await.unwrap().rest().await;

    assert_revisions_increase(&seen);
    let last = seen.last().unwrap();
    assert_eq!((last.state(), last.finality()), (State::Confirmed, Finality::Finalized));
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_state_and_the_end() {
    let stack = StackBuilder::on_demand().start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();

    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;

    let seen = watch.rest().await;
    assert_revisions_increase(&seen);
    assert_eq!(seen.last().unwrap().state(), State::Confirmed);
}

#[tokio::test]
async fn a_stream_ends_unavailable_when_the_server_shuts_down() {
    let mut stack = stalled_chain(StackBuilder::on_demand()).await;
    let accepted = stack.client.accept(1, CASE).await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, 0).await.unwrap();
    watch.next().await.unwrap().unwrap();

    stack.service.terminate();

    let error = loop {
        match watch.next().await.expect("an error ends the stream") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), (Code::Unavailable, "SHUTTING_DOWN"));
    assert_eq!(stack.service.exit_code().await, 0);
}
