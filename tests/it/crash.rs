//! `kill -9` between each pair of steps, and a restart: no registration is lost or duplicated.

use crate::harness::{
    CASE, Fault, StackBuilder, State, TestStack, WaitFor, document, eventually, proxy::InjectedFault, register_request,
    wait::TEST_TIMEOUT, within,
};
use alloy::primitives::{Bytes, keccak256};
use futures_util::future::join_all;
use std::{collections::BTreeSet, time::Duration};

async fn stack() -> TestStack {
    StackBuilder::on_demand().through_proxy().start().await
}

/// The hash of the transaction in the first matched `eth_sendRawTransaction`.
async fn hash_of_hit(injected: &InjectedFault) -> String {
    let call = injected.until_hit().await;
    let bytes: Bytes = call["params"][0].as_str().unwrap().parse().unwrap();
    keccak256(bytes).to_string()
}

/// Asserts that the registration is confirmed and on chain once. Returns the transaction's hash.
async fn assert_confirmed_once(stack: &TestStack, id: &str) -> String {
    let registration = stack.client.wait_for_state(id, State::Confirmed).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
    registration.transaction.unwrap().hash
}

#[tokio::test]
async fn a_crash_before_signing_loses_no_registration() {
    let mut stack = stack().await;
    let no_answers = stack.proxy().inject_all(Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    assert_eq!(accepted.state(), State::Queued);

    stack.service.kill();
    no_answers.release();
    assert_eq!(stack.proxy().count("eth_sendRawTransaction"), 0, "nothing was sent before the crash");
    stack.restart().await;

    assert_confirmed_once(&stack, &accepted.id).await;
}

#[tokio::test]
async fn a_crash_between_signing_and_sending_sends_the_same_transaction() {
    let mut stack = stack().await;
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::Hang);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_hit(&injected).await;

    stack.service.kill();
    injected.release();
    assert_eq!(stack.anvil.head().await, 1, "only the contract's block exists");
    stack.restart().await;

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_crash_before_the_answer_to_a_send_sends_no_other_transaction() {
    let mut stack = stack().await;
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::HoldResponse);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_hit(&injected).await;

    stack.service.kill();
    injected.release();
    stack.restart().await;

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_send_whose_answer_is_lost_is_confirmed_without_a_restart() {
    let stack = stack().await;
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::LoseResponse);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_hit(&injected).await;
    injected.release();

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_send_that_never_reaches_the_node_is_repeated_without_a_restart() {
    let stack = stack().await;
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::LoseRequest);
    let accepted = stack.client.accept(1, CASE).await;
    let signed = hash_of_hit(&injected).await;
    injected.release();

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, signed);
}

#[tokio::test]
async fn a_crash_between_sending_and_inclusion_sends_no_other_transaction() {
    let mut stack = stack().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let sent = stack.client.wait_for_state(&accepted.id, State::Submitted).await.transaction.unwrap().hash;

    stack.crash().await;
    stack.anvil.mine(1).await;

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, sent);
}

#[tokio::test]
async fn a_transaction_included_while_the_service_is_down_is_confirmed_after_the_restart() {
    let mut stack = stack().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let sent = stack.client.wait_for_state(&accepted.id, State::Submitted).await.transaction.unwrap().hash;

    stack.service.kill();
    stack.anvil.mine(5).await;
    stack.restart().await;

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, sent);
}

#[tokio::test]
async fn a_transaction_dropped_while_the_service_is_down_is_rebroadcast() {
    let mut stack = stack().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let sent = stack.client.wait_for_state(&accepted.id, State::Submitted).await.transaction.unwrap().hash;

    stack.service.kill();
    stack.anvil.rpc().run("anvil_dropTransaction", serde_json::json!([sent])).await;
    assert_eq!(stack.anvil.pending().await, 0);
    stack.restart().await;
    eventually("the rebroadcast", async || (stack.anvil.pending().await == 1).then_some(())).await;
    stack.anvil.mine(1).await;

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, sent);
}

