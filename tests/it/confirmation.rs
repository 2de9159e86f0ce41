//! A registration's journey to its confirmation, and how far a call waits along it.

use crate::harness::{
    Client, Fault, Finality, Plan, Registration, Stack, State, WaitFor, account, document, eventually, in_one_of,
    registering, stays_pending, within,
};
use alloy::primitives::B256;
use serde_json::json;
use std::time::Duration;
use tokio::{task::JoinHandle, time::Instant};

const CASE: &str = "case-1";

/// A call that waits on its own.
fn calling(client: &Client, number: u64, wait_for: WaitFor) -> JoinHandle<Registration> {
    let client = client.clone();
    tokio::spawn(async move { client.register(registering(number, CASE, wait_for)).await.unwrap() })
}

/// The depth of a registration's block now.
async fn depth(stack: &Stack, registration: &Registration) -> u64 {
    stack.anvil.head().await + 1 - registration.transaction.as_ref().unwrap().block_number()
}

#[tokio::test]
async fn a_newcomers_plain_anvil_confirms_the_first_document_at_once() {
    let stack = Plan::on_demand().start().await;

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
async fn the_times_of_a_journey_are_in_its_order() {
    let stack = Plan::block_time(0.2).start().await;

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
async fn a_registration_is_confirmed_at_its_depth_and_not_before() {
    let stack = Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    stack.anvil.stop_mining().await;
    let mut call = calling(&stack.client, 1, WaitFor::Confirmed);
    eventually("the transaction", async || (stack.anvil.pending().await == 1).then_some(())).await;

    for mined in 1..=2 {
        stack.anvil.mine(1).await;
        let id = eventually("the registration", async || stack.client.get_pair(&document(1), CASE).await.ok()).await.id;
        // The service itself says that it follows the block, and has seen this depth.
        eventually("the service to see the block", async || {
            let evidence = stack.client.diagnose(&id).await.unwrap().diagnosis?.evidence;
            let says = |key: &str, value: &str| evidence.get(key).is_some_and(|said| said == value);
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

async fn is_confirmed_at_depth_five(block_time: f64) {
    let stack = Plan::block_time(block_time).set("REGISTRAR_CONFIRMATIONS", 5).start().await;

    let registration = stack.client.confirm(1, CASE).await;

    assert!(depth(&stack, &registration).await >= 5, "{registration:?}");
    assert!(registration.transaction.as_ref().unwrap().confirmations() >= 5, "{registration:?}");
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn five_blocks_of_200_ms_confirm_at_depth_five() {
    is_confirmed_at_depth_five(0.2).await;
}

#[tokio::test]
async fn five_blocks_of_a_second_confirm_at_depth_five() {
    is_confirmed_at_depth_five(1.0).await;
}

#[tokio::test]
async fn each_level_of_wait_for_is_answered_when_it_is_reached_and_not_before() {
    // safe is 2 blocks behind the head, finalized 4.
    let plan = Plan::on_demand().anvil(&["--slots-in-an-epoch", "2"]).set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = plan.start().await;
    stack.anvil.stop_mining().await;
    use WaitFor::*;
    let mut calls: Vec<_> = [Accepted, Submitted, Included, Confirmed, Safe, Finalized]
        .map(|level| (level, calling(&stack.client, 1, level)))
        .into();

    // Blocks mined when each level is reached.
    for (blocks, level) in [(0, Accepted), (0, Submitted), (1, Included), (2, Confirmed), (3, Safe), (5, Finalized)] {
        let (reached, call) = calls.remove(0);
        assert_eq!(reached, level);
        if blocks == 1 {
            eventually("the transaction", async || (stack.anvil.pending().await == 1).then_some(())).await;
        }
        let head = stack.anvil.head().await;
        let inclusion = stack.registry.events().await.first().map(|event| event.block);
        let mined = inclusion.map_or(0, |block| head + 1 - block);
        assert!(mined <= blocks, "{level:?} takes {mined} blocks to be reached");
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
            let early = level != Accepted && !stays_pending(&mut *call, Duration::from_millis(50)).await;
            assert!(!early, "{later:?} is answered when only {level:?} is reached");
        }
    }
    assert_eq!(stack.registry.events().await.len(), 1);
}

#[tokio::test]
async fn a_call_that_says_nothing_of_waiting_waits_for_the_confirmation() {
    let stack = Plan::block_time(0.2).start().await;

    let registration = stack.client.register(registering(1, CASE, WaitFor::Unspecified)).await.unwrap();

    assert_eq!(registration.state(), State::Confirmed);
}

#[tokio::test]
async fn a_level_that_is_reached_already_is_answered_at_once() {
    let stack = Plan::on_demand().start().await;
    let confirmed = stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;

    for level in [WaitFor::Accepted, WaitFor::Submitted, WaitFor::Included, WaitFor::Confirmed] {
        let again = stack.client.register(registering(1, CASE, level)).await.unwrap();
        assert_eq!((&again.id, again.state()), (&confirmed.id, State::Confirmed), "{level:?}");
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_loses_nothing() {
    let stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let call = calling(&stack.client, 1, WaitFor::Confirmed);
    let accepted = eventually("acceptance", async || stack.client.get_pair(&document(1), CASE).await.ok()).await;

    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    stack.anvil.mine_on_demand().await;

    let confirmed = stack.client.reaches(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.id, accepted.id);
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

/// Eight are sent and then mined, while the node takes no transaction any more; how long it takes until all are confirmed.
async fn heard_of_while_a_send_hangs() -> Duration {
    const COUNT: u64 = 8;
    let stack = Plan::on_demand().through_proxy().start().await;
    stack.anvil.stop_mining().await;
    let mut accepted = Vec::new();
    for number in 0..COUNT {
        let one = stack.client.accept(number, CASE).await;
        stack.client.reaches(&one.id, State::Submitted).await;
        accepted.push(one);
    }
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::HoldRequest);
    trap.sprung().await;
    let began = Instant::now();

    stack.anvil.mine(1).await;

    for one in &accepted {
        stack.client.reaches(&one.id, State::Confirmed).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn a_node_that_takes_no_transactions_keeps_nobody_from_hearing_of_inclusion() {
    // A send is given up after five seconds: who waited for it would hear then.
    in_one_of("all to be heard of", async || {
        let took = heard_of_while_a_send_hangs().await;
        if took < Duration::from_secs(4) { Ok(()) } else { Err(format!("after {took:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_shallow_reorg_on_a_node_that_mines_on_demand_is_noticed_without_another_block() {
    let stack = Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Included).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    assert_eq!(stack.registry.events().await, []);

    eventually("the same bytes again", async || stack.registry.events().await.pop()).await;
    stack.anvil.mine(2).await;
    stack.client.reaches(&accepted.id, State::Confirmed).await;
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_confirmed_transaction_that_is_reorged_out_leaves_no_gap_before_the_next_nonce() {
    let stack = Plan::on_demand().start().await;
    let first = stack.client.confirm(1, CASE).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    assert_eq!(stack.registry.events().await, []);

    stack.client.confirm(2, CASE).await;
    stack.client.reaches(&first.id, State::Confirmed).await;
    stack.registry.holds_exactly([1, 2].map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn a_receipt_that_is_not_to_be_had_keeps_no_other_transaction() {
    let stack = Plan::on_demand().through_proxy().start().await;
    stack.anvil.stop_mining().await;
    let mut sent = Vec::new();
    for number in [1, 2] {
        let accepted = stack.client.accept(number, CASE).await;
        sent.push(stack.client.reaches(&accepted.id, State::Submitted).await);
    }
    let hash = &sent[0].transaction.as_ref().unwrap().hash;
    let trap = stack.proxy().trap_about("eth_getTransactionReceipt", hash, Fault::LoseRequest);

    stack.anvil.mine(1).await;

    trap.sprung().await;
    stack.client.reaches(&sent[1].id, State::Confirmed).await;
    assert_eq!(stack.client.get(&sent[0].id).await.unwrap().state(), State::Submitted);
    trap.release();
    stack.client.reaches(&sent[0].id, State::Confirmed).await;
}
