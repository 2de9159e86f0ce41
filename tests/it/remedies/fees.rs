//! Fees that rise and fall: what is out is signed again, at the same nonce, and whichever version is mined counts.

use super::{CASE, GWEI, are_replacements, holds, mined, signed_again, standstill, submit, versions};
use crate::harness::{Fault, Plan, Stack, State, account, eventually, proxy::dialects::NodeError};
use alloy::{consensus::Transaction, primitives::U256};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const SEND: &str = "eth_sendRawTransaction";
/// Base's.
const BLOCK_TIME: Duration = Duration::from_millis(200);
/// The cap of the settings, as it is by default.
const CAP: u128 = 5 * GWEI;
/// What anvil suggests.
const TIP: u128 = GWEI;
/// What a node says that has the bytes: a hash, in which nobody is interested who knows the bytes.
const TAKEN: &str = "\"0x0101010101010101010101010101010101010101010101010101010101010101\"";
const UNDERPRICED: NodeError = NodeError { code: -32000, message: "replacement transaction underpriced", data: None };

/// A block comes that asks this per gas, in gwei, and all that does not offer it is gone from the node's pool.
async fn block_asks(stack: &Stack, gwei: u64) {
    stack.anvil.set_base_fee(gwei).await;
    stack.anvil.mine(1).await;
}

async fn bumps(stack: &Stack) -> f64 {
    stack.service.metrics().await.value("registrar_fee_bumps_total", &[])
}

