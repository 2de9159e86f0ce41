//! What an operator can mend blocks with its reason, and goes on by itself when it is mended.

use crate::harness::{
    Cause, Fault, OWNER, Plan, Stack, State, account, document, eventually,
    registry::{addRegistrarCall, removeRegistrarCall},
};
use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

const CASE: &str = "case-1";
const ETHER: u128 = 1_000_000_000_000_000_000;

/// Registers a document that is blocked for this reason; whoever asks why is told this cause.
async fn blocks(stack: &Stack, reason: &str, cause: Cause) -> String {
    let accepted = stack.client.accept(1, CASE).await;
    let blocked = stack.client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);
    assert_eq!(stack.registry.events().await, []);
    let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis.unwrap();
    assert_eq!((diagnosis.cause(), &*diagnosis.evidence["blockedReason"]), (cause, reason), "{diagnosis:?}");
    accepted.id
}

/// The blocked registration goes on without being asked.
async fn goes_on(stack: &Stack, id: &str) {
    let confirmed = stack.client.reaches(id, State::Confirmed).await;
    assert_eq!(confirmed.blocked_reason, "", "nothing blocks it any more");
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn an_empty_signer_blocks_and_goes_on_when_it_is_paid() {
    let stack = Plan::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let id = blocks(&stack, "INSUFFICIENT_FUNDS", Cause::InsufficientFunds).await;

    stack.anvil.set_balance(account(1), ETHER).await;

    goes_on(&stack, &id).await;
}

#[tokio::test]
async fn what_blocks_is_logged_once_however_much_joins_it_and_so_is_its_end() {
    let stack = Plan::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let reason = "INSUFFICIENT_FUNDS";
    for number in 1..4 {
        let accepted = stack.client.accept(number, CASE).await;
        stack.client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
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
    // Each line about a transaction says which, and whose.
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
async fn a_chain_without_the_contract_is_told_as_such() {
    let stack = Plan::on_demand().start().await;
    stack.client.confirm(7, CASE).await;
    // As an anvil that was started again.
    let contract = stack.registry.address;
    let code: String = stack.anvil.rpc().call("eth_getCode", json!([contract, "latest"])).await;
    stack.anvil.rpc().run("anvil_setCode", json!([contract, "0x"])).await;
    let id = stack.client.accept(1, CASE).await.id;
    let reason = "NODE_REFUSES";
    stack.client.sees(&id, reason, |registration| registration.blocked_reason == reason).await;

    let told = stack.client.diagnose(&id).await.unwrap().diagnosis.unwrap();
    assert_eq!(
        (told.cause(), &*told.evidence["contract"]),
        (Cause::RpcUnavailable, &*contract.to_string()),
        "{told:?}"
    );
    let refusal = stack.client.verify(&document(7), CASE).await.unwrap_err();
    assert_eq!(refusal.kind(), (Code::FailedPrecondition, "NO_CONTRACT"));

    stack.anvil.rpc().run("anvil_setCode", json!([contract, code])).await;
    stack.client.reaches(&id, State::Confirmed).await;
}

#[tokio::test]
async fn a_removed_registrar_blocks_and_goes_on_when_it_is_allowed_again() {
    let stack = Plan::on_demand().start().await;
    stack.registry.send(account(OWNER), removeRegistrarCall { account: account(1) }).await;
    let id = blocks(&stack, "SIGNER_NOT_ALLOWED", Cause::Reverted).await;

    stack.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;

    goes_on(&stack, &id).await;
}

#[tokio::test]
async fn a_base_fee_above_the_cap_blocks_and_goes_on_when_fees_fall() {
    let stack = Plan::on_demand().set("REGISTRAR_MAX_FEE_GWEI", 2).start().await;
    let base_fee = async |gwei: u64| {
        let wei = alloy::primitives::U256::from(gwei * 1_000_000_000);
        stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([wei])).await;
        stack.anvil.mine(1).await;
    };
    base_fee(100).await;
    let id = blocks(&stack, "FEE_CAP", Cause::FeeTooLow).await;

    base_fee(1).await;

    goes_on(&stack, &id).await;
}

#[tokio::test]
async fn a_node_that_is_away_blocks_and_goes_on_when_it_is_back() {
    let stack = Plan::on_demand().through_proxy().start().await;
    let away = stack.proxy().trap_all(Fault::LoseRequest);
    let id = blocks(&stack, "NO_ENDPOINT", Cause::RpcUnavailable).await;

    away.release();

    goes_on(&stack, &id).await;
}

#[tokio::test]
async fn a_signer_that_is_no_longer_allowed_leaves_its_share_to_the_others() {
    let stack = Plan::block_time(0.2).signers(2).start().await;
    stack.registry.send(account(OWNER), removeRegistrarCall { account: account(1) }).await;

    let answers = join_all((0..20).map(|number| stack.client.confirm(number, CASE))).await;

    for registration in answers {
        assert_eq!(registration.transaction.unwrap().from_address, account(2).to_string());
    }
}

#[tokio::test]
async fn an_empty_signer_leaves_its_share_to_the_others() {
    let stack = Plan::block_time(0.2).signers(2).start().await;
    stack.anvil.set_balance(account(1), 0).await;

    let answers = join_all((0..20).map(|number| stack.client.confirm(number, CASE))).await;

    for registration in answers {
        assert_eq!(registration.transaction.unwrap().from_address, account(2).to_string());
    }
}

#[tokio::test]
async fn a_signer_removed_while_its_transaction_waits_loses_nothing() {
    let stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await;
    let call = removeRegistrarCall { account: account(1) };
    stack.registry.send_at_a_premium(account(OWNER), call).await;
    eventually("both", async || (stack.anvil.pending().await == 2).then_some(())).await;

    // The removal comes first in the block, so the registration's transaction reverts in it.
    stack.anvil.mine_on_demand().await;
    let reason = "SIGNER_NOT_ALLOWED";
    stack.client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    stack.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;

    goes_on(&stack, &accepted.id).await;
}

#[tokio::test]
async fn a_send_that_is_answered_after_the_confirmation_blocks_nothing() {
    let mut stack = Plan::on_demand().through_proxy().start().await;
    let trap = stack.proxy().trap("eth_sendRawTransaction", Fault::HoldAnswer);
    let confirmed = stack.client.confirm(1, CASE).await;

    stack.service.logged("the lane to go on", |line| line["message"] == "RPC endpoint 127.0.0.1 unhealthy").await;
    trap.release();
    // The lane takes the next registration only when it is done with the first.
    stack.client.confirm(2, CASE).await;

    let later = stack.client.get(&confirmed.id).await.unwrap();
    assert_eq!((later.blocked_reason.as_str(), later.revision), ("", confirmed.revision), "it was over");
}
