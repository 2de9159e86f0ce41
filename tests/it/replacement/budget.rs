//! The daily budget.

use super::{
    CASE, assert_registered, assert_replacements, mine_until_confirmed, sent_transactions, stalled_chain, submit,
    wait_for_attempts,
};
use crate::harness::{StackBuilder, State};
use alloy::consensus::Transaction;

/// In ETH: at the base fee of a new anvil a registration costs 0.00009 and may cost 0.00013.
const BUDGET_FOR_ONE: &str = "0.00015";

#[tokio::test]
async fn a_spent_budget_blocks_the_queue_until_it_is_raised() {
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_DAILY_BUDGET_ETH", BUDGET_FOR_ONE).start().await;
    stack.client.confirm(1, CASE).await;
    let accepted = stack.client.accept(2, CASE).await;
    let reason = "DAILY_BUDGET";
    let blocked = stack.client.wait_until(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);
    let spent = stack.service.metrics().await.value("registrar_daily_spend_wei", &[]);
    assert!(spent > 4e13 && spent < 1.5e14, "{spent}");
    let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis.unwrap();
    assert!(diagnosis.explanation.contains("REGISTRAR_DAILY_BUDGET_ETH"), "{}", diagnosis.explanation);
    assert!(diagnosis.explanation.contains("00:00 UTC") && !diagnosis.explanation.contains("..."), "{diagnosis:?}");
    let wei = |key: &str| diagnosis.evidence[key].parse::<u128>().unwrap();
    assert_eq!(wei("budgetWei"), 150_000_000_000_000);
    assert!(wei("takenWei") + wei("neededWei") > wei("budgetWei"), "{diagnosis:?}");

    // Spending is counted across a restart.
    stack.crash().await;
    stack.client.wait_until(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;
    assert_registered(&stack, [1]).await;
    stack.settings = stack.settings.clone().set("REGISTRAR_DAILY_BUDGET_ETH", "1");
    stack.crash().await;

    let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.blocked_reason, "");
    assert_registered(&stack, [1, 2]).await;
}

#[tokio::test]
async fn an_underpriced_transaction_is_replaced_within_the_budget() {
    let stack = stalled_chain(StackBuilder::on_demand().set("REGISTRAR_DAILY_BUDGET_ETH", BUDGET_FOR_ONE)).await;
    let submitted = submit(&stack, 1).await;

    // Above the budget until the base fee falls, by an eighth with each empty block.
    stack.anvil.set_base_fee(3).await;
    stack.anvil.mine(1).await;
    let reason = "DAILY_BUDGET";
    stack.client.wait_until(&submitted.id, reason, |seen| seen.blocked_reason == reason).await;
    assert_eq!(sent_transactions(&stack).len(), 1);
    stack.anvil.mine(1).await;
    wait_for_attempts(&stack, &submitted.id, 2).await;

    let confirmed = mine_until_confirmed(&stack, &submitted.id).await;
    assert_eq!(confirmed.blocked_reason, "");
    let sent = sent_transactions(&stack);
    assert_replacements(&sent);
    assert_eq!(sent.len(), 2);
    assert!(sent[1].max_fee_per_gas() * u128::from(sent[1].gas_limit()) <= 150_000_000_000_000);
    assert_registered(&stack, [1]).await;
}
