//! `kill -9` between each pair of steps, and a new start: nothing is lost, nothing is registered twice.

use crate::harness::{
    Fault, Plan, Stack, State, WaitFor, document, eventually, proxy::Trap, registering, wait::PATIENCE, within,
};
use alloy::primitives::{Bytes, keccak256};
use futures_util::future::join_all;
use std::{collections::BTreeSet, time::Duration};

const CASE: &str = "case-1";

/// A service behind a proxy, on a node that mines a block for each transaction.
async fn stack() -> Stack {
    Plan::on_demand().through_proxy().start().await
}

/// The hash of the transaction whose bytes a caught `eth_sendRawTransaction` carries.
async fn hash_of_caught(trap: &Trap) -> String {
    let call = trap.sprung().await;
    let bytes: Bytes = call["params"][0].as_str().unwrap().parse().unwrap();
    keccak256(bytes).to_string()
}

/// The end that every story here has to have. Returns the transaction's hash.
async fn all_is_well(stack: &Stack, id: &str) -> String {
    let registration = stack.client.reaches(id, State::Confirmed).await;
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
    registration.transaction.unwrap().hash
}

#[tokio::test]
async fn a_crash_between_accepting_and_signing_loses_nothing() {
    let mut stack = stack().await;
    let node_is_silent = stack.proxy().trap_all(Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    assert_eq!(accepted.state(), State::Queued);

    stack.service.kill();
    node_is_silent.release();
    assert_eq!(stack.proxy().count("eth_sendRawTransaction"), 0, "nothing was sent before the crash");
    stack.start_again().await;

    all_is_well(&stack, &accepted.id).await;
}

#[tokio::test]
async fn a_crash_between_signing_and_sending_loses_nothing_and_sends_the_same_bytes() {
    let mut stack = stack().await;
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_caught(&trap).await;

    stack.service.kill();
    trap.release();
    assert_eq!(stack.anvil.head().await, 1, "the node has not seen it: there is only the block of the contract");
    stack.start_again().await;

    assert_eq!(all_is_well(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_crash_before_the_answer_to_a_send_loses_nothing_and_sends_nothing_else() {
    let mut stack = stack().await;
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::HoldAnswer);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_caught(&trap).await;

    stack.service.kill();
    trap.release();
    stack.start_again().await;

    assert_eq!(all_is_well(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_send_whose_answer_is_lost_is_cured_without_a_restart() {
    let stack = stack().await;
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::LoseAnswer);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_caught(&trap).await;
    trap.release();

    assert_eq!(all_is_well(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_send_that_never_reaches_the_node_is_cured_without_a_restart_by_the_same_bytes() {
    let stack = stack().await;
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::LoseRequest);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_caught(&trap).await;
    trap.release();

    assert_eq!(all_is_well(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_crash_between_sending_and_inclusion_loses_nothing_and_sends_nothing_else() {
    let mut stack = stack().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let sent = stack.client.reaches(&accepted.id, State::Submitted).await.transaction.unwrap().hash;

    stack.crash().await;
    stack.anvil.mine(1).await;

    assert_eq!(all_is_well(&stack, &accepted.id).await, sent);
}

#[tokio::test]
async fn what_is_included_while_the_service_is_down_is_confirmed_when_it_is_back() {
    let mut stack = stack().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let sent = stack.client.reaches(&accepted.id, State::Submitted).await.transaction.unwrap().hash;

    stack.service.kill();
    stack.anvil.mine(5).await;
    stack.start_again().await;

    assert_eq!(all_is_well(&stack, &accepted.id).await, sent);
}

#[tokio::test]
async fn what_the_nodes_forgot_while_the_service_was_down_is_sent_again_with_the_same_bytes() {
    let mut stack = stack().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let sent = stack.client.reaches(&accepted.id, State::Submitted).await.transaction.unwrap().hash;

    stack.service.kill();
    stack.anvil.rpc().run("anvil_dropTransaction", serde_json::json!([sent])).await;
    assert_eq!(stack.anvil.pending().await, 0);
    stack.start_again().await;
    eventually("the same transaction", async || (stack.anvil.pending().await == 1).then_some(())).await;
    stack.anvil.mine(1).await;

    assert_eq!(all_is_well(&stack, &accepted.id).await, sent);
}

#[tokio::test]
async fn a_crash_between_inclusion_and_confirmation_loses_nothing_and_sends_nothing_else() {
    let mut stack = Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.reaches(&accepted.id, State::Included).await.transaction.unwrap().hash;

    stack.crash().await;
    assert_eq!(stack.client.get(&accepted.id).await.unwrap().state(), State::Included);
    stack.anvil.mine(2).await;

    assert_eq!(all_is_well(&stack, &accepted.id).await, included);
}

#[tokio::test]
async fn a_crash_after_inclusion_that_the_service_has_not_seen_loses_nothing() {
    let mut stack = stack().await;
    let trap = stack.proxy().trap("eth_getTransactionReceipt", Fault::HoldRequest);
    let logs = stack.proxy().trap("eth_getLogs", Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    let event = eventually("the event", async || stack.registry.events().await.pop()).await;
    assert_ne!(stack.client.get(&accepted.id).await.unwrap().state(), State::Confirmed, "the service cannot know yet");

    stack.service.kill();
    trap.release();
    logs.release();
    stack.start_again().await;

    assert_eq!(all_is_well(&stack, &accepted.id).await, event.transaction.to_string());
}

#[tokio::test]
async fn a_journey_keeps_its_trace_through_a_crash() {
    let mut stack = stack().await;
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    trap.sprung().await;

    stack.service.kill();
    trap.release();
    stack.start_again().await;

    let confirmed = stack.client.reaches(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.trace_id, accepted.trace_id);
    assert_eq!(confirmed.create_time, accepted.create_time);
}

#[tokio::test]
async fn what_failed_and_what_is_confirmed_stays_so_through_a_crash() {
    let mut stack = stack().await;
    let confirmed = stack.client.confirm(1, CASE).await;

    stack.crash().await;

    assert_eq!(stack.client.get(&confirmed.id).await.unwrap(), confirmed);
}

#[tokio::test]
async fn five_crashes_during_a_flood_lose_nothing_and_register_nothing_twice() {
    const COUNT: u64 = 300;
    let mut stack = Plan::block_time(0.2).signers(2).start().await;
    let mut accepted = BTreeSet::new();

    for round in 0..6 {
        let numbers = round * COUNT / 6..(round + 1) * COUNT / 6;
        // Half of the rounds are cut off in the middle of accepting, at whatever step each registration has reached.
        let client = stack.client.clone();
        let calls = join_all(numbers.clone().map(async |number| {
            let answer = client.stub().register_document(registering(number, CASE, WaitFor::Submitted)).await;
            answer.is_ok().then_some(number)
        }));
        let patience = if round % 2 == 0 { Duration::from_millis(40 * (round + 1)) } else { PATIENCE };
        if let Ok(answered) = tokio::time::timeout(patience, calls).await {
            accepted.extend(answered.into_iter().flatten());
        }
        if round < 5 {
            stack.crash().await;
        }
    }
    assert!(accepted.len() as u64 >= COUNT / 2, "only {} were accepted", accepted.len());

    // A caller that got no answer asks again, as callers do.
    let again = (0..COUNT).map(|number| stack.client.register(registering(number, CASE, WaitFor::Confirmed)));
    for answer in within("every answer", join_all(again)).await {
        assert_eq!(answer.unwrap().state(), State::Confirmed);
    }
    stack.registry.holds_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn what_was_accepted_before_crashes_needs_no_caller_to_be_finished() {
    const COUNT: u64 = 60;
    let mut stack = Plan::block_time(0.2).signers(2).start().await;
    let accepted = join_all((0..COUNT).map(|number| stack.client.accept(number, CASE))).await;

    for _ in 0..3 {
        stack.crash().await;
    }

    for registration in accepted {
        stack.client.reaches(&registration.id, State::Confirmed).await;
    }
    stack.registry.holds_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}
