//! Late confirmations whose cause is the transaction.

use super::{
    CASE, assert_evidence, assert_explains, assert_late, assert_reported_consistently, diagnose, diagnosis_of_error,
    explained, late_after, submit,
};
use crate::harness::{
    Cause, EXTERNAL_REGISTRAR, Fault, OWNER, StackBuilder, State, TestStack, account, document, eventually,
    proxy::node_errors::{NodeError, SENDER_LIMIT},
    register_until_timeout,
    registry::{addRegistrarCall, registerDocumentCall, removeRegistrarCall},
    retry_timing,
};
use alloy::primitives::{B256, U64, U256};
use serde_json::{Value, json};
use std::collections::HashSet;

const GWEI: u64 = 1_000_000_000;
const ETHER: u128 = 1_000_000_000_000_000_000;
/// An error that no node error table has.
const UNKNOWN_ERROR: NodeError = NodeError { code: -32000, message: "the pool is being rebuilt", data: None };

async fn stalled_chain(builder: StackBuilder) -> TestStack {
    let stack = builder.start().await;
    stack.anvil.stop_mining().await;
    stack
}

/// Mines again and waits for the document's confirmation.
async fn mine_until_confirmed(stack: &TestStack, number: u64) {
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(number), CASE).await.unwrap().id;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}

