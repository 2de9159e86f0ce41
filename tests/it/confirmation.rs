//! The path of a registration to its confirmation, and how far a call waits along it.

use crate::harness::{
    CASE, Client, Fault, Finality, Registration, StackBuilder, State, TestStack, WaitFor, account, assert_pending,
    document, eventually, proxy::node_errors::UNSUPPORTED_TAG, register_request, retry_timing, within,
};
use alloy::primitives::B256;
use serde_json::json;
use std::time::Duration;
use tokio::{task::JoinHandle, time::Instant};

/// A registration call in its own task.
fn spawn_call(client: &Client, number: u64, wait_for: WaitFor) -> JoinHandle<Registration> {
    let client = client.clone();
    tokio::spawn(async move { client.register(register_request(number, CASE, wait_for)).await.unwrap() })
}

/// Confirmations of a registration's block at the current head.
async fn depth(stack: &TestStack, registration: &Registration) -> u64 {
    stack.anvil.head().await + 1 - registration.transaction.as_ref().unwrap().block_number()
}

#[tokio::test]
async fn a_first_document_is_confirmed_on_a_default_anvil() {
    let stack = StackBuilder::on_demand().start().await;

    let registration = stack.client.confirm(1, CASE).await;

    assert_eq!(registration.document_hash, document(1));
    assert_eq!(registration.submitted_as, document(1));
    assert_eq!(registration.case_id, CASE);
    assert_eq!((registration.blocked_reason.as_str(), &registration.failure), ("", &None));
    let events = stack.registry.events().await;
    assert_eq!(events.len(), 1);
    let transaction = registration.transaction.as_ref().unwrap();
    assert_eq!(transaction.hash, events[0].transaction.to_string());
    assert_eq!(transaction.from_address, account(1).to_string());
    assert_eq!(transaction.block_number, Some(events[0].block));
    assert_eq!((transaction.nonce, transaction.batch_size, transaction.attempts), (Some(0), 1, 1));
    let hash: B256 = transaction.hash.parse().unwrap();
    let receipt: serde_json::Value = stack.anvil.rpc().call("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["blockHash"], transaction.block_hash);
    let number = |name: &str| u64::from_str_radix(&receipt[name].as_str().unwrap()[2..], 16).unwrap();
    assert_eq!(transaction.gas_used, Some(number("gasUsed")));
    assert_eq!(transaction.effective_gas_price_wei, number("effectiveGasPrice").to_string());
    assert_eq!(transaction.fee_wei, (number("gasUsed") * number("effectiveGasPrice")).to_string());
}

#[tokio::test]
async fn timestamps_of_a_registration_are_in_order() {
    let stack = StackBuilder::block_time(0.2).start().await;

    let registration = stack.client.confirm(1, CASE).await;

    let transaction = registration.transaction.as_ref().unwrap();
    let times = [
        ("create", registration.create_time),
        ("prepare", transaction.prepare_time),
        ("sign", transaction.sign_time),
        ("submit", registration.submit_time),
        ("include", registration.include_time),
        ("confirm", registration.confirm_time),
    ];
    for pair in times.windows(2) {
        let [earlier, later] = [0, 1].map(|i| pair[i].1.unwrap_or_else(|| panic!("no {} time", pair[i].0)));
        let in_order = (earlier.seconds, earlier.nanos) <= (later.seconds, later.nanos);
        assert!(in_order, "{} at {earlier} is after {} at {later}", pair[0].0, pair[1].0);
    }
    assert_eq!(registration.fail_time, None);
    assert!(registration.update_time.is_some());
}

#[tokio::test]
async fn a_registration_is_confirmed_at_the_configured_depth_and_not_before() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    stack.anvil.stop_mining().await;
    let mut call = spawn_call(&stack.client, 1, WaitFor::Confirmed);
    eventually("the transaction to be pending", async || (stack.anvil.pending().await == 1).then_some(())).await;

    for mined in 1..=2 {
        stack.anvil.mine(1).await;
        let id = eventually("the registration", async || stack.client.get_pair(&document(1), CASE).await.ok()).await.id;
        // The service's own diagnosis shows that it follows the block at this depth.
        eventually("the service to see the block", async || {
            let evidence = stack.client.diagnose(&id).await.unwrap().diagnosis?.evidence;
            let says = |key: &str, value: &str| evidence.get(key).is_some_and(|actual| actual == value);
            (says("state", "included") && says("confirmations", &mined.to_string())).then_some(())
        })
        .await;
        assert_eq!(stack.client.get(&id).await.unwrap().state(), State::Included, "at depth {mined} of 3");
        assert!(!call.is_finished(), "answered at depth {mined} of 3");
    }
    stack.anvil.mine(1).await;

    let registration = within("the answer", &mut call).await.unwrap();
    assert_eq!(registration.state(), State::Confirmed);
    assert_eq!(depth(&stack, &registration).await, 3);
}

