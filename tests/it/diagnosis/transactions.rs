//! What keeps a transaction out of blocks, and what became of it.

use super::{CASE, asked, explained, is_late, is_told_to_all, late_after, of_the_error, proves, says, submit};
use crate::harness::{
    Cause, Fault, OUTSIDER, OWNER, Plan, Stack, State, account, document, eventually, in_one_of,
    proxy::dialects::{NodeError, SENDER_LIMIT},
    registry::{addRegistrarCall, registerDocumentCall, removeRegistrarCall},
    until_late,
};
use alloy::primitives::{B256, U64, U256};
use serde_json::{Value, json};
use std::collections::HashSet;

const GWEI: u64 = 1_000_000_000;
const ETHER: u128 = 1_000_000_000_000_000_000;
/// In nobody's table.
const STRANGE: NodeError = NodeError { code: -32000, message: "the pool is being rebuilt", data: None };

/// A service on a node that takes transactions and mines none.
async fn standstill(plan: Plan) -> Stack {
    let stack = plan.start().await;
    stack.anvil.stop_mining().await;
    stack
}

/// The chain moves on again, and the document is registered after all.
async fn goes_on(stack: &Stack, number: u64) {
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(number), CASE).await.unwrap().id;
    stack.client.reaches(&id, State::Confirmed).await;
}