#[tokio::test]
async fn a_crash_between_inclusion_and_confirmation_sends_no_other_transaction() {
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.wait_for_state(&accepted.id, State::Included).await.transaction.unwrap().hash;

    stack.crash().await;
    assert_eq!(stack.client.get(&accepted.id).await.unwrap().state(), State::Included);
    stack.anvil.mine(2).await;

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, included);
}

#[tokio::test]
async fn a_crash_before_the_inclusion_is_noticed_loses_no_registration() {
    let mut stack = stack().await;
    let injected = stack.proxy().inject("eth_getTransactionReceipt", Fault::HoldRequest);
    let logs = stack.proxy().inject("eth_getLogs", Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    let event = eventually("the event", async || stack.registry.events().await.pop()).await;
    assert_ne!(
        stack.client.get(&accepted.id).await.unwrap().state(),
        State::Confirmed,
        "the service cannot have seen the receipt yet"
    );

    stack.service.kill();
    injected.release();
    logs.release();
    stack.restart().await;

    assert_eq!(assert_confirmed_once(&stack, &accepted.id).await, event.transaction.to_string());
}

#[tokio::test]
async fn a_registration_keeps_its_trace_id_through_a_crash() {
    let mut stack = stack().await;
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::HoldRequest);
    let accepted = stack.client.accept(1, CASE).await;
    injected.until_hit().await;

    stack.service.kill();
    injected.release();
    stack.restart().await;

    let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.trace_id, accepted.trace_id);
    assert_eq!(confirmed.create_time, accepted.create_time);
}

#[tokio::test]
async fn a_confirmed_registration_is_unchanged_by_a_crash() {
    let mut stack = stack().await;
    let confirmed = stack.client.confirm(1, CASE).await;

    stack.crash().await;

    assert_eq!(stack.client.get(&confirmed.id).await.unwrap(), confirmed);
}

#[tokio::test]
async fn five_crashes_under_load_lose_and_duplicate_no_registration() {
    const COUNT: u64 = 300;
    let mut stack = StackBuilder::block_time(0.2).signers(2).start().await;
    let mut accepted = BTreeSet::new();

    for round in 0..6 {
        let numbers = round * COUNT / 6..(round + 1) * COUNT / 6;
        // In half of the rounds the crash happens while calls are still being answered, at whatever step each
        // registration is.
        let client = stack.client.clone();
        let calls = join_all(numbers.clone().map(async |number| {
            let answer = client.stub().register_document(register_request(number, CASE, WaitFor::Submitted)).await;
            answer.is_ok().then_some(number)
        }));
        let round_limit = if round % 2 == 0 { Duration::from_millis(40 * (round + 1)) } else { TEST_TIMEOUT };
        if let Ok(answered) = tokio::time::timeout(round_limit, calls).await {
            accepted.extend(answered.into_iter().flatten());
        }
        if round < 5 {
            stack.crash().await;
        }
    }
    assert!(accepted.len() as u64 >= COUNT / 2, "only {} were accepted", accepted.len());

    // Callers that got no answer repeat their request.
    let again = (0..COUNT).map(|number| stack.client.register(register_request(number, CASE, WaitFor::Confirmed)));
    for answer in within("every answer", join_all(again)).await {
        assert_eq!(answer.unwrap().state(), State::Confirmed);
    }
    stack.registry.assert_registered_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn accepted_registrations_are_confirmed_after_crashes_without_a_caller() {
    const COUNT: u64 = 60;
    let mut stack = StackBuilder::block_time(0.2).signers(2).start().await;
    let accepted = join_all((0..COUNT).map(|number| stack.client.accept(number, CASE))).await;

    for _ in 0..3 {
        stack.crash().await;
    }

    for registration in accepted {
        stack.client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    stack.registry.assert_registered_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}