/// Sends a transaction that the service does not know, signed with its key.
async fn send_external(stack: &TestStack, nonce: u64, gwei: u64) -> B256 {
    let fee = U256::from(gwei * GWEI);
    let call = json!({ "from": account(1), "to": account(9), "nonce": U64::from(nonce), "gas": U64::from(21_000),
        "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
    stack.anvil.rpc().call("eth_sendTransaction", json!([call])).await
}

async fn hash_of(stack: &TestStack, number: u64) -> String {
    stack.client.get_pair(&document(number), CASE).await.unwrap().transaction.unwrap().hash
}

#[tokio::test]
async fn a_base_fee_above_the_max_fee_is_fee_too_low() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 6)).await;
    submit(&stack, 1).await;
    stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([U256::from(100 * GWEI)])).await;
    stack.anvil.mine(1).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::FeeTooLow).await;

    assert_evidence(&diagnosis, &[("maxFeePerGasWei", "2500000000")]);
    assert_explains(&diagnosis, &["maximum fee is 2.5 gwei per gas", "REGISTRAR_MAX_FEE_GWEI"]);
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().blocked_reason, "FEE_CAP");
    stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([U256::from(GWEI)])).await;
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn blocks_full_of_higher_tips_are_tip_too_low() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 10)).await;
    submit(&stack, 1).await;
    // A block has room for either the service's transaction or another payment.
    stack.anvil.rpc().run("evm_setBlockGasLimit", json!([U64::from(60_000)])).await;
    for _ in 0..12 {
        let fee = U256::from(20 * GWEI);
        let call = json!({ "from": account(5), "to": account(9), "gas": U64::from(21_000), "maxFeePerGas": fee,
            "maxPriorityFeePerGas": U256::from(9 * GWEI) });
        stack.anvil.rpc().run("eth_sendTransaction", json!([call])).await;
        stack.anvil.mine(1).await;
    }

    let diagnosis = assert_late(&mut stack, 1, Cause::TipTooLow).await;

    assert_evidence(&diagnosis, &[("crowdedBlocks", "10 of 10"), ("lowestCrowdedTipPerGasWei", "9000000000")]);
    assert_explains(&diagnosis, &["10 of the last 10 blocks", "9 gwei"]);
    // The fees were bumped as far as the cap allows.
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().transaction.unwrap().attempts, 2);
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn a_drained_signer_is_insufficient_funds() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 6)).await;
    submit(&stack, 1).await;
    stack.anvil.set_balance(account(1), 7).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::InsufficientFunds).await;

    assert_evidence(&diagnosis, &[("balanceWei", "7"), ("from", &account(1).to_string())]);
    assert_explains(&diagnosis, &[&account(1).to_string(), "Send that account some ETH"]);
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.wait_until(&id, reason, |registration| registration.blocked_reason == reason).await;
    stack.anvil.set_balance(account(1), ETHER).await;
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn more_gas_than_the_block_gas_limit_is_too_large() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 6)).await;
    submit(&stack, 1).await;
    stack.anvil.rpc().run("evm_setBlockGasLimit", json!([U64::from(40_000)])).await;
    stack.anvil.mine(2).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::TooLarge).await;

    assert_evidence(&diagnosis, &[("mostGas", "40000")]);
    assert_explains(&diagnosis, &["40000", &diagnosis.evidence["gasLimit"]]);
    stack.anvil.rpc().run("evm_setBlockGasLimit", json!([U64::from(30_000_000)])).await;
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn a_transaction_missing_at_the_node_is_dropped_from_mempool() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand().through_proxy(), 6)).await;
    submit(&stack, 1).await;
    let refuses = stack.proxy().inject("eth_sendRawTransaction", Fault::Error(UNKNOWN_ERROR));
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash_of(&stack, 1).await])).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::DroppedFromMempool).await;

    assert_explains(&diagnosis, &["127.0.0.1", UNKNOWN_ERROR.message]);
    assert_evidence(&diagnosis, &[("unknownTo", "127.0.0.1"), ("rejectionMessage", UNKNOWN_ERROR.message)]);
    refuses.release();
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn an_underfunded_missing_transaction_is_insufficient_funds() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 6)).await;
    submit(&stack, 1).await;
    // A node drops transactions that their sender cannot pay for.
    stack.anvil.set_balance(account(1), 7).await;
    stack.anvil.mine(1).await;
    assert_eq!(stack.anvil.pending().await, 0);

    assert_late(&mut stack, 1, Cause::InsufficientFunds).await;

    stack.anvil.set_balance(account(1), ETHER).await;
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn a_full_pool_is_sender_limit_before_and_after_submission() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand().through_proxy(), 5)).await;
    let full = stack.proxy().inject("eth_sendRawTransaction", Fault::Error(SENDER_LIMIT[1]));
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "NODE_REFUSES";
    stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    let unsent = diagnose(&stack, &accepted.id).await;
    assert_eq!(unsent.cause(), Cause::SenderLimit, "{unsent:?}");
    assert_evidence(&unsent, &[("state", "queued"), ("blockedReason", reason), ("rejectionCode", "-32003")]);
    // The second registration is queued behind it and is blocked only by it.
    let next = stack.client.accept(2, CASE).await;
    let behind = diagnose(&stack, &next.id).await;
    assert_eq!(behind.cause(), Cause::BlockedByEarlierNonce, "{behind:?}");
    assert_evidence(&behind, &[("earlierRegistrationId", &accepted.id)]);
    full.release();
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;

    let full = stack.proxy().inject("eth_sendRawTransaction", Fault::Error(SENDER_LIMIT[1]));
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash_of(&stack, 1).await])).await;
    let diagnosis = assert_late(&mut stack, 1, Cause::SenderLimit).await;
    assert_explains(&diagnosis, &["txpool is full", "-32003"]);
    full.release();
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn an_external_transaction_removed_by_a_reorg_is_nonce_gap() {
    // The service fills the gap after three seconds. Only an attempt in which a slow machine let that happen before the
    // timeout of two seconds is repeated; any other diagnosis fails the test.
    let (stack, diagnosis) = retry_timing("a timeout before the gap is filled", async || {
        let mut stack = late_after(StackBuilder::on_demand(), 2).start().await;
        let external = send_external(&stack, 0, 2).await;
        stack.registry.receipt(external).await;
        stack.anvil.stop_mining().await;
        submit(&stack, 1).await;
        stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
        let error = stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();
        let diagnosis = diagnosis_of_error(&error);
        if stack.service.log().iter().any(|line| line["message"] == "nonce gap filled") {
            return Err(format!("the gap was filled first: {}", diagnosis.explanation));
        }
        assert_eq!(diagnosis.cause(), Cause::NonceGap, "{}", diagnosis.explanation);
        assert_reported_consistently(&mut stack, error.registration_id.as_deref().unwrap(), &diagnosis).await;
        Ok((stack, diagnosis))
    })
    .await;

    assert_evidence(&diagnosis, &[("nonce", "1"), ("chainNonce", "0"), ("missingNonce", "0")]);
    assert_explains(&diagnosis, &["is 0, and this transaction has 1", "filled automatically"]);
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn an_external_transaction_with_our_nonce_is_replaced_externally() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 6)).await;
    submit(&stack, 1).await;
    send_external(&stack, 0, 500).await;
    stack.anvil.mine(1).await;
    assert_eq!(stack.anvil.nonce(account(1)).await, 1, "the external transaction was not mined");

    let diagnosis = assert_late(&mut stack, 1, Cause::ReplacedExternally).await;

    assert_evidence(&diagnosis, &[("nonce", "0"), ("chainNonce", "1"), ("noReceiptFrom", "127.0.0.1")]);
    assert_explains(&diagnosis, &["another sender uses this key", "queued under another nonce"]);
    mine_until_confirmed(&stack, 1).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn an_external_pending_transaction_with_higher_fees_is_replaced_externally() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 5)).await;
    submit(&stack, 1).await;
    send_external(&stack, 0, 500).await;
    eventually("the service's transaction to be replaced in the pool", async || {
        (stack.anvil.pending().await == 1).then_some(())
    })
    .await;

    let diagnosis = assert_late(&mut stack, 1, Cause::ReplacedExternally).await;

    assert_explains(&diagnosis, &["has another transaction with nonce 0", "higher fees"]);
    stack.anvil.mine(1).await;
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn a_reverted_inclusion_is_reorged() {
    let builder = late_after(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3), 8);
    let mut stack = builder.start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.wait_for_state(&accepted.id, State::Included).await;
    let block = included.transaction.unwrap().block_number.unwrap();
    stack.anvil.stop_mining().await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(1).await;
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    let reverted = |registration: &crate::harness::Registration| {
        registration.state() == State::Submitted && registration.revision > included.revision
    };
    stack.client.wait_until(&accepted.id, "the reverted inclusion", reverted).await;
    let diagnosis = assert_late(&mut stack, 1, Cause::Reorged).await;

    assert_evidence(&diagnosis, &[("reorgedOutOfBlock", &block.to_string())]);
    assert_explains(&diagnosis, &[&format!("Block {block}"), "reorg"]);
    stack.anvil.mine_on_demand().await;
    stack.client.wait_for_state(&accepted.id, State::Included).await;
    stack.anvil.mine(2).await;
    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn an_unconfirmed_revert_is_reverted_with_its_reason() {
    let builder = late_after(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2), 6);
    let mut stack = stalled_chain(builder).await;
    submit(&stack, 1).await;
    let call = removeRegistrarCall { account: account(1) };
    stack.registry.send_with_high_fee(account(OWNER), call).await;
    eventually("both transactions to be pending", async || (stack.anvil.pending().await == 2).then_some(())).await;
    stack.anvil.mine(1).await;

    let diagnosis = assert_late(&mut stack, 1, Cause::Reverted).await;

    let signer = account(1).to_string();
    assert_evidence(&diagnosis, &[("confirmations", "1"), ("revert", &format!("NotRegistrar({signer})"))]);
    assert_explains(&diagnosis, &[&signer, "addRegistrar"]);
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let reason = "SIGNER_NOT_ALLOWED";
    stack.client.wait_until(&id, reason, |registration| registration.blocked_reason == reason).await;
    let unsent = diagnose(&stack, &id).await;
    assert_eq!(unsent.cause(), Cause::Reverted, "the preflight has to revert too: {unsent:?}");
    assert_explains(&unsent, &[&format!("addRegistrar({signer})")]);
    stack.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;
    stack.client.wait_for_state(&id, State::Included).await;
    stack.anvil.mine(1).await;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}

