//! Nonce gaps before pending transactions, and nonces used by an external transaction.

use super::{assert_registered, sent_transactions, stalled_chain, submit};
use crate::harness::{Fault, Registration, Service, StackBuilder, State, TestStack, account, anvil::KEYS, eventually};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{B256, U64, U256, hex},
};
use serde_json::{Value, json};

/// Sends a transaction that the service does not know, signed with its key, and mines it in a block of its own.
async fn mine_external(stack: &TestStack, nonce: u64) -> B256 {
    let fee = U256::from(100_000_000_000_u64);
    let call = json!({ "from": account(1), "to": account(9), "nonce": U64::from(nonce), "gas": U64::from(21_000),
        "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
    let hash = stack.anvil.rpc().call("eth_sendTransaction", json!([call])).await;
    stack.anvil.mine(1).await;
    hash
}

async fn by_hash(stack: &TestStack, hash: B256) -> Value {
    stack.anvil.rpc().call("eth_getTransactionByHash", json!([hash])).await
}

/// An external transaction with nonce 0 is mined, and the service's has nonce 1.
async fn external_before_ours(stack: &TestStack) -> (B256, Registration) {
    let external = mine_external(stack, 0).await;
    let submitted = submit(stack, 1).await;
    assert_eq!(submitted.transaction.as_ref().unwrap().nonce, Some(1));
    (external, submitted)
}

async fn remove_by_reorg(stack: &TestStack, external: B256) {
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.rpc().run("anvil_dropTransaction", json!([external])).await;
    assert_eq!(stack.anvil.nonce(account(1)).await, 0);
}

fn is_filler(sent: &TxEnvelope) -> bool {
    sent.nonce() == 0 && sent.input().is_empty()
}

/// Mines until both nonces are used.
async fn both_mined(stack: &TestStack) {
    eventually("both nonces to be used", async || {
        stack.anvil.mine(1).await;
        (stack.anvil.nonce(account(1)).await == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_nonce_gap_after_a_reorg_is_filled_with_an_empty_transfer() {
    let mut stack = stalled_chain(StackBuilder::on_demand()).await;
    let (external, submitted) = external_before_ours(&stack).await;
    remove_by_reorg(&stack, external).await;
    stack.service.wait_for_log("the filled gap", |line| line["message"] == "nonce gap filled").await;

    both_mined(&stack).await;
    stack.client.wait_for_state(&submitted.id, State::Confirmed).await;
    assert!(by_hash(&stack, external).await.is_null());
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_registration_displaced_externally_gets_another_nonce() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    let hash = submitted.transaction.unwrap().hash;
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash])).await;
    mine_external(&stack, 0).await;
    stack.anvil.mine_on_demand().await;

    let confirmed = stack.client.wait_for_state(&submitted.id, State::Confirmed).await.transaction.unwrap();

    assert_eq!(confirmed.nonce, Some(1));
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_nonce_gap_is_filled_with_the_transaction_signed_for_it() {
    let mut stack = stalled_chain(StackBuilder::on_demand()).await;
    let first = submit(&stack, 1).await;
    let hash = first.transaction.unwrap().hash;
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash])).await;
    mine_external(&stack, 0).await;
    // It is queued again and signed with the next nonce.
    let again = |seen: &crate::harness::Registration| seen.transaction.as_ref().is_some_and(|of| of.nonce == Some(1));
    stack.client.wait_until(&first.id, "another nonce", |seen| seen.state() == State::Submitted && again(seen)).await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.service.wait_for_log("the filled gap", |line| line["message"] == "nonce gap filled").await;

    both_mined(&stack).await;
    stack.client.wait_for_state(&first.id, State::Confirmed).await;
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn an_unanswered_filler_is_rebroadcast() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let (external, submitted) = external_before_ours(&stack).await;
    let silence = stack.proxy().inject("eth_sendRawTransaction", Fault::LoseRequest);
    remove_by_reorg(&stack, external).await;
    let filler = eventually("the filler", async || sent_transactions(&stack).into_iter().find(is_filler)).await;
    let bytes = hex::encode_prefixed(filler.encoded_2718());

    let sends = async || stack.proxy().sent().into_iter().filter(|sent| *sent == bytes).count();
    eventually("the filler to be rebroadcast", async || (sends().await >= 3).then_some(())).await;
    assert!(by_hash(&stack, *filler.tx_hash()).await.is_null(), "the node has the filler");
    silence.release();

    both_mined(&stack).await;
    stack.client.wait_for_state(&submitted.id, State::Confirmed).await;
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_signer_cannot_be_removed_before_its_nonce_gap_is_filled() {
    let mut stack = stalled_chain(StackBuilder::on_demand().signers(2)).await;
    // Without funds the other signer leaves the work to this one.
    let unpaid = stack.anvil.balance(account(2)).await;
    stack.anvil.set_balance(account(2), 0).await;
    let (external, submitted) = external_before_ours(&stack).await;
    stack.service.kill();
    remove_by_reorg(&stack, external).await;
    stack.anvil.set_balance(account(2), unpaid.to()).await;

    let without = stack.settings.clone().set("REGISTRAR_SIGNER_KEYS", KEYS[2]);
    let failed = Service::expect_start_failure(&without).await;
    assert_eq!(failed.code, 64, "{}", failed.output);
    assert!(failed.output.contains(&account(1).to_string()), "{}", failed.output);

    stack.restart().await;
    both_mined(&stack).await;
    stack.client.wait_for_state(&submitted.id, State::Confirmed).await;
    // A filler has no registration, but is waited for too.
    stack.service.kill();
    stack.settings = without;
    stack.restart().await;
    stack.anvil.mine_on_demand().await;
    let next = stack.client.confirm(2, super::CASE).await;
    assert_eq!(next.transaction.unwrap().from_address, account(2).to_string());
    assert_registered(&stack, [1, 2]).await;
}
