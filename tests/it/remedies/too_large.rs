//! Blocks that take less gas than one registration alone needs.

use super::{CASE, GWEI, holds, mined, standstill, submit, versions};
use crate::harness::{Cause, Plan, State};
use alloy::consensus::Transaction;
use std::time::Duration;

/// Less than one registration, and more than a transfer.
const SMALL: u64 = 40_000;
const LARGE: u64 = 30_000_000;
const REASON: &str = "TOO_LARGE";

#[tokio::test]
async fn a_registration_that_no_block_takes_says_so_and_goes_on_when_blocks_grow() {
    let stack = Plan::block_time(0.2).start().await;
    stack.anvil.set_block_gas(SMALL).await;
    stack.anvil.mine(1).await;
    let accepted = stack.client.accept(1, CASE).await;

    let blocked = stack.client.sees(&accepted.id, REASON, |seen| seen.blocked_reason == REASON).await;
    assert_eq!(blocked.state(), State::Queued);
    let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis.unwrap();
    assert_eq!(diagnosis.cause(), Cause::TooLarge, "{}", diagnosis.explanation);
    assert!(diagnosis.explanation.contains("40000"), "{}", diagnosis.explanation);
    stack.anvil.set_block_gas(LARGE).await;
    let confirmed = stack.client.reaches(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.blocked_reason, "");
    holds(&stack, [1]).await;
}

#[tokio::test]
async fn what_is_out_when_blocks_become_too_small_says_so_is_not_outbid_and_is_mined_when_they_grow() {
    let stack = standstill(Plan::on_demand()).await;
    let submitted = submit(&stack, 1).await;
    stack.anvil.set_block_gas(SMALL).await;
    stack.anvil.mine(1).await;

    let held = stack.client.sees(&submitted.id, REASON, |seen| seen.blocked_reason == REASON).await;
    assert_eq!(held.state(), State::Submitted);
    // Its offer is too low as well by now, and no offer is high enough.
    stack.anvil.set_base_fee(3).await;
    let mut clock = tokio::time::interval(Duration::from_millis(200));
    for _ in 0..10 {
        clock.tick().await;
        stack.anvil.mine(1).await;
    }
    assert_eq!(versions(&stack).len(), 1);
    assert!(versions(&stack)[0].max_fee_per_gas() < 3 * GWEI);

    stack.anvil.set_block_gas(LARGE).await;
    stack.anvil.mine(1).await;
    stack.client.sees(&submitted.id, "no reason", |seen| seen.blocked_reason.is_empty()).await;
    let confirmed = mined(&stack, &submitted.id).await;
    assert_eq!(confirmed.blocked_reason, "");
    holds(&stack, [1]).await;
}