#[tokio::test]
async fn a_pair_registered_externally_is_awaiting_confirmations() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let block = stack.registry.send(account(EXTERNAL_REGISTRAR), call).await.block_number.unwrap();
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "AWAITING_CONFIRMATIONS";
    stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    let diagnosis = diagnose(&stack, &accepted.id).await;

    assert_eq!(diagnosis.cause(), Cause::AwaitingConfirmations, "{diagnosis:?}");
    assert_evidence(
        &diagnosis,
        &[("includedBlock", &block.to_string()), ("confirmations", "1"), ("confirmationsRequired", "3")],
    );
    assert_explains(&diagnosis, &["on chain already", &format!("block {block}")]);
    stack.anvil.mine(2).await;
    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_later_nonce_is_blocked_by_earlier_nonce_without_rpc_calls() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand().through_proxy(), 6)).await;
    let first = submit(&stack, 1).await;
    submit(&stack, 2).await;

    let diagnosis = assert_late(&mut stack, 2, Cause::BlockedByEarlierNonce).await;

    let hash = hash_of(&stack, 1).await;
    assert_evidence(
        &diagnosis,
        &[("earlierNonce", "0"), ("earlierTransactionHash", &hash), ("earlierRegistrationId", &first.id)],
    );
    assert_explains(&diagnosis, &["nonce 0", &hash, &first.id]);
    assert_late(&mut stack, 1, Cause::Pending).await;
    let about = stack.proxy().calls("eth_getTransactionByHash");
    let lookups = |hash: &str| about.iter().filter(|call| call.call["params"][0] == hash).count();
    assert_eq!((lookups(&hash), lookups(&hash_of(&stack, 2).await)), (1, 0), "only the first transaction is looked up");
    mine_until_confirmed(&stack, 1).await;
}

