//! Rising and falling fees: pending transactions are replaced at the same nonce, and whichever is mined counts.

use super::{
    CASE, GWEI, assert_registered, assert_replacements, mine_until_confirmed, sent_transactions, stalled_chain, submit,
    wait_for_attempts,
};
use crate::harness::{Fault, StackBuilder, State, TestStack, account, eventually, proxy::node_errors::NodeError};
use alloy::{consensus::Transaction, primitives::U256};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const SEND: &str = "eth_sendRawTransaction";
const BLOCK_TIME: Duration = Duration::from_millis(200);
/// The default `REGISTRAR_MAX_FEE_GWEI`.
const FEE_CAP: u128 = 5 * GWEI;
/// The priority fee that anvil suggests.
const TIP: u128 = GWEI;
const UNDERPRICED: NodeError = NodeError { code: -32000, message: "replacement transaction underpriced", data: None };

/// Mines a block with this base fee in gwei; anvil drops pending transactions below it.
async fn mine_with_base_fee(stack: &TestStack, gwei: u64) {
    stack.anvil.set_base_fee(gwei).await;
    stack.anvil.mine(1).await;
}

async fn bumps(stack: &TestStack) -> f64 {
    stack.service.metrics().await.value("registrar_fee_bumps_total", &[])
}

#[tokio::test]
async fn an_underpriced_transaction_is_replaced_and_mined() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let submitted = submit(&stack, 1).await;

    mine_with_base_fee(&stack, 3).await;
    let bumped = wait_for_attempts(&stack, &submitted.id, 2).await;
    eventually("the replacement to be pending", async || (stack.anvil.pending().await == 1).then_some(())).await;

    let confirmed = mine_until_confirmed(&stack, &submitted.id).await.transaction.unwrap();
    let sent = sent_transactions(&stack);
    assert_eq!(sent.len(), 2);
    assert_replacements(&sent);
    assert!(sent.iter().all(|transaction| transaction.max_fee_per_gas() <= FEE_CAP));
    assert_eq!(confirmed.hash, sent[1].tx_hash().to_string());
    assert_eq!((confirmed.hash, confirmed.attempts), (bumped.transaction.unwrap().hash, 2));
    assert_eq!(bumps(&stack).await, 1.0);
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_replaced_transaction_counts_when_it_is_mined() {
    let stack = stalled_chain(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    let submitted = submit(&stack, 1).await;
    let first = stack.proxy().sent().remove(0);
    let pending_send = stack.proxy().inject(SEND, Fault::HoldRequest);
    mine_with_base_fee(&stack, 3).await;
    wait_for_attempts(&stack, &submitted.id, 2).await;

    // The node gets the first transaction again, and the base fee falls.
    stack.anvil.set_base_fee(1).await;
    stack.anvil.rpc().run(SEND, json!([first])).await;
    stack.anvil.mine(1).await;
    pending_send.release();

    let included = stack.client.wait_for_state(&submitted.id, State::Included).await.transaction.unwrap();
    let confirmed = mine_until_confirmed(&stack, &submitted.id).await.transaction.unwrap();
    assert_eq!(confirmed.hash, submitted.transaction.unwrap().hash);
    assert_eq!((included.hash, confirmed.attempts), (confirmed.hash, 2));
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_crash_between_signing_and_sending_a_replacement_sends_it_later() {
    let mut stack = stalled_chain(StackBuilder::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    let pending_send = stack.proxy().inject(SEND, Fault::HoldRequest);
    mine_with_base_fee(&stack, 3).await;
    let bumped = wait_for_attempts(&stack, &submitted.id, 2).await.transaction.unwrap();

    stack.service.kill();
    assert_eq!(stack.anvil.pending().await, 0, "the node has the replacement");
    pending_send.release();
    stack.restart().await;
    eventually("the replacement to be pending", async || (stack.anvil.pending().await == 1).then_some(())).await;

    let confirmed = mine_until_confirmed(&stack, &submitted.id).await.transaction.unwrap();
    assert_eq!((confirmed.hash, confirmed.attempts), (bumped.hash, 2));
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_replacement_rejected_as_underpriced_is_bumped_again() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    let rejecting = stack.proxy().inject(SEND, Fault::Error(UNDERPRICED));
    mine_with_base_fee(&stack, 3).await;
    wait_for_attempts(&stack, &submitted.id, 2).await;

    wait_for_attempts(&stack, &submitted.id, 3).await;
    rejecting.release();
    eventually("a replacement to be pending", async || (stack.anvil.pending().await == 1).then_some(())).await;

    mine_until_confirmed(&stack, &submitted.id).await;
    let sent = sent_transactions(&stack);
    assert!(sent.len() >= 3, "{}", sent.len());
    assert_replacements(&sent);
    assert!(sent.iter().all(|transaction| transaction.max_fee_per_gas() <= FEE_CAP));
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_first_send_rejected_as_underpriced_is_bumped() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let error = NodeError { code: -32000, message: "transaction underpriced", data: None };
    let rejecting = stack.proxy().inject(SEND, Fault::Error(error));
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_until(&accepted.id, "FEE_CAP", |seen| seen.blocked_reason == "FEE_CAP").await;

    wait_for_attempts(&stack, &accepted.id, 2).await;
    rejecting.release();

    stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    mine_until_confirmed(&stack, &accepted.id).await;
    assert_replacements(&sent_transactions(&stack));
}

#[tokio::test]
async fn work_is_confirmed_two_blocks_after_a_long_fee_spike() {
    let stack = stalled_chain(StackBuilder::on_demand().signers(2)).await;
    let pending = submit(&stack, 1).await;
    // The base fee falls by an eighth with each empty block.
    stack.anvil.set_base_fee(3_000).await;
    let first = stack.anvil.head().await + 1;
    let mut ticks = tokio::time::interval(BLOCK_TIME);
    // A late tick must not be followed by blocks in quick succession.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = None;
    let mut over = None;
    for block in 1..=60 {
        ticks.tick().await;
        stack.anvil.mine(1).await;
        if block == 10 {
            let queued = stack.client.accept(2, CASE).await;
            for id in [&pending.id, &queued.id] {
                stack.client.wait_until(id, "FEE_CAP", |seen| seen.blocked_reason == "FEE_CAP").await;
            }
            waiting = Some(queued);
        }
        let number = stack.anvil.head().await;
        let header: Value =
            stack.anvil.rpc().call("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await;
        let base_fee: U256 = header["baseFeePerGas"].as_str().unwrap().parse().unwrap();
        if over.is_none() && base_fee.to::<u128>() + TIP <= FEE_CAP {
            over = Some(number);
        }
        if over.is_some() {
            break;
        }
    }
    // The next block is mined once the node has both transactions, however long that takes on a busy machine.
    let has_both = async || {
        let used = stack.anvil.nonce(account(1)).await + stack.anvil.nonce(account(2)).await;
        (used + stack.anvil.pending().await == 2).then_some(())
    };
    eventually("the node to have both transactions", has_both).await;
    stack.anvil.mine(1).await;

    let over = over.expect("the base fee stayed above the cap");
    assert!(over - first >= 45, "the spike lasts {} blocks", over - first);
    for id in [pending.id, waiting.unwrap().id] {
        let confirmed = stack.client.wait_for_state(&id, State::Confirmed).await;
        let block = confirmed.transaction.unwrap().block_number.unwrap();
        assert!(block <= over + 2, "the spike ended with block {over}, but this is in block {block}");
        assert_eq!(confirmed.blocked_reason, "");
    }
    assert!(sent_transactions(&stack).iter().all(|transaction| transaction.max_fee_per_gas() <= FEE_CAP));
    assert_registered(&stack, [1, 2]).await;
}

#[tokio::test]
async fn a_transaction_pending_for_long_is_replaced_without_a_known_cause() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    // The node accepts the transaction, but blocks are built without it.
    let excluded = stack.proxy().inject(SEND, Fault::NeverIncludeAbove(0));
    let submitted = submit(&stack, 1).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let is_bumped = async || {
        let seen = stack.client.get(&submitted.id).await.unwrap();
        seen.transaction.is_some_and(|of| of.attempts >= 2)
    };
    while !is_bumped().await {
        ticks.tick().await;
        stack.anvil.mine(1).await;
    }

    excluded.release();
    eventually("a replacement to be pending", async || (stack.anvil.pending().await == 1).then_some(())).await;
    mine_until_confirmed(&stack, &submitted.id).await;
    assert_replacements(&sent_transactions(&stack));
    assert_registered(&stack, [1]).await;
}
