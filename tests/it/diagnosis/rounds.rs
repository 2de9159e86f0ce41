//! Gathering evidence: bounded, shared, and never in anybody's way.

use super::{CASE, asked, is_report, late_after, of_the_error, proves, submit};
use crate::harness::{Cause, Fault, Plan, Stack, State, account, in_one_of, until_late};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

/// A round asks this of each witness once, and nobody else asks it at all.
const OF_ROUNDS: &str = "eth_getTransactionByHash";

async fn stuck(plan: Plan) -> (Stack, String) {
    let stack = plan.start().await;
    stack.anvil.stop_mining().await;
    let id = submit(&stack, 1).await.id;
    (stack, id)
}

#[tokio::test]
async fn a_round_makes_at_most_twelve_calls_however_many_endpoints_there_are() {
    let (stack, id) = stuck(Plan::on_demand().endpoints(4)).await;
    // What else asks these is the follower, of one endpoint: the nonce with each poll.
    let calls = || -> Vec<u64> {
        let nobody_else = [OF_ROUNDS, "eth_getTransactionReceipt", "eth_getBalance", "eth_feeHistory", "eth_call"];
        let count = |proxy: &crate::harness::proxy::Proxy| nobody_else.map(|method| proxy.count(method)).iter().sum();
        let nonces = stack.proxies()[1..].iter().map(|proxy| proxy.count("eth_getTransactionCount"));
        stack.proxies().iter().map(count).chain(nonces).collect()
    };
    let before = calls();

    let diagnosis = asked(&stack, &id).await;

    proves(&diagnosis, &[("knownTo", "127.0.0.1#1, 127.0.0.1#2, 127.0.0.1#3")]);
    let made: u64 = calls().iter().zip(before).map(|(after, before)| after - before).sum();
    // And the nonce of the first endpoint, which cannot be told from the follower's.
    assert!((9..=11).contains(&made), "{made} calls and one nonce");
}

#[tokio::test]
async fn a_thousand_who_ask_at_once_cost_one_round() {
    let (stack, id) = stuck(Plan::on_demand().through_proxy()).await;
    let began = Instant::now();

    let answers = join_all((0..1_000).map(|_| stack.client.diagnose(&id))).await;

    let kept_for = began.elapsed().as_secs() / 2;
    for answer in answers {
        assert_eq!(answer.unwrap().diagnosis.unwrap().cause(), Cause::Pending);
    }
    let rounds = stack.proxy().count(OF_ROUNDS);
    assert!((1..=1 + kept_for).contains(&rounds), "{rounds} rounds in {:?}", began.elapsed());
}

#[tokio::test]
async fn all_that_one_transaction_carries_share_a_round() {
    let stack = Plan::on_demand().through_proxy().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let accepted = join_all((0..50).map(|number| stack.client.accept(number, CASE))).await;
    let reason = "INSUFFICIENT_FUNDS";
    let blocked = accepted.iter().map(|one| stack.client.sees(&one.id, reason, |seen| seen.blocked_reason == reason));
    join_all(blocked).await;
    stack.anvil.stop_mining().await;
    stack.anvil.set_balance(account(1), 10_u128.pow(20)).await;
    join_all(accepted.iter().map(|one| stack.client.reaches(&one.id, State::Submitted))).await;
    let began = Instant::now();

    let answers = join_all(accepted.iter().map(|one| asked(&stack, &one.id))).await;

    assert!(answers.iter().all(|answer| answer.explanation == answers[0].explanation), "{answers:?}");
    let (rounds, kept_for) = (stack.proxy().count(OF_ROUNDS), began.elapsed().as_secs() / 2);
    assert!((1..=1 + kept_for).contains(&rounds), "{rounds} rounds");
}

#[tokio::test]
async fn a_thousand_who_wait_are_answered_by_one_round() {
    let (stack, _) = stuck(late_after(Plan::on_demand().through_proxy(), 5)).await;
    let before = stack.proxy().counts();
    let began = Instant::now();

    let waiting = (0..1_000).map(|_| stack.client.register(until_late(1, CASE)));
    let refusals = join_all(waiting).await;

    for refusal in refusals {
        assert_eq!(of_the_error(&refusal.unwrap_err()).cause(), Cause::Pending);
    }
    assert_eq!(stack.proxy().count(OF_ROUNDS), 1, "one round for all");
    let after = stack.proxy().counts();
    let grown: u64 = after.iter().map(|(method, count)| count - before.get(method).unwrap_or(&0)).sum();
    // The follower's poll is two calls every 100 ms, and a probe one a second.
    let usual = began.elapsed().as_millis() as u64 / 100 * 2 + began.elapsed().as_secs() + 1;
    assert!(grown <= usual + 12, "{grown} calls, and {usual} without any diagnosis: {after:?}");
}

#[tokio::test]
async fn a_round_that_gets_no_answers_ends_in_two_seconds_and_says_less() {
    let (stack, _) = stuck(late_after(Plan::on_demand().through_proxy(), 1)).await;
    let _hangs = stack.proxy().trap(OF_ROUNDS, Fault::Hang);
    let began = Instant::now();

    let refusal = stack.client.register(until_late(1, CASE)).await.unwrap_err();

    let diagnosis = of_the_error(&refusal);
    assert!(began.elapsed() < Duration::from_secs(1 + 2 + 10), "answered after {:?}", began.elapsed());
    assert_eq!(diagnosis.cause(), Cause::Pending);
    assert!(!diagnosis.evidence.contains_key("knownTo"), "{diagnosis:?}");
    assert!(!diagnosis.explanation.contains("known to 127"), "{}", diagnosis.explanation);
    proves(&diagnosis, &[("chainNonce", "0")]);
}

/// A block comes while a round hangs; fails when the confirmation has not come before the round gives up, which it does after two
/// seconds.
async fn is_confirmed_while_a_round_hangs() -> Result<(), String> {
    let (mut stack, id) = stuck(late_after(Plan::on_demand().through_proxy(), 1)).await;
    let hangs = stack.proxy().trap(OF_ROUNDS, Fault::Hang);
    hangs.sprung().await;
    let began = Instant::now();

    stack.anvil.mine(1).await;
    stack.client.reaches(&id, State::Confirmed).await;
    if began.elapsed() > Duration::from_secs(1) {
        return Err(format!("confirmed after {:?}", began.elapsed()));
    }

    // When a later one is reported, the round of the first has ended too.
    let later = submit(&stack, 2).await;
    stack.service.logged("the later report", |line| is_report(line) && line["registration_id"] == later.id).await;
    assert_eq!(stack.service.log().iter().filter(|line| is_report(line)).count(), 1, "the first was not late");
    assert_eq!(stack.client.get(&id).await.unwrap().diagnosis, None);
    Ok(())
}

#[tokio::test]
async fn a_round_holds_up_neither_the_work_nor_its_confirmation_and_what_is_confirmed_meanwhile_was_not_late() {
    in_one_of("a confirmation while a round hangs", is_confirmed_while_a_round_hangs).await;
}

#[tokio::test]
async fn a_diagnosis_follows_what_it_is_about_at_once() {
    let stack = Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 2).start().await;
    stack.anvil.stop_mining().await;
    let id = submit(&stack, 1).await.id;
    assert_eq!(asked(&stack, &id).await.cause(), Cause::Pending);

    stack.anvil.mine(1).await;
    stack.client.reaches(&id, State::Included).await;

    assert_eq!(asked(&stack, &id).await.cause(), Cause::AwaitingConfirmations, "no answer from before is kept");
}
