//! A nonce that is missing before what is out, and one that somebody else has used.

use super::{holds, standstill, submit, versions};
use crate::harness::{Fault, Plan, Registration, Service, Stack, State, account, anvil::KEYS, eventually};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{B256, U64, U256, hex},
};
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

/// Somebody else's nonce 0 is gone after a reorg, and ours, nonce 1, waits for it.
async fn torn(stack: &Stack) -> (B256, Registration) {
    let gone = foreign(stack, 0).await;
    let submitted = submit(stack, 1).await;
    assert_eq!(submitted.transaction.as_ref().unwrap().nonce, Some(1));
    (gone, submitted)
}

async fn tear(stack: &Stack, gone: B256) {
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.rpc().run("anvil_dropTransaction", json!([gone])).await;
    assert_eq!(stack.anvil.nonce(account(1)).await, 0);
}

fn is_filler(sent: &TxEnvelope) -> bool {
    sent.nonce() == 0 && sent.input().is_empty()
}

/// Mines until both nonces are used.
async fn both_mined(stack: &Stack) {
    eventually("both nonces to be used", async || {
        stack.anvil.mine(1).await;
        (stack.anvil.nonce(account(1)).await == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_gap_that_a_reorg_tears_before_what_is_out_is_filled_with_a_transfer_of_nothing() {
    let mut stack = standstill(Plan::on_demand()).await;
    let (gone, submitted) = torn(&stack).await;
    tear(&stack, gone).await;
    stack.service.logged("the filling", |line| line["message"] == "a missing nonce was filled").await;

    both_mined(&stack).await;
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

    both_mined(&stack).await;
    stack.client.reaches(&first.id, State::Confirmed).await;
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn a_filler_that_no_node_answers_goes_out_again_until_one_has_it() {
    let stack = standstill(Plan::on_demand()).await;
    let (gone, submitted) = torn(&stack).await;
    let silence = stack.proxy().trap("eth_sendRawTransaction", Fault::LoseRequest);
    tear(&stack, gone).await;
    let filler = eventually("the filler", async || versions(&stack).into_iter().find(is_filler)).await;
    let bytes = hex::encode_prefixed(filler.encoded_2718());

    let sends = async || stack.proxy().sent().into_iter().filter(|sent| *sent == bytes).count();
    eventually("the same bytes again", async || (sends().await >= 3).then_some(())).await;
    assert!(by_hash(&stack, *filler.tx_hash()).await.is_null(), "the node has seen it");
    silence.release();

    both_mined(&stack).await;
    stack.client.reaches(&submitted.id, State::Confirmed).await;
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn a_signer_that_is_to_be_retired_is_asked_for_until_the_gap_before_its_last_work_is_filled() {
    let mut stack = standstill(Plan::on_demand().signers(2)).await;
    // The other signer has to leave the work to this one.
    let unpaid = stack.anvil.balance(account(2)).await;
    stack.anvil.set_balance(account(2), 0).await;
    let (gone, submitted) = torn(&stack).await;
    stack.service.kill();
    tear(&stack, gone).await;
    stack.anvil.set_balance(account(2), unpaid.to()).await;

    let without = stack.settings.clone().set("REGISTRAR_SIGNER_KEYS", KEYS[2]);
    let refused = Service::refused(&without).await;
    assert_eq!(refused.code, 64, "{}", refused.said);
    assert!(refused.said.contains(&account(1).to_string()), "{}", refused.said);

    stack.start_again().await;
    both_mined(&stack).await;
    stack.client.reaches(&submitted.id, State::Confirmed).await;
    // A filler carries nothing, and is waited for all the same.
    stack.service.kill();
    stack.settings = without;
    stack.start_again().await;
    stack.anvil.mine_on_demand().await;
    let next = stack.client.confirm(2, super::CASE).await;
    assert_eq!(next.transaction.unwrap().from_address, account(2).to_string());
    holds(&stack, [1, 2]).await;
}
