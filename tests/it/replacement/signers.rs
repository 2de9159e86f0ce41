//! Signers that cannot pay beside ones that can, and fees beyond gas.

use super::{CASE, GWEI, assert_registered};
use crate::harness::{Registration, StackBuilder, State, account};
use alloy::primitives::{Address, U256, address};
use serde_json::json;

const L1_FEE_ORACLE: Address = address!("420000000000000000000000000000000000000F");
const ETHER: u128 = 1_000_000_000_000_000_000;

#[tokio::test]
async fn work_taken_by_another_signer_is_not_reported_as_blocked() {
    let stack = StackBuilder::block_time(0.2).signers(2).start().await;
    stack.anvil.set_balance(account(1), 0).await;

    // Sequentially, so that each sender takes some of them first.
    for number in 0..10 {
        stack.client.confirm(number, CASE).await;
    }

    let blocked = stack.service.log().into_iter().find(|line| line["message"] == "registrations are blocked");
    assert_eq!(blocked, None);
    assert_registered(&stack, 0..10).await;
}

#[tokio::test]
async fn work_is_blocked_until_the_first_signer_is_funded() {
    let stack = StackBuilder::block_time(0.2).signers(2).start().await;
    for signer in [1, 2] {
        stack.anvil.set_balance(account(signer), 0).await;
    }
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.wait_until(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;

    stack.anvil.set_balance(account(2), ETHER).await;

    let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.transaction.unwrap().from_address, account(2).to_string());
}

#[tokio::test]
async fn the_l1_fee_is_included_in_the_required_balance() {
    let (dependencies, settings) = StackBuilder::block_time(0.2).prepare().await;
    // Contract code that returns 0.01 ETH for every call: PUSH32 value, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN.
    let value = format!("{:064x}", U256::from(ETHER / 100));
    dependencies.anvil.rpc().run("anvil_setCode", json!([L1_FEE_ORACLE, format!("0x7f{value}60005260206000f3")])).await;
    // Sufficient for the gas alone.
    dependencies.anvil.set_balance(account(1), ETHER / 100).await;
    let stack = dependencies.start(settings).await;
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.wait_until(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;

    // The L1 fee twice over, and the gas.
    stack.anvil.set_balance(account(1), 4 * ETHER / 100 + 1_000_000 * 5 * GWEI).await;

    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_signer_resumes_when_its_pending_transactions_cost_less_than_reserved() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let tenth_of_a_gwei = U256::from(GWEI / 10);
    stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([tenth_of_a_gwei])).await;
    stack.anvil.mine(1).await;
    // Sufficient for a few at their maximum cost; their actual cost is little more than half of it.
    stack.anvil.set_balance(account(1), ETHER / 2_500).await;
    let reason = "INSUFFICIENT_FUNDS";
    let mut accepted = Vec::new();
    loop {
        let id = stack.client.accept(accepted.len() as u64, CASE).await.id;
        accepted.push(id.clone());
        let progressed = |seen: &Registration| seen.state() == State::Submitted || seen.blocked_reason == reason;
        if stack.client.wait_until(&id, "sent or blocked", progressed).await.blocked_reason == reason {
            break;
        }
    }
    assert!((3..15).contains(&accepted.len()), "{} registrations were sent before one was blocked", accepted.len() - 1);

    stack.anvil.mine_on_demand().await;

    for id in &accepted {
        stack.client.wait_for_state(id, State::Confirmed).await;
    }
    assert_registered(&stack, 0..accepted.len() as u64).await;
}
