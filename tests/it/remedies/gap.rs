//! A nonce that is missing before what is out, and one that somebody else has used.

use super::{holds, standstill, submit};
use crate::harness::{Plan, Stack, State, account, eventually};
use alloy::primitives::{B256, U64, U256};
use serde_json::{Value, json};

/// A transaction that somebody else signs with the service's key, mined in a block of its own.
async fn foreign(stack: &Stack, nonce: u64) -> B256 {
    let fee = U256::from(100_000_000_000_u64);
    let call = json!({ "from": account(1), "to": account(9), "nonce": U64::from(nonce), "gas": U64::from(21_000),
        "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
    let hash = stack.anvil.rpc().call("eth_sendTransaction", json!([call])).await;
    stack.anvil.mine(1).await;
    hash
}

async fn by_hash(stack: &Stack, hash: B256) -> Value {
    stack.anvil.rpc().call("eth_getTransactionByHash", json!([hash])).await
}

#[tokio::test]
async fn a_gap_that_a_reorg_tears_before_what_is_out_is_filled_with_a_transfer_of_nothing() {
    let mut stack = standstill(Plan::on_demand()).await;
    let gone = foreign(&stack, 0).await;
    let submitted = submit(&stack, 1).await;
    assert_eq!(submitted.transaction.as_ref().unwrap().nonce, Some(1));

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.rpc().run("anvil_dropTransaction", json!([gone])).await;
    assert_eq!(stack.anvil.nonce(account(1)).await, 0);
    stack.service.logged("the filling", |line| line["message"] == "a missing nonce was filled").await;

    let filler = eventually("the filler", async || {
        stack.anvil.mine(1).await;
        (stack.anvil.nonce(account(1)).await == 2).then_some(())
    });
    filler.await;
    stack.client.reaches(&submitted.id, State::Confirmed).await;
    assert!(by_hash(&stack, gone).await.is_null());
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn what_a_foreign_transaction_displaced_is_registered_under_another_nonce() {
    let stack = standstill(Plan::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    let hash = submitted.transaction.unwrap().hash;
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash])).await;
    foreign(&stack, 0).await;
    stack.anvil.mine_on_demand().await;

    let confirmed = stack.client.reaches(&submitted.id, State::Confirmed).await.transaction.unwrap();

    assert_eq!(confirmed.nonce, Some(1));
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn a_gap_is_filled_with_what_was_signed_for_it_when_that_was_displaced_and_the_displacing_one_is_gone() {
    let mut stack = standstill(Plan::on_demand()).await;
    let first = submit(&stack, 1).await;
    let hash = first.transaction.unwrap().hash;
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash])).await;
    foreign(&stack, 0).await;
    // It is queued again and signed at the next nonce.
    let again = |seen: &crate::harness::Registration| seen.transaction.as_ref().is_some_and(|of| of.nonce == Some(1));
    stack.client.sees(&first.id, "another nonce", |seen| seen.state() == State::Submitted && again(seen)).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.service.logged("the filling", |line| line["message"] == "a missing nonce was filled").await;

    eventually("both nonces to be used", async || {
        stack.anvil.mine(1).await;
        (stack.anvil.nonce(account(1)).await == 2).then_some(())
    })
    .await;
    stack.client.reaches(&first.id, State::Confirmed).await;
    holds(&stack, [1]).await;
}
