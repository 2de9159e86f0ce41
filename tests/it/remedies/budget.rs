//! What may be spent in a day.

use super::{CASE, are_replacements, holds, mined, signed_again, standstill, submit, versions};
use crate::harness::{Plan, State};
use alloy::consensus::Transaction;

/// In ETH: at the base fee of a new anvil a registration costs 0.00009 and may cost 0.00013.
const ONE: &str = "0.00015";

#[tokio::test]
async fn a_spent_budget_holds_the_queue_and_a_raised_one_lets_it_go_on() {
    let mut stack = Plan::on_demand().set("REGISTRAR_DAILY_BUDGET_ETH", ONE).start().await;
    stack.client.confirm(1, CASE).await;
    let accepted = stack.client.accept(2, CASE).await;
    let reason = "DAILY_BUDGET";
    let blocked = stack.client.sees(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);
    let spent = stack.service.metrics().await.value("registrar_daily_spend_wei", &[]);
    assert!(spent > 4e13 && spent < 1.5e14, "{spent}");
    let diagnosis = stack.client.diagnose(&accepted.id).await.unwrap().diagnosis.unwrap();
    assert!(diagnosis.explanation.contains("REGISTRAR_DAILY_BUDGET_ETH"), "{}", diagnosis.explanation);
    assert!(diagnosis.explanation.contains("00:00 UTC") && !diagnosis.explanation.contains("..."), "{diagnosis:?}");
    let wei = |key: &str| diagnosis.evidence[key].parse::<u128>().unwrap();
    assert_eq!(wei("budgetWei"), 150_000_000_000_000);
    assert!(wei("takenWei") + wei("neededWei") > wei("budgetWei"), "{diagnosis:?}");

    // What was spent is counted after a restart too.
    stack.crash().await;
    stack.client.sees(&accepted.id, reason, |seen| seen.blocked_reason == reason).await;
    holds(&stack, [1]).await;
    stack.settings = stack.settings.clone().set("REGISTRAR_DAILY_BUDGET_ETH", "1");
    stack.crash().await;

    let confirmed = stack.client.reaches(&accepted.id, State::Confirmed).await;
    assert_eq!(confirmed.blocked_reason, "");
    holds(&stack, [1, 2]).await;
}

#[tokio::test]
async fn what_is_priced_out_is_raised_as_far_as_the_budget_goes_and_lands() {
    let stack = standstill(Plan::on_demand().set("REGISTRAR_DAILY_BUDGET_ETH", ONE)).await;
    let submitted = submit(&stack, 1).await;

    // More than the budget can pay for, until the fee falls, as it does by an eighth with an empty block.
    stack.anvil.set_base_fee(3).await;
    stack.anvil.mine(1).await;
    let reason = "DAILY_BUDGET";
    stack.client.sees(&submitted.id, reason, |seen| seen.blocked_reason == reason).await;
    assert_eq!(versions(&stack).len(), 1);
    stack.anvil.mine(1).await;
    signed_again(&stack, &submitted.id, 2).await;

    let confirmed = mined(&stack, &submitted.id).await;
    assert_eq!(confirmed.blocked_reason, "");
    let versions = versions(&stack);
    are_replacements(&versions);
    assert_eq!(versions.len(), 2);
    assert!(versions[1].max_fee_per_gas() * u128::from(versions[1].gas_limit()) <= 150_000_000_000_000);
    holds(&stack, [1]).await;
}
