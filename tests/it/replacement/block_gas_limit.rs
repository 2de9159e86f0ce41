//! A block gas limit below the gas of a single registration.

use super::{CASE, GWEI, assert_registered, mine_until_confirmed, sent_transactions, stalled_chain, submit};
use crate::harness::{Cause, StackBuilder, State};
use alloy::consensus::Transaction;
use std::time::Duration;

/// Below one registration, above a transfer.
const SMALL_LIMIT: u64 = 40_000;
const LARGE_LIMIT: u64 = 30_000_000;
const REASON: &str = "TOO_LARGE";

#[tokio::test]
async fn a_queued_registration_larger_than_a_block_waits_for_a_higher_limit() {
    let stack = StackBuilder::block_time(0.2).start().await;
    stack.anvil.set_block_gas(SMALL_LIMIT).await;
    stack.anvil.mine(1).await;
    let accepted = stack.client.accept(1, CASE).await;

    let blocked = stack.client.wait_until(&accepted.id, REASON, |seen| seen.blocked_reason == REASON).await;
    assert_eq!(blocked.state(), State::Queued);
    let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis.unwrap();
    assert_eq!(diagnosis.cause(), Cause::TooLarge, "{}", diagnosis.explanation);
    assert!(diagnosis.explanation.contains("40000"), "{}", diagnosis.explanation);
    stack.anvil.set_block_gas(LARGE_LIMIT).await;
    let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.blocked_reason, "");
    assert_registered(&stack, [1]).await;
}

#[tokio::test]
async fn a_pending_transaction_larger_than_a_block_is_not_replaced_and_waits_for_a_higher_limit() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    stack.anvil.set_block_gas(SMALL_LIMIT).await;
    stack.anvil.mine(1).await;

    let blocked = stack.client.wait_until(&submitted.id, REASON, |seen| seen.blocked_reason == REASON).await;
    assert_eq!(blocked.state(), State::Submitted);
    // Its fees are too low by now as well, but no fee would help.
    stack.anvil.set_base_fee(3).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..10 {
        ticks.tick().await;
        stack.anvil.mine(1).await;
    }
    assert_eq!(sent_transactions(&stack).len(), 1);
    assert!(sent_transactions(&stack)[0].max_fee_per_gas() < 3 * GWEI);

    stack.anvil.set_block_gas(LARGE_LIMIT).await;
    stack.anvil.mine(1).await;
    stack.client.wait_until(&submitted.id, "no reason", |seen| seen.blocked_reason.is_empty()).await;
    let confirmed = mine_until_confirmed(&stack, &submitted.id).await;
    assert_eq!(confirmed.blocked_reason, "");
    assert_registered(&stack, [1]).await;
}
