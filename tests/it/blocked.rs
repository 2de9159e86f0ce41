//! Problems that an operator can fix block registrations with a reason, and the work continues once they are fixed.

use crate::harness::{
    CASE, Cause, Fault, OWNER, StackBuilder, State, TestStack, account, document, eventually,
    registry::{addRegistrarCall, removeRegistrarCall},
};
use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

const ETHER: u128 = 1_000_000_000_000_000_000;

/// Registers a document, waits until it is blocked with this reason, and checks the diagnosis.
async fn assert_blocked(stack: &TestStack, reason: &str, cause: Cause) -> String {
    let accepted = stack.client.accept(1, CASE).await;
    let blocked =
        stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);
    assert_eq!(stack.registry.events().await, []);
    let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis.unwrap();
    assert_eq!((diagnosis.cause(), &*diagnosis.evidence["blockedReason"]), (cause, reason), "{diagnosis:?}");
    accepted.id
}

/// Asserts that the blocked registration is confirmed without another request.
async fn assert_confirmed(stack: &TestStack, id: &str) {
    let confirmed = stack.client.wait_for_state(id, State::Confirmed).await;
    assert_eq!(confirmed.blocked_reason, "", "the blocked reason is cleared");
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_signer_without_funds_blocks_work_until_it_is_funded() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let id = assert_blocked(&stack, "INSUFFICIENT_FUNDS", Cause::InsufficientFunds).await;

    stack.anvil.set_balance(account(1), ETHER).await;

    assert_confirmed(&stack, &id).await;
}

#[tokio::test]
async fn a_blocker_is_logged_once_for_all_registrations_and_so_is_its_end() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let reason = "INSUFFICIENT_FUNDS";
    for number in 1..4 {
        let accepted = stack.client.accept(number, CASE).await;
        stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    }

    stack.anvil.set_balance(account(1), ETHER).await;
    for number in 1..4 {
        stack.client.confirm(number, CASE).await;
    }

    let lines = |message: &str| -> Vec<_> {
        stack.service.log().into_iter().filter(|line| line["message"] == message).collect()
    };
    assert_eq!(lines("registrations are blocked").len(), 1);
    let over = lines("registrations are no longer blocked");
    let [over] = over.as_slice() else { panic!("{over:?}") };
    assert_eq!((&over["reason"], over["lasting_ms"].is_u64()), (&reason.into(), true), "{over}");
    // Each line about a transaction has its hash and signer.
    for message in ["transaction signed", "transaction sent", "transaction included", "transaction confirmed"] {
        let all = lines(message);
        assert!(!all.is_empty(), "{message}");
        for line in all {
            assert_eq!(line["signer"], account(1).to_string(), "{line}");
            assert_eq!(line["tx_hash"].as_str().map(str::len), Some(66), "{line}");
        }
    }
}

#[tokio::test]
async fn a_chain_without_the_contract_is_diagnosed() {
    let stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(7, CASE).await;
    // As after a restart of anvil.
    let contract = stack.registry.address;
    let code: String = stack.anvil.rpc().call("eth_getCode", json!([contract, "latest"])).await;
    stack.anvil.rpc().run("anvil_setCode", json!([contract, "0x"])).await;
    let id = stack.client.accept(1, CASE).await.id;
    let reason = "NODE_REFUSES";
    stack.client.wait_until(&id, reason, |registration| registration.blocked_reason == reason).await;

    let diagnosis = stack.client.diagnose(&id).await.unwrap().diagnosis.unwrap();
    assert_eq!(
        (diagnosis.cause(), &*diagnosis.evidence["contract"]),
        (Cause::RpcUnavailable, &*contract.to_string()),
        "{diagnosis:?}"
    );
    let error = stack.client.verify(&document(7), CASE).await.unwrap_err();
    assert_eq!(error.kind(), (Code::FailedPrecondition, "NO_CONTRACT"));

    stack.anvil.rpc().run("anvil_setCode", json!([contract, code])).await;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}

#[tokio::test]
async fn a_removed_registrar_blocks_work_until_it_is_added_again() {
    let stack = StackBuilder::on_demand().start().await;
    stack.registry.send(account(OWNER), removeRegistrarCall { account: account(1) }).await;
    let id = assert_blocked(&stack, "SIGNER_NOT_ALLOWED", Cause::Reverted).await;

    stack.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;

    assert_confirmed(&stack, &id).await;
}

#[tokio::test]
async fn a_base_fee_above_the_cap_blocks_work_until_it_falls() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_FEE_GWEI", 2).start().await;
    let base_fee = async |gwei: u64| {
        let wei = alloy::primitives::U256::from(gwei * 1_000_000_000);
        stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([wei])).await;
        stack.anvil.mine(1).await;
    };
    base_fee(100).await;
    let id = assert_blocked(&stack, "FEE_CAP", Cause::FeeTooLow).await;

    base_fee(1).await;

    assert_confirmed(&stack, &id).await;
}

#[tokio::test]
async fn an_unreachable_node_blocks_work_until_it_is_back() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    let away = stack.proxy().inject_all(Fault::LoseRequest);
    let id = assert_blocked(&stack, "NO_ENDPOINT", Cause::RpcUnavailable).await;

    away.release();

    assert_confirmed(&stack, &id).await;
}

#[tokio::test]
async fn work_of_a_removed_registrar_is_done_by_another_signer() {
    let stack = StackBuilder::block_time(0.2).signers(2).start().await;
    stack.registry.send(account(OWNER), removeRegistrarCall { account: account(1) }).await;

    let answers = join_all((0..20).map(|number| stack.client.confirm(number, CASE))).await;

    for registration in answers {
        assert_eq!(registration.transaction.unwrap().from_address, account(2).to_string());
    }
}

#[tokio::test]
async fn work_of_a_signer_without_funds_is_done_by_another_signer() {
    let stack = StackBuilder::block_time(0.2).signers(2).start().await;
    stack.anvil.set_balance(account(1), 0).await;

    let answers = join_all((0..20).map(|number| stack.client.confirm(number, CASE))).await;

    for registration in answers {
        assert_eq!(registration.transaction.unwrap().from_address, account(2).to_string());
    }
}

#[tokio::test]
async fn a_registrar_removed_while_its_transaction_is_pending_loses_no_registration() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    let call = removeRegistrarCall { account: account(1) };
    stack.registry.send_with_high_fee(account(OWNER), call).await;
    eventually("both transactions to be pending", async || (stack.anvil.pending().await == 2).then_some(())).await;

    // The removal is mined first, so the registration's transaction reverts in the same block.
    stack.anvil.mine_on_demand().await;
    let reason = "SIGNER_NOT_ALLOWED";
    stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    stack.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;

    assert_confirmed(&stack, &accepted.id).await;
}

#[tokio::test]
async fn a_send_answered_after_the_confirmation_changes_nothing() {
    let mut stack = StackBuilder::on_demand().through_proxy().start().await;
    let injected = stack.proxy().inject("eth_sendRawTransaction", Fault::HoldResponse);
    let confirmed = stack.client.confirm(1, CASE).await;

    stack
        .service
        .wait_for_log("the send to time out", |line| line["message"] == "RPC endpoint 127.0.0.1 unhealthy")
        .await;
    injected.release();
    // The sender takes the next registration only after it is done with the first.
    stack.client.confirm(2, CASE).await;

    let later = stack.client.get(&confirmed.id).await.unwrap();
    assert_eq!(
        (later.blocked_reason.as_str(), later.revision),
        ("", confirmed.revision),
        "the late answer changes nothing"
    );
}