#[tokio::test]
async fn what_is_priced_out_is_signed_again_and_mined() {
    let stack = standstill(Plan::on_demand()).await;
    let submitted = submit(&stack, 1).await;

    block_asks(&stack, 3).await;
    let bumped = signed_again(&stack, &submitted.id, 2).await;
    eventually("the second version", async || (stack.anvil.pending().await == 1).then_some(())).await;

    let confirmed = mined(&stack, &submitted.id).await.transaction.unwrap();
    let versions = versions(&stack);
    assert_eq!(versions.len(), 2);
    are_replacements(&versions);
    assert!(versions.iter().all(|version| version.max_fee_per_gas() <= CAP));
    assert_eq!(confirmed.hash, versions[1].tx_hash().to_string());
    assert_eq!((confirmed.hash, confirmed.attempts), (bumped.transaction.unwrap().hash, 2));
    assert_eq!(bumps(&stack).await, 1.0);
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn the_first_version_counts_when_it_is_the_one_that_is_mined() {
    let stack = standstill(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 2)).await;
    let submitted = submit(&stack, 1).await;
    let first = stack.proxy().sent().remove(0);
    let held = stack.proxy().trap(SEND, Fault::HoldRequest);
    block_asks(&stack, 3).await;
    signed_again(&stack, &submitted.id, 2).await;

    // The node finds the first one again, and fees fall.
    stack.anvil.set_base_fee(1).await;
    stack.anvil.rpc().run(SEND, json!([first])).await;
    stack.anvil.mine(1).await;
    held.release();

    let included = stack.client.reaches(&submitted.id, State::Included).await.transaction.unwrap();
    let confirmed = mined(&stack, &submitted.id).await.transaction.unwrap();
    assert_eq!(confirmed.hash, submitted.transaction.unwrap().hash);
    assert_eq!((included.hash, confirmed.attempts), (confirmed.hash, 2));
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn a_crash_between_signing_again_and_sending_loses_nothing() {
    let mut stack = standstill(Plan::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    let held = stack.proxy().trap(SEND, Fault::HoldRequest);
    block_asks(&stack, 3).await;
    let bumped = signed_again(&stack, &submitted.id, 2).await.transaction.unwrap();

    stack.service.kill();
    assert_eq!(stack.anvil.pending().await, 0, "the node has seen no second version");
    held.release();
    stack.start_again().await;
    eventually("the second version", async || (stack.anvil.pending().await == 1).then_some(())).await;

    let confirmed = mined(&stack, &submitted.id).await.transaction.unwrap();
    assert_eq!((confirmed.hash, confirmed.attempts), (bumped.hash, 2));
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn a_node_that_wants_more_for_a_replacement_gets_it() {
    let stack = standstill(Plan::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    let unwilling = stack.proxy().trap(SEND, Fault::Error(UNDERPRICED));
    block_asks(&stack, 3).await;
    signed_again(&stack, &submitted.id, 2).await;

    signed_again(&stack, &submitted.id, 3).await;
    unwilling.release();
    eventually("a version", async || (stack.anvil.pending().await == 1).then_some(())).await;

    mined(&stack, &submitted.id).await;
    let versions = versions(&stack);
    assert!(versions.len() >= 3, "{}", versions.len());
    are_replacements(&versions);
    assert!(versions.iter().all(|version| version.max_fee_per_gas() <= CAP));
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn a_node_that_refuses_the_first_offer_gets_a_higher_one() {
    let stack = standstill(Plan::on_demand()).await;
    let refusal = NodeError { code: -32000, message: "transaction underpriced", data: None };
    let unwilling = stack.proxy().trap(SEND, Fault::Error(refusal));
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.sees(&accepted.id, "FEE_CAP", |seen| seen.blocked_reason == "FEE_CAP").await;

    signed_again(&stack, &accepted.id, 2).await;
    unwilling.release();

    stack.client.reaches(&accepted.id, State::Submitted).await;
    mined(&stack, &accepted.id).await;
    are_replacements(&versions(&stack));
}

#[tokio::test]
async fn a_spike_of_fifty_blocks_above_the_cap_is_over_two_blocks_after_it_is() {
    let stack = standstill(Plan::on_demand().signers(2)).await;
    let out = submit(&stack, 1).await;
    // Each empty block asks an eighth less than the one before.
    stack.anvil.set_base_fee(3_000).await;
    let first = stack.anvil.head().await + 1;
    let mut clock = tokio::time::interval(BLOCK_TIME);
    // A machine that is late does not make up for it by blocks that follow each other at once.
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = None;
    let mut over = None;
    for block in 1..=60 {
        clock.tick().await;
        stack.anvil.mine(1).await;
        if block == 10 {
            let queued = stack.client.accept(2, CASE).await;
            for id in [&out.id, &queued.id] {
                stack.client.sees(id, "FEE_CAP", |seen| seen.blocked_reason == "FEE_CAP").await;
            }
            waiting = Some(queued);
        }
        let number = stack.anvil.head().await;
        let header: Value =
            stack.anvil.rpc().call("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await;
        let base_fee: U256 = header["baseFeePerGas"].as_str().unwrap().parse().unwrap();
        if over.is_none() && base_fee.to::<u128>() + TIP <= CAP {
            over = Some(number);
        }
        if over.is_some() {
            break;
        }
    }
    // The next block comes when the node has both, however long that takes on a busy machine.
    let has_both = async || {
        let used = stack.anvil.nonce(account(1)).await + stack.anvil.nonce(account(2)).await;
        (used + stack.anvil.pending().await == 2).then_some(())
    };
    eventually("the node to have both", has_both).await;
    stack.anvil.mine(1).await;

    let over = over.expect("the spike does not end");
    assert!(over - first >= 45, "the spike lasts {} blocks", over - first);
    for id in [out.id, waiting.unwrap().id] {
        let confirmed = stack.client.reaches(&id, State::Confirmed).await;
        let block = confirmed.transaction.unwrap().block_number.unwrap();
        assert!(block <= over + 2, "the spike was over with block {over}, and this is in {block}");
        assert_eq!(confirmed.blocked_reason, "");
    }
    assert!(versions(&stack).iter().all(|version| version.max_fee_per_gas() <= CAP));
    holds(&stack, [1, 2]).await;
}

#[tokio::test]
async fn what_waits_long_with_nothing_wrong_is_outbid_all_the_same() {
    let stack = standstill(Plan::on_demand()).await;
    // The node says that it has it, blocks come, and whoever builds them leaves it out.
    let kept_out = stack.proxy().trap(SEND, Fault::Result(TAKEN));
    let submitted = submit(&stack, 1).await;
    let mut clock = tokio::time::interval(Duration::from_millis(500));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let is_bumped = async || {
        let seen = stack.client.get(&submitted.id).await.unwrap();
        seen.transaction.is_some_and(|of| of.attempts >= 2)
    };
    while !is_bumped().await {
        clock.tick().await;
        stack.anvil.mine(1).await;
    }

    kept_out.release();
    eventually("a version", async || (stack.anvil.pending().await == 1).then_some(())).await;
    mined(&stack, &submitted.id).await;
    are_replacements(&versions(&stack));
    holds(&stack, [1]).await;
}