/// A transaction that somebody else signs with the service's key.
async fn foreign(stack: &Stack, nonce: u64, gwei: u64) -> B256 {
    let fee = U256::from(gwei * GWEI);
    let call = json!({ "from": account(1), "to": account(9), "nonce": U64::from(nonce), "gas": U64::from(21_000),
        "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
    stack.anvil.rpc().call("eth_sendTransaction", json!([call])).await
}

async fn hash_of(stack: &Stack, number: u64) -> String {
    stack.client.get_pair(&document(number), CASE).await.unwrap().transaction.unwrap().hash
}

#[tokio::test]
async fn a_base_fee_above_the_offer_is_fee_too_low() {
    let mut stack = standstill(late_after(Plan::on_demand(), 6)).await;
    submit(&stack, 1).await;
    stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([U256::from(100 * GWEI)])).await;
    stack.anvil.mine(1).await;

    let diagnosis = is_late(&mut stack, 1, Cause::FeeTooLow).await;

    proves(&diagnosis, &[("maxFeePerGasWei", "2500000000")]);
    says(&diagnosis, &["at most 2.5 gwei per gas", "REGISTRAR_MAX_FEE_GWEI"]);
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().blocked_reason, "FEE_CAP");
    stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([U256::from(GWEI)])).await;
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn blocks_full_of_higher_tips_are_tip_too_low() {
    let mut stack = standstill(late_after(Plan::on_demand(), 10)).await;
    submit(&stack, 1).await;
    // A block holds either our transaction, or a payment beside which it has no room.
    stack.anvil.rpc().run("evm_setBlockGasLimit", json!([U64::from(60_000)])).await;
    for _ in 0..12 {
        let fee = U256::from(20 * GWEI);
        let call = json!({ "from": account(5), "to": account(9), "gas": U64::from(21_000), "maxFeePerGas": fee,
            "maxPriorityFeePerGas": U256::from(9 * GWEI) });
        stack.anvil.rpc().run("eth_sendTransaction", json!([call])).await;
        stack.anvil.mine(1).await;
    }

    let diagnosis = is_late(&mut stack, 1, Cause::TipTooLow).await;

    proves(&diagnosis, &[("crowdedBlocks", "10 of 10"), ("lowestCrowdedTipPerGasWei", "9000000000")]);
    says(&diagnosis, &["10 of the last 10 blocks", "9 gwei"]);
    // What is offered was raised as far as the cap allows.
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().transaction.unwrap().attempts, 2);
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn a_drained_signer_is_insufficient_funds() {
    let mut stack = standstill(late_after(Plan::on_demand(), 6)).await;
    submit(&stack, 1).await;
    stack.anvil.set_balance(account(1), 7).await;

    let diagnosis = is_late(&mut stack, 1, Cause::InsufficientFunds).await;

    proves(&diagnosis, &[("balanceWei", "7"), ("from", &account(1).to_string())]);
    says(&diagnosis, &[&account(1).to_string(), "Send that account some ETH"]);
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.sees(&id, reason, |registration| registration.blocked_reason == reason).await;
    stack.anvil.set_balance(account(1), ETHER).await;
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn more_gas_than_a_block_has_is_too_large() {
    let mut stack = standstill(late_after(Plan::on_demand(), 6)).await;
    submit(&stack, 1).await;
    stack.anvil.rpc().run("evm_setBlockGasLimit", json!([U64::from(40_000)])).await;
    stack.anvil.mine(2).await;

    let diagnosis = is_late(&mut stack, 1, Cause::TooLarge).await;

    proves(&diagnosis, &[("mostGas", "40000")]);
    says(&diagnosis, &["40000", &diagnosis.evidence["gasLimit"]]);
    stack.anvil.rpc().run("evm_setBlockGasLimit", json!([U64::from(30_000_000)])).await;
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn a_transaction_that_the_node_forgot_is_dropped_from_the_mempool() {
    let mut stack = standstill(late_after(Plan::on_demand().through_proxy(), 6)).await;
    submit(&stack, 1).await;
    let refuses = stack.proxy().trap("eth_sendRawTransaction", Fault::Error(STRANGE));
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash_of(&stack, 1).await])).await;

    let diagnosis = is_late(&mut stack, 1, Cause::DroppedFromMempool).await;

    says(&diagnosis, &["127.0.0.1", STRANGE.message]);
    proves(&diagnosis, &[("unknownTo", "127.0.0.1"), ("refusalWords", STRANGE.message)]);
    refuses.release();
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn an_underfunded_transaction_that_vanished_is_not_called_dropped() {
    let mut stack = standstill(late_after(Plan::on_demand(), 6)).await;
    submit(&stack, 1).await;
    // A node that mines without looking twice forgets what it cannot pay for.
    stack.anvil.set_balance(account(1), 7).await;
    stack.anvil.mine(1).await;
    assert_eq!(stack.anvil.pending().await, 0);

    is_late(&mut stack, 1, Cause::InsufficientFunds).await;

    stack.anvil.set_balance(account(1), ETHER).await;
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn a_full_pool_is_a_sender_limit_before_and_after_the_node_took_the_transaction() {
    let mut stack = standstill(late_after(Plan::on_demand().through_proxy(), 5)).await;
    let full = stack.proxy().trap("eth_sendRawTransaction", Fault::Error(SENDER_LIMIT[1]));
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "NODE_REFUSES";
    stack.client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    let unsent = asked(&stack, &accepted.id).await;
    assert_eq!(unsent.cause(), Cause::SenderLimit, "{unsent:?}");
    proves(&unsent, &[("state", "queued"), ("blockedReason", reason), ("refusalCode", "-32003")]);
    // Another one is in the queue behind it, and nothing blocks it but this.
    let next = stack.client.accept(2, CASE).await;
    let behind = asked(&stack, &next.id).await;
    assert_eq!(behind.cause(), Cause::BlockedByEarlierNonce, "{behind:?}");
    proves(&behind, &[("earlierRegistrationId", &accepted.id)]);
    full.release();
    stack.client.reaches(&accepted.id, State::Submitted).await;

    let full = stack.proxy().trap("eth_sendRawTransaction", Fault::Error(SENDER_LIMIT[1]));
    stack.anvil.rpc().run("anvil_dropTransaction", json!([hash_of(&stack, 1).await])).await;
    let diagnosis = is_late(&mut stack, 1, Cause::SenderLimit).await;
    says(&diagnosis, &["txpool is full", "-32003"]);
    full.release();
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn a_nonce_that_a_reorg_took_from_somebody_elses_transaction_leaves_a_nonce_gap() {
    // The gap is filled after three seconds: what is late before that waits for a nonce that is missing, and not for the filler.
    let (stack, diagnosis) = in_one_of("a gap that is not filled yet", async || {
        let mut stack = late_after(Plan::on_demand(), 2).start().await;
        let stranger = foreign(&stack, 0, 2).await;
        stack.registry.receipt(stranger).await;
        stack.anvil.stop_mining().await;
        submit(&stack, 1).await;
        stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
        let refusal = stack.client.register(until_late(1, CASE)).await.unwrap_err();
        let diagnosis = of_the_error(&refusal);
        if diagnosis.cause() != Cause::NonceGap {
            return Err(diagnosis.explanation);
        }
        is_told_to_all(&mut stack, refusal.registration_id.as_deref().unwrap(), &diagnosis).await;
        Ok((stack, diagnosis))
    })
    .await;

    proves(&diagnosis, &[("nonce", "1"), ("chainNonce", "0"), ("missingNonce", "0")]);
    says(&diagnosis, &["is 0, and this transaction has 1", "It is filled by itself"]);
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn somebody_elses_transaction_at_our_nonce_is_replaced_externally() {
    let mut stack = standstill(late_after(Plan::on_demand(), 6)).await;
    submit(&stack, 1).await;
    foreign(&stack, 0, 500).await;
    stack.anvil.mine(1).await;
    assert_eq!(stack.anvil.nonce(account(1)).await, 1, "somebody else's is mined");

    let diagnosis = is_late(&mut stack, 1, Cause::ReplacedExternally).await;

    proves(&diagnosis, &[("nonce", "0"), ("chainNonce", "1"), ("noReceiptFrom", "127.0.0.1")]);
    says(&diagnosis, &["somebody else signs with this key", "queued under another nonce"]);
    goes_on(&stack, 1).await;
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn somebody_elses_better_offer_at_our_nonce_is_replaced_externally_before_it_is_mined() {
    let mut stack = standstill(late_after(Plan::on_demand(), 5)).await;
    submit(&stack, 1).await;
    foreign(&stack, 0, 500).await;
    eventually("ours to be gone", async || (stack.anvil.pending().await == 1).then_some(())).await;

    let diagnosis = is_late(&mut stack, 1, Cause::ReplacedExternally).await;

    says(&diagnosis, &["holds another transaction with nonce 0", "offers more"]);
    stack.anvil.mine(1).await;
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn a_block_that_a_reorg_took_back_is_reorged() {
    let plan = late_after(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3), 8);
    let mut stack = plan.start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.reaches(&accepted.id, State::Included).await;
    let block = included.transaction.unwrap().block_number.unwrap();
    stack.anvil.stop_mining().await;

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(1).await;
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    let taken_back = |registration: &crate::harness::Registration| {
        registration.state() == State::Submitted && registration.revision > included.revision
    };
    stack.client.sees(&accepted.id, "it to be taken back", taken_back).await;
    let diagnosis = is_late(&mut stack, 1, Cause::Reorged).await;

    proves(&diagnosis, &[("reorgedOutOfBlock", &block.to_string())]);
    says(&diagnosis, &[&format!("Block {block}"), "reorg"]);
    stack.anvil.mine_on_demand().await;
    stack.client.reaches(&accepted.id, State::Included).await;
    stack.anvil.mine(2).await;
    stack.client.reaches(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_revert_in_a_block_that_is_not_deep_enough_is_reverted_and_says_why() {
    let plan = late_after(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 2), 6);
    let mut stack = standstill(plan).await;
    submit(&stack, 1).await;
    let call = removeRegistrarCall { account: account(1) };
    stack.registry.send_at_a_premium(account(OWNER), call).await;
    eventually("both", async || (stack.anvil.pending().await == 2).then_some(())).await;
    stack.anvil.mine(1).await;

    let diagnosis = is_late(&mut stack, 1, Cause::Reverted).await;

    let signer = account(1).to_string();
    proves(&diagnosis, &[("confirmations", "1"), ("revert", &format!("NotRegistrar({signer})"))]);
    says(&diagnosis, &[&signer, "addRegistrar"]);
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let reason = "SIGNER_NOT_ALLOWED";
    stack.client.sees(&id, reason, |registration| registration.blocked_reason == reason).await;
    let unsent = asked(&stack, &id).await;
    assert_eq!(unsent.cause(), Cause::Reverted, "the simulation reverts too: {unsent:?}");
    says(&unsent, &[&format!("addRegistrar({signer})")]);
    stack.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;
    stack.client.reaches(&id, State::Included).await;
    stack.anvil.mine(1).await;
    stack.client.reaches(&id, State::Confirmed).await;
}

#[tokio::test]
async fn a_pair_that_somebody_else_registered_a_moment_ago_awaits_its_confirmations() {
    let stack = Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let call = registerDocumentCall { documentHash: document(1).parse().unwrap(), caseId: CASE.into() };
    let block = stack.registry.send(account(OUTSIDER), call).await.block_number.unwrap();
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "AWAITING_CONFIRMATIONS";
    stack.client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    let diagnosis = asked(&stack, &accepted.id).await;

    assert_eq!(diagnosis.cause(), Cause::AwaitingConfirmations, "{diagnosis:?}");
    proves(
        &diagnosis,
        &[("includedBlock", &block.to_string()), ("confirmations", "1"), ("confirmationsRequired", "3")],
    );
    says(&diagnosis, &["on chain already", &format!("block {block}")]);
    stack.anvil.mine(2).await;
    stack.client.reaches(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn what_is_behind_an_earlier_nonce_names_it_and_asks_nobody() {
    let mut stack = standstill(late_after(Plan::on_demand().through_proxy(), 6)).await;
    let first = submit(&stack, 1).await;
    submit(&stack, 2).await;

    let diagnosis = is_late(&mut stack, 2, Cause::BlockedByEarlierNonce).await;

    let hash = hash_of(&stack, 1).await;
    proves(
        &diagnosis,
        &[("earlierNonce", "0"), ("earlierTransactionHash", &hash), ("earlierRegistrationId", &first.id)],
    );
    says(&diagnosis, &["nonce 0", &hash, &first.id]);
    is_late(&mut stack, 1, Cause::Pending).await;
    let about = stack.proxy().calls("eth_getTransactionByHash");
    let asked_about = |hash: &str| about.iter().filter(|seen| seen.call["params"][0] == hash).count();
    assert_eq!((asked_about(&hash), asked_about(&hash_of(&stack, 2).await)), (1, 0), "only the first is looked at");
    goes_on(&stack, 1).await;
}

#[tokio::test]
async fn people_read_the_cause_the_sentence_and_the_numbers_in_aligned_lines() {
    let mut stack = standstill(late_after(Plan::on_demand(), 6)).await;
    let submitted = submit(&stack, 1).await;
    stack.anvil.set_balance(account(1), 7).await;
    let told = is_late(&mut stack, 1, Cause::InsufficientFunds).await;

    let text = explained(&stack, &submitted.id).await;

    let lines: Vec<&str> = text.lines().collect();
    let from =
        lines.iter().position(|line| *line == "insufficient_funds").unwrap_or_else(|| panic!("no cause: {text}"));
    assert_eq!(lines[from + 1].trim(), told.explanation, "{text}");
    let numbers: Vec<(&str, &str)> = lines[from + 3..].iter().filter_map(|line| line.trim().split_once(' ')).collect();
    assert!(numbers.iter().any(|(key, value)| (*key, value.trim()) == ("balanceWei", "7")), "{text}");
    let columns: HashSet<usize> = lines[from + 3..].iter().filter_map(|line| value_column(line)).collect();
    assert_eq!(columns.len(), 1, "aligned: {text}");
    assert_eq!(text.matches("insufficient_funds").count(), 1, "said once: {text}");
    let json: Value = {
        let server = format!("http://{}", stack.service.grpc);
        crate::harness::cli::run(&["explain", &submitted.id, "--json", "--server", &server], &[]).await.object()
    };
    assert_eq!(json["diagnosis"]["cause"], "CAUSE_INSUFFICIENT_FUNDS");
    assert_eq!(json["diagnosis"]["evidence"]["balanceWei"], "7");
}

/// Where the second word of a line begins.
fn value_column(line: &str) -> Option<usize> {
    let key = line.trim_start();
    let value = key.split_once(' ')?.1.trim_start();
    Some(line.len() - value.len())
}
