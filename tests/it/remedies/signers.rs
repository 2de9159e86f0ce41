//! A signer that cannot, beside one that can; and what a transaction costs beside its gas.

use super::{CASE, GWEI, holds};
use crate::harness::{Plan, Registration, State, account};
use alloy::primitives::{Address, U256, address};
use serde_json::json;

const ORACLE: Address = address!("420000000000000000000000000000000000000F");
const ETHER: u128 = 1_000_000_000_000_000_000;

#[tokio::test]
async fn work_is_not_said_to_be_blocked_while_another_signer_takes_it() {
    let stack = Plan::block_time(0.2).signers(2).start().await;
    stack.anvil.set_balance(account(1), 0).await;

    // One after the other, so that each lane is the first to see some of them.
    for number in 0..10 {
        stack.client.confirm(number, CASE).await;
    }

    let blocked = stack.service.log().into_iter().find(|line| line["message"] == "registrations are blocked");
    assert_eq!(blocked, None);
    holds(&stack, 0..10).await;
}

#[tokio::test]
async fn work_is_blocked_when_no_signer_can_and_goes_on_with_the_first_that_can_again() {
    let stack = Plan::block_time(0.2).signers(2).start().await;
    for signer in [1, 2] {
        stack.anvil.set_balance(account(signer), 0).await;
    }
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.sees(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;

    stack.anvil.set_balance(account(2), ETHER).await;

    let confirmed = stack.client.reaches(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.transaction.unwrap().from_address, account(2).to_string());
}

#[tokio::test]
async fn what_the_chain_charges_beside_the_gas_has_to_be_paid_too() {
    let (ground, settings) = Plan::block_time(0.2).prepare().await;
    // Whatever it is asked, it answers 0.01 ETH: PUSH32 value, PUSH1 0, MSTORE, PUSH1 32, PUSH1 0, RETURN.
    let value = format!("{:064x}", U256::from(ETHER / 100));
    ground.anvil.rpc().run("anvil_setCode", json!([ORACLE, format!("0x7f{value}60005260206000f3")])).await;
    // Plenty for the gas alone.
    ground.anvil.set_balance(account(1), ETHER / 100).await;
    let stack = ground.start(settings).await;
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.sees(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;

    // Both fees, twice, and the gas.
    stack.anvil.set_balance(account(1), 4 * ETHER / 100 + 1_000_000 * 5 * GWEI).await;

    stack.client.reaches(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_signer_that_could_not_pay_for_one_more_goes_on_by_itself_when_what_is_out_has_landed() {
    let stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let tenth_of_a_gwei = U256::from(GWEI / 10);
    stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([tenth_of_a_gwei])).await;
    stack.anvil.mine(1).await;
    // Enough for a few, at what they may cost; what they do cost is little more than half of that.
    stack.anvil.set_balance(account(1), ETHER / 2_500).await;
    let reason = "INSUFFICIENT_FUNDS";
    let mut accepted = Vec::new();
    loop {
        let id = stack.client.accept(accepted.len() as u64, CASE).await.id;
        accepted.push(id.clone());
        let moved = |seen: &Registration| seen.state() == State::Submitted || seen.blocked_reason == reason;
        if stack.client.sees(&id, "sent or blocked", moved).await.blocked_reason == reason {
            break;
        }
    }
    assert!((3..15).contains(&accepted.len()), "{} were sent before", accepted.len() - 1);

    stack.anvil.mine_on_demand().await;

    for id in &accepted {
        stack.client.reaches(id, State::Confirmed).await;
    }
    holds(&stack, 0..accepted.len() as u64).await;
}
