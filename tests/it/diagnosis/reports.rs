//! Reports of a late transaction: a limited number per batch, once, also across a restart.

use super::{CASE, assert_late, is_report, late_after, submit};
use crate::harness::{Cause, StackBuilder, State, account, document, metrics::Metrics};
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::HashSet;

#[tokio::test]
async fn a_stuck_batch_of_600_is_reported_eleven_times_and_counted_once() {
    const BATCH: u64 = 600;
    let mut stack = late_after(StackBuilder::on_demand(), 2).start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let accepted = join_all((0..BATCH).map(|number| stack.client.accept(number, CASE))).await;
    let last = &accepted[BATCH as usize - 1].id;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.wait_until(last, reason, |registration| registration.blocked_reason == reason).await;
    stack.anvil.stop_mining().await;
    stack.anvil.set_balance(account(1), 10_u128.pow(21)).await;
    let sent = stack.client.wait_for_state(last, State::Submitted).await;
    assert_eq!(u64::from(sent.transaction.unwrap().batch_size), BATCH, "not all in one transaction");

    let rest =
        stack.service.wait_for_log("the last report", |line| is_report(line) && line["registrations"].is_u64()).await;

    let reports: Vec<Value> = stack.service.log().into_iter().filter(is_report).collect();
    assert_eq!(reports.len(), 11);
    let named: Vec<&str> = reports.iter().filter_map(|line| line["registration_id"].as_str()).collect();
    let others: Vec<&str> = rest["registration_ids"].as_str().unwrap().split(", ").collect();
    assert_eq!((named.len(), others.len() as u64, rest["registrations"].as_u64()), (10, BATCH - 10, Some(BATCH - 10)));
    let all: HashSet<&str> = named.into_iter().chain(others).collect();
    assert_eq!(all, accepted.iter().map(|registration| registration.id.as_str()).collect());
    let metrics = Metrics::read(&stack.service.http("/metrics").await.1);
    assert_eq!(metrics.value("registrar_confirmation_timeouts_total", &[]), 1.0, "one transaction is counted once");
}

#[tokio::test]
async fn a_report_has_all_data_of_the_transaction() {
    let mut stack = late_after(StackBuilder::on_demand(), 1).start().await;
    stack.anvil.stop_mining().await;
    let submitted = submit(&stack, 1).await;
    assert_late(&mut stack, 1, Cause::Pending).await;

    let report = stack.service.log().into_iter().find(is_report).unwrap();

    let hash = submitted.transaction.unwrap().hash;
    let explanation = report["explanation"].as_str().unwrap();
    let text =
        format!("Transaction {}…{} not confirmed after 1 second: pending: {explanation}", &hash[..6], &hash[62..]);
    assert_eq!(report["message"], text);
    let head = stack.anvil.head().await;
    for (key, value) in [
        ("registration_id", Value::from(submitted.id)),
        ("trace_id", submitted.trace_id.into()),
        ("document_hash", document(1).into()),
        ("case_id", CASE.into()),
        ("tx_hash", hash.into()),
        ("network", "anvil".into()),
        ("contract_address", stack.registry.address.to_string().into()),
        ("from", account(1).to_string().into()),
        ("nonce", 0.into()),
        ("attempts", 1.into()),
        ("max_fee_per_gas", "2500000000".into()),
        ("submitted_block", head.into()),
        ("head_block", head.into()),
        ("confirmations", 0.into()),
        ("cause", "pending".into()),
    ] {
        assert_eq!(report[key], value, "{key} in {report}");
    }
    for key in ["gas_limit", "base_fee_per_gas", "explanation", "evidence", "endpoints", "explorer_url"] {
        assert!(!report[key].is_null(), "{key} in {report}");
    }
    assert!(report["endpoints"].as_str().unwrap().starts_with("127.0.0.1 healthy head "), "{report}");
}

#[tokio::test]
async fn a_restart_repeats_no_report_and_keeps_the_diagnosis() {
    let mut stack = late_after(StackBuilder::on_demand(), 1).start().await;
    stack.anvil.stop_mining().await;
    let submitted = submit(&stack, 1).await;
    let diagnosis = assert_late(&mut stack, 1, Cause::Pending).await;

    stack.crash().await;
    let again = submit(&stack, 2).await;
    // The second's timeout has passed; the first was sent earlier, so it would have been reported again by now.
    assert_late(&mut stack, 2, Cause::BlockedByEarlierNonce).await;

    let reported: Vec<Value> = stack.service.log().into_iter().filter(is_report).collect();
    let ids: Vec<_> = reported.iter().map(|line| line["registration_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [again.id]);
    let stored = stack.client.get(&submitted.id).await.unwrap().diagnosis.unwrap();
    assert_eq!(
        (stored.cause(), stored.explanation, stored.time),
        (diagnosis.cause(), diagnosis.explanation, diagnosis.time)
    );
}

#[tokio::test]
async fn a_crash_before_the_timeout_is_followed_by_one_report() {
    let mut stack = late_after(StackBuilder::on_demand(), 8).start().await;
    stack.anvil.stop_mining().await;
    submit(&stack, 1).await;

    stack.crash().await;
    assert_late(&mut stack, 1, Cause::Pending).await;

    assert_eq!(stack.service.log().iter().filter(|line| is_report(line)).count(), 1);
}
