//! Confirmation timeouts: an error with its cause, the waterfall so far, and the rest when the confirmation comes.

use super::{CASE, ObservedStack, USER, breadcrumbs, exception, is, level, part, stalled_chain};
use crate::harness::{CallError, StackBuilder, account, document, eventually, receivers::Span, register_until_timeout};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const TIMEOUT_ERROR: &str = "TransactionTimeoutError";

fn is_timeout(event: &Value) -> bool {
    exception(event).0 == TIMEOUT_ERROR
}

/// Registers a document that is not confirmed in time.
async fn register_late(observed: &ObservedStack) -> CallError {
    let mut request = register_until_timeout(1, CASE);
    request.user_id = USER.to_owned();
    let error = observed.stack.client.register(request).await.unwrap_err();
    assert_eq!(error.reason, "CONFIRMATION_TIMEOUT");
    error
}

#[tokio::test]
async fn a_timeout_is_an_error_with_its_cause_in_the_registrations_trace() {
    let observed = stalled_chain(StackBuilder::on_demand(), 1).await;

    let error = register_late(&observed).await;

    let event = observed.sentry.event("the timeout", is_timeout).await;
    let registration = error.registration();
    let transaction = registration.transaction.as_ref().unwrap();
    let (hash, diagnosis) = (&transaction.hash, error.detail.as_ref().unwrap().diagnosis.as_ref().unwrap());
    let cause = format!("pending: {}", diagnosis.explanation);
    let value = format!("Transaction {}…{} not confirmed after 1 second: {cause}", &hash[..6], &hash[62..]);
    assert_eq!(exception(&event), (TIMEOUT_ERROR, &*value), "{event:#}");
    assert_eq!(event["exception"]["values"].as_array().unwrap().len(), 1, "{event:#}");
    assert_eq!(level(&event), "error");
    assert_eq!(event["fingerprint"], json!([TIMEOUT_ERROR, "pending"]));
    assert_eq!(event["user"], json!({ "id": USER }));
    for (tag, value) in [("network", "anvil"), ("cause", "pending"), ("state", "submitted")] {
        assert_eq!(event["tags"][tag], value, "{}", event["tags"]);
    }
    assert_eq!(event["contexts"]["trace"]["trace_id"], registration.trace_id);
    let head = observed.stack.anvil.head().await;
    let blockchain = &event["contexts"]["blockchain"];
    for (key, value) in [
        ("network", json!("anvil")),
        ("contractAddress", json!(observed.stack.registry.address.to_string())),
        ("txHash", json!(hash)),
        ("documentHash", json!(document(1))),
        ("caseId", json!(CASE)),
        ("registrationId", json!(registration.id)),
        ("from", json!(account(1).to_string())),
        ("nonce", json!(0)),
        ("attempts", json!(1)),
        ("submittedBlock", json!(head)),
        ("headBlock", json!(head)),
        ("confirmations", json!(0)),
    ] {
        assert_eq!(blockchain[key], value, "{key} in {blockchain:#}");
    }
    for key in ["gasLimit", "maxFeePerGas", "baseFeePerGas"] {
        assert!(!blockchain[key].is_null(), "{key} in {blockchain:#}");
    }
    let exported = &event["contexts"]["diagnosis"];
    assert_eq!(exported["runbook"], "deploy/RUNBOOK.md#pending");
    assert_eq!((&exported["cause"], &exported["explanation"]), (&json!("pending"), &json!(diagnosis.explanation)));
    for (key, number) in &diagnosis.evidence {
        let found = exported[key].as_str().map_or_else(|| exported[key].to_string(), str::to_owned);
        assert_eq!(found, *number, "{key} in {exported:#}");
    }
    let endpoint = &event["contexts"]["rpc"]["127.0.0.1"];
    assert_eq!(endpoint["state"], "healthy", "{:#}", event["contexts"]["rpc"]);
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn the_breadcrumbs_of_a_timeout_are_the_registrations_steps() {
    let observed = stalled_chain(StackBuilder::on_demand(), 1).await;

    register_late(&observed).await;

    let event = observed.sentry.event("the timeout", is_timeout).await;
    let steps: Vec<_> = breadcrumbs(&event).iter().filter_map(|crumb| crumb["message"].as_str()).collect();
    let mut rest = steps.iter();
    for step in ["accepted", "signed", "sent"] {
        assert!(rest.any(|text| text.contains(step)), "{step} is missing or out of order in {steps:?}");
    }
    assert!(steps.iter().any(|step| step.contains("sent") && step.contains("127.0.0.1")), "no endpoint in {steps:?}");
    // Spotlight takes a number for milliseconds.
    let times: Vec<_> = breadcrumbs(&event).iter().map(|crumb| crumb["timestamp"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times.iter().all(|time| time.starts_with("20") && time.ends_with('Z')), "{times:?}");
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_late_registration_has_a_waterfall_and_a_linked_second_one_when_confirmed() {
    let observed = stalled_chain(StackBuilder::on_demand(), 1).await;

    let error = register_late(&observed).await;

    let trace = &error.registration().trace_id;
    let call = observed.transaction("grpc.server", trace).await;
    assert_eq!((&*call[0].status, call[0].get("rpc.grpc.status_code")), ("deadline_exceeded", &json!(4)));
    let first = observed.transaction("blockchain.register", trace).await;
    assert_eq!((&*first[0].status, first[0].ids.parent.as_ref()), ("deadline_exceeded", Some(&call[0].ids.span)));
    assert_eq!(part(&first, "blockchain.prepare").status, "ok");
    assert_eq!(part(&first, "blockchain.send").status, "ok");
    let wait = part(&first, "blockchain.wait");
    assert_eq!((&*wait.status, wait.get("cause")), ("deadline_exceeded", &json!("pending")));
    assert_eq!(wait.get("txHash"), &json!(error.metadata["transactionHash"]));
    observed.assert_in_both_receivers(&first).await;
    assert!(observed.otlp.span(trace, &wait.ids.span).await.status.starts_with("error"));

    observed.stack.anvil.mine_on_demand().await;

    let trees = observed.transactions("blockchain.register", trace, 2).await;
    let second = trees.iter().find(|tree| tree[0].ids != first[0].ids).unwrap();
    assert_eq!(second[0].status, "ok", "{second:#?}");
    assert_eq!(second[0].lacks(["txHash", "blockNumber", "registrationId"]), [""; 0]);
    assert_eq!(part(second, "blockchain.wait").lacks(["blockNumber", "gasUsed", "confirmations"]), [""; 0]);
    observed.assert_in_both_receivers(second).await;
    let exported = observed.otlp.span(trace, &second[0].ids.span).await;
    let first_ids = (trace.as_str(), first[0].ids.span.as_str());
    assert!(exported.links.iter().any(|link| (&*link.trace, &*link.span) == first_ids), "{exported:#?}");
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_late_batch_of_25_is_ten_errors_and_one_that_lists_the_rest() {
    let observed = ObservedStack::start(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "2s")).await;

    let accepted = observed.batch(25).await;

    let events = observed.sentry.events_where(11, "timeouts", is_timeout).await;
    let named = |event: &Value| event["contexts"]["blockchain"]["registrationId"].as_str().map(str::to_owned);
    let (one_by_one, rest): (Vec<_>, Vec<_>) = events.iter().partition(|event| named(event).is_some());
    assert_eq!((one_by_one.len(), rest.len()), (10, 1));
    let mut ids = BTreeSet::new();
    for event in &one_by_one {
        let id = named(event).unwrap();
        let registration = accepted.iter().find(|registration| registration.id == id).unwrap();
        assert_eq!(event["contexts"]["trace"]["trace_id"], registration.trace_id);
        ids.insert(id);
    }
    let rest = rest[0].to_string();
    let others: Vec<_> = accepted.iter().filter(|registration| !ids.contains(&registration.id)).collect();
    assert_eq!((ids.len(), others.len()), (10, 15));
    assert!(others.iter().all(|registration| rest.contains(&registration.id)), "{rest}");
    let fingerprints: BTreeSet<_> = events.iter().map(|event| event["fingerprint"].to_string()).collect();
    assert_eq!(fingerprints.len(), 1, "more than one issue: {fingerprints:?}");
    // Every registration has a waterfall, not only those with their own event.
    for registration in &accepted {
        let tree = observed.transaction("blockchain.register", &registration.trace_id).await;
        assert_eq!(tree[0].status, "deadline_exceeded");
    }
    assert_eq!(observed.sentry.events().iter().filter(|event| is_timeout(event)).count(), 11);
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_timeout_is_reported_without_a_waiting_caller() {
    let observed = stalled_chain(StackBuilder::on_demand(), 1).await;

    let accepted = observed.stack.client.accept(1, CASE).await;

    let trace = &accepted.trace_id;
    let event = observed.sentry.event("the timeout", is_timeout).await;
    assert_eq!(event["contexts"]["trace"]["trace_id"], *trace);
    assert_eq!(event["user"], Value::Null, "the event has a user");
    assert_eq!(observed.transaction("blockchain.register", trace).await[0].status, "deadline_exceeded");
}

#[tokio::test]
async fn a_late_transaction_is_one_error_for_all_callers() {
    let observed = stalled_chain(StackBuilder::on_demand(), 1).await;

    let waiting = (0..3).map(|_| observed.stack.client.register(register_until_timeout(1, CASE)));
    let errors: Vec<_> = futures_util::future::join_all(waiting).await;

    let traces: BTreeSet<_> = errors.into_iter().map(|error| error.unwrap_err().trace_id).collect();
    for trace in &traces {
        let call = |seen: &Value| is(seen, "grpc.server", trace);
        let calls = observed.sentry.transactions_where(1, "the call that timed out", call).await;
        assert_eq!(Span::of_transaction(&calls[0])[0].status, "deadline_exceeded");
    }
    assert_eq!(traces.len(), 3);
    observed.sentry.event("the timeout", is_timeout).await;
    observed.stack.anvil.mine_on_demand().await;
    let confirmed = async || {
        let seen = observed.sentry.transactions();
        (seen.iter().filter(|seen| seen["contexts"]["trace"]["op"] == "blockchain.register").count() == 2).then_some(())
    };
    eventually("the confirmed registration's trace", confirmed).await;
    assert_eq!(observed.sentry.events().len(), 1, "{:#?}", observed.sentry.events());
}