#[tokio::test]
async fn explain_prints_cause_explanation_and_aligned_evidence() {
    let mut stack = stalled_chain(late_after(StackBuilder::on_demand(), 6)).await;
    let submitted = submit(&stack, 1).await;
    stack.anvil.set_balance(account(1), 7).await;
    let diagnosis = assert_late(&mut stack, 1, Cause::InsufficientFunds).await;

    let text = explained(&stack, &submitted.id).await;

    let lines: Vec<&str> = text.lines().collect();
    let from =
        lines.iter().position(|line| *line == "insufficient_funds").unwrap_or_else(|| panic!("no cause: {text}"));
    assert_eq!(lines[from + 1].trim(), diagnosis.explanation, "{text}");
    let numbers: Vec<(&str, &str)> = lines[from + 3..].iter().filter_map(|line| line.trim().split_once(' ')).collect();
    assert!(numbers.iter().any(|(key, value)| (*key, value.trim()) == ("balanceWei", "7")), "{text}");
    let columns: HashSet<usize> = lines[from + 3..].iter().filter_map(|line| value_column(line)).collect();
    assert_eq!(columns.len(), 1, "values are not aligned: {text}");
    assert_eq!(text.matches("insufficient_funds").count(), 1, "the cause is repeated: {text}");
    let json: Value = {
        let server = format!("http://{}", stack.service.grpc);
        crate::harness::cli::run(&["explain", &submitted.id, "--json", "--server", &server], &[]).await.object()
    };
    assert_eq!(json["diagnosis"]["cause"], "CAUSE_INSUFFICIENT_FUNDS");
    assert_eq!(json["diagnosis"]["evidence"]["balanceWei"], "7");
}

/// The column of the second word.
fn value_column(line: &str) -> Option<usize> {
    let key = line.trim_start();
    let value = key.split_once(' ')?.1.trim_start();
    Some(line.len() - value.len())
}