async fn assert_confirmed_at_depth_five(block_time: f64) {
    let stack = StackBuilder::block_time(block_time).set("REGISTRAR_CONFIRMATIONS", 5).start().await;

    let registration = stack.client.confirm(1, CASE).await;

    assert!(depth(&stack, &registration).await >= 5, "{registration:?}");
    assert!(registration.transaction.as_ref().unwrap().confirmations() >= 5, "{registration:?}");
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn five_blocks_of_200_ms_confirm_at_depth_five() {
    assert_confirmed_at_depth_five(0.2).await;
}

#[tokio::test]
async fn five_blocks_of_a_second_confirm_at_depth_five() {
    assert_confirmed_at_depth_five(1.0).await;
}

#[tokio::test]
async fn each_wait_for_level_is_answered_when_it_is_reached_and_not_before() {
    // With two slots per epoch, `safe` is 2 blocks behind the head and `finalized` 4.
    let builder = StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = builder.start().await;
    stack.anvil.stop_mining().await;
    use WaitFor::*;
    let mut calls: Vec<_> = [Accepted, Submitted, Included, Confirmed, Safe, Finalized]
        .map(|level| (level, spawn_call(&stack.client, 1, level)))
        .into();

    // Number of blocks at which each level is reached.
    for (blocks, level) in [(0, Accepted), (0, Submitted), (1, Included), (2, Confirmed), (3, Safe), (5, Finalized)] {
        let (reached, call) = calls.remove(0);
        assert_eq!(reached, level);
        if blocks == 1 {
            eventually("the transaction to be pending", async || (stack.anvil.pending().await == 1).then_some(()))
                .await;
        }
        let head = stack.anvil.head().await;
        let inclusion = stack.registry.events().await.first().map(|event| event.block);
        let mined = inclusion.map_or(0, |block| head + 1 - block);
        assert!(mined <= blocks, "{level:?} was reached only after {mined} blocks");
        if blocks > mined {
            stack.anvil.mine(blocks - mined).await;
        }
        let registration = within(&format!("the answer to {level:?}"), call).await.unwrap();
        match level {
            Accepted => {}
            Submitted => assert_eq!(registration.state(), State::Submitted),
            Included => assert_eq!(registration.state(), State::Included),
            Confirmed => assert_eq!(registration.state(), State::Confirmed),
            Safe => assert!(registration.finality() >= Finality::Safe, "{registration:?}"),
            Finalized => assert_eq!(registration.finality(), Finality::Finalized),
            Unspecified => unreachable!(),
        }
        for (later, call) in &mut calls {
            // Nothing separates `Accepted` and `Submitted`: the transaction is sent at once.
            if level != Accepted {
                let what = format!("the answer to {later:?} when only {level:?} is reached");
                assert_pending(&what, &mut *call, Duration::from_millis(50)).await;
            }
        }
    }
    assert_eq!(stack.registry.events().await.len(), 1);
}

#[tokio::test]
async fn a_call_without_wait_for_waits_for_the_confirmation() {
    let stack = StackBuilder::block_time(0.2).start().await;

    let registration = stack.client.register(register_request(1, CASE, WaitFor::Unspecified)).await.unwrap();

    assert_eq!(registration.state(), State::Confirmed);
}

#[tokio::test]
async fn a_level_that_is_already_reached_is_answered_at_once() {
    let stack = StackBuilder::on_demand().start().await;
    let confirmed = stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;

    for level in [WaitFor::Accepted, WaitFor::Submitted, WaitFor::Included, WaitFor::Confirmed] {
        let again = stack.client.register(register_request(1, CASE, level)).await.unwrap();
        assert_eq!((&again.id, again.state()), (&confirmed.id, State::Confirmed), "{level:?}");
    }
}

#[tokio::test]
async fn a_caller_that_disconnects_does_not_stop_its_registration() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let call = spawn_call(&stack.client, 1, WaitFor::Confirmed);
    let accepted = eventually("acceptance", async || stack.client.get_pair(&document(1), CASE).await.ok()).await;

    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    stack.anvil.mine_on_demand().await;

    let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.id, accepted.id);
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

