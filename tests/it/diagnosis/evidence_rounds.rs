//! Collecting evidence: bounded, shared between callers, and without delaying the work.

use super::{CASE, assert_evidence, diagnose, diagnosis_of_error, is_report, late_after, submit};
use crate::harness::{Cause, Fault, StackBuilder, State, TestStack, account, register_until_timeout, retry_timing};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

/// Each round calls this once per endpoint; nothing else calls it.
const ROUND_METHOD: &str = "eth_getTransactionByHash";

async fn submit_unmined(builder: StackBuilder) -> (TestStack, String) {
    let stack = builder.start().await;
    stack.anvil.stop_mining().await;
    let id = submit(&stack, 1).await.id;
    (stack, id)
}

#[tokio::test]
async fn a_round_makes_at_most_twelve_calls() {
    let (stack, id) = submit_unmined(StackBuilder::on_demand().endpoints(4)).await;
    // Only evidence rounds call these methods, except that the follower reads the nonce of one endpoint with each poll.
    let calls = || -> Vec<u64> {
        let methods = [ROUND_METHOD, "eth_getTransactionReceipt", "eth_getBalance", "eth_feeHistory", "eth_call"];
        let count = |proxy: &crate::harness::proxy::Proxy| methods.map(|method| proxy.count(method)).iter().sum();
        let nonces = stack.proxies()[1..].iter().map(|proxy| proxy.count("eth_getTransactionCount"));
        stack.proxies().iter().map(count).chain(nonces).collect()
    };
    let before = calls();

    let diagnosis = diagnose(&stack, &id).await;

    assert_evidence(&diagnosis, &[("knownTo", "127.0.0.1#1, 127.0.0.1#2, 127.0.0.1#3")]);
    let made: u64 = calls().iter().zip(before).map(|(after, before)| after - before).sum();
    // One more call is the first endpoint's nonce, which cannot be distinguished from the follower's.
    assert!((9..=11).contains(&made), "{made} calls and one nonce");
}

#[tokio::test]
async fn a_thousand_concurrent_diagnoses_share_one_round() {
    let (stack, id) = submit_unmined(StackBuilder::on_demand().through_proxy()).await;
    let started = Instant::now();

    let answers = join_all((0..1_000).map(|_| stack.client.diagnose(&id))).await;

    let cache_periods = started.elapsed().as_secs() / 2;
    for answer in answers {
        assert_eq!(answer.unwrap().diagnosis.unwrap().cause(), Cause::Pending);
    }
    let rounds = stack.proxy().count(ROUND_METHOD);
    assert!((1..=1 + cache_periods).contains(&rounds), "{rounds} rounds in {:?}", started.elapsed());
}

#[tokio::test]
async fn registrations_of_one_transaction_share_a_round() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let accepted = join_all((0..50).map(|number| stack.client.accept(number, CASE))).await;
    let reason = "INSUFFICIENT_FUNDS";
    let blocked =
        accepted.iter().map(|one| stack.client.wait_until(&one.id, reason, |seen| seen.blocked_reason == reason));
    join_all(blocked).await;
    stack.anvil.stop_mining().await;
    stack.anvil.set_balance(account(1), 10_u128.pow(20)).await;
    join_all(accepted.iter().map(|one| stack.client.wait_for_state(&one.id, State::Submitted))).await;
    let started = Instant::now();

    let answers = join_all(accepted.iter().map(|one| diagnose(&stack, &one.id))).await;

    assert!(answers.iter().all(|answer| answer.explanation == answers[0].explanation), "{answers:?}");
    let (rounds, cache_periods) = (stack.proxy().count(ROUND_METHOD), started.elapsed().as_secs() / 2);
    assert!((1..=1 + cache_periods).contains(&rounds), "{rounds} rounds");
}

#[tokio::test]
async fn a_thousand_waiting_callers_are_answered_by_one_round() {
    let (stack, _) = submit_unmined(late_after(StackBuilder::on_demand().through_proxy(), 5)).await;
    let before = stack.proxy().counts();
    let started = Instant::now();

    let waiting = (0..1_000).map(|_| stack.client.register(register_until_timeout(1, CASE)));
    let errors = join_all(waiting).await;

    for error in errors {
        assert_eq!(diagnosis_of_error(&error.unwrap_err()).cause(), Cause::Pending);
    }
    assert_eq!(stack.proxy().count(ROUND_METHOD), 1, "one round for all");
    let after = stack.proxy().counts();
    let grown: u64 = after.iter().map(|(method, count)| count - before.get(method).unwrap_or(&0)).sum();
    // The follower polls with two calls every 100 ms; a probe is one call per second.
    let expected = started.elapsed().as_millis() as u64 / 100 * 2 + started.elapsed().as_secs() + 1;
    assert!(grown <= expected + 12, "{grown} calls, {expected} expected without a diagnosis: {after:?}");
}

#[tokio::test]
async fn a_round_without_answers_times_out_with_less_evidence() {
    let (stack, _) = submit_unmined(late_after(StackBuilder::on_demand().through_proxy(), 1)).await;
    let _hangs = stack.proxy().inject(ROUND_METHOD, Fault::Hang);
    let started = Instant::now();

    let error = stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    let diagnosis = diagnosis_of_error(&error);
    assert!(started.elapsed() < Duration::from_secs(1 + 2 + 10), "answered after {:?}", started.elapsed());
    assert_eq!(diagnosis.cause(), Cause::Pending);
    assert!(!diagnosis.evidence.contains_key("knownTo"), "{diagnosis:?}");
    assert!(!diagnosis.explanation.contains("known to 127"), "{}", diagnosis.explanation);
    assert_evidence(&diagnosis, &[("chainNonce", "0")]);
}

/// Mines a block while a round hangs. `Err` when the confirmation takes long enough to have waited for the round, which
/// times out after two seconds.
async fn confirm_while_a_round_hangs() -> Result<(), String> {
    let (mut stack, id) = submit_unmined(late_after(StackBuilder::on_demand().through_proxy(), 1)).await;
    let hangs = stack.proxy().inject(ROUND_METHOD, Fault::Hang);
    hangs.until_hit().await;
    let started = Instant::now();

    stack.anvil.mine(1).await;
    stack.client.wait_for_state(&id, State::Confirmed).await;
    if started.elapsed() > Duration::from_secs(1) {
        return Err(format!("confirmed after {:?}", started.elapsed()));
    }

    // Once a later registration is reported, the first one's round has ended too.
    let later = submit(&stack, 2).await;
    stack.service.wait_for_log("the later report", |line| is_report(line) && line["registration_id"] == later.id).await;
    assert_eq!(
        stack.service.log().iter().filter(|line| is_report(line)).count(),
        1,
        "the confirmed registration was reported"
    );
    assert_eq!(stack.client.get(&id).await.unwrap().diagnosis, None);
    Ok(())
}

#[tokio::test]
async fn a_hanging_round_does_not_delay_the_confirmation() {
    retry_timing("a confirmation while a round hangs", confirm_while_a_round_hangs).await;
}

#[tokio::test]
async fn a_diagnosis_reflects_a_state_change_at_once() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2).start().await;
    stack.anvil.stop_mining().await;
    let id = submit(&stack, 1).await.id;
    assert_eq!(diagnose(&stack, &id).await.cause(), Cause::Pending);

    stack.anvil.mine(1).await;
    stack.client.wait_for_state(&id, State::Included).await;

    assert_eq!(diagnose(&stack, &id).await.cause(), Cause::AwaitingConfirmations, "the diagnosis is out of date");
}