/// Submits transactions, then mines them while another send hangs. Returns the time until all are confirmed.
async fn time_to_confirm_while_a_send_hangs() -> Duration {
    const COUNT: u64 = 8;
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    stack.anvil.stop_mining().await;
    let mut accepted = Vec::new();
    for number in 0..COUNT {
        let one = stack.client.accept(number, CASE).await;
        stack.client.wait_for_state(&one.id, State::Submitted).await;
        accepted.push(one);
    }
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::HoldRequest);
    injected.until_hit().await;
    let started = Instant::now();

    stack.anvil.mine(1).await;

    for one in &accepted {
        stack.client.wait_for_state(&one.id, State::Confirmed).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn a_hanging_send_does_not_delay_the_confirmation_of_other_transactions() {
    // The service times out a send after five seconds; if confirmations waited for it, they would come then.
    retry_timing("confirmations while a send hangs", async || {
        let took = time_to_confirm_while_a_send_hangs().await;
        if took < Duration::from_secs(4) { Ok(()) } else { Err(format!("after {took:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_shallow_reorg_is_noticed_without_another_block() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Included).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    assert_eq!(stack.registry.events().await, []);

    eventually("the transaction to be included again", async || stack.registry.events().await.pop()).await;
    stack.anvil.mine(2).await;
    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_reorg_of_a_confirmed_transaction_leaves_no_nonce_gap() {
    let stack = StackBuilder::on_demand().start().await;
    let first = stack.client.confirm(1, CASE).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    assert_eq!(stack.registry.events().await, []);

    stack.client.confirm(2, CASE).await;
    stack.client.wait_for_state(&first.id, State::Confirmed).await;
    stack.registry.assert_registered_exactly([1, 2].map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn a_missing_receipt_does_not_delay_other_transactions() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    stack.anvil.stop_mining().await;
    let mut sent = Vec::new();
    for number in [1, 2] {
        let accepted = stack.client.accept(number, CASE).await;
        sent.push(stack.client.wait_for_state(&accepted.id, State::Submitted).await);
    }
    let hash = &sent[0].transaction.as_ref().unwrap().hash;
    let injected = stack.proxy().inject_matching("eth_getTransactionReceipt", hash, Fault::LoseRequest);

    stack.anvil.mine(1).await;

    injected.until_hit().await;
    stack.client.wait_for_state(&sent[1].id, State::Confirmed).await;
    assert_eq!(stack.client.get(&sent[0].id).await.unwrap().state(), State::Submitted);
    injected.release();
    stack.client.wait_for_state(&sent[0].id, State::Confirmed).await;
}

#[tokio::test]
async fn finality_is_reached_by_the_tag_that_the_node_offers() {
    let builder = StackBuilder::on_demand().anvil(&["--slots-in-an-epoch", "2"]).through_proxy();
    let stack = builder.start().await;
    let refused = stack.proxy().inject_matching("eth_getBlockByNumber", "safe", Fault::Error(UNSUPPORTED_TAG));
    let waiting = spawn_call(&stack.client, 1, WaitFor::Finalized);
    eventually("the transaction's block", async || (!stack.registry.events().await.is_empty()).then_some(())).await;
    eventually("several polls", async || (refused.hits() > 2).then_some(())).await;
    stack.anvil.mine(5).await;
    let registration = within("finality", waiting).await.unwrap();
    assert_eq!(registration.finality(), Finality::Finalized);
    let warnings: Vec<_> = stack.service.log().into_iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!((warnings.len(), &warnings[0]["tag"]), (1, &"safe".into()), "{warnings:?}");
}
