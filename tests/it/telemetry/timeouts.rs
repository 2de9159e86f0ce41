//! A confirmation that does not come in time: an error that says why, the waterfall so far, and the rest when it comes.

use super::{CASE, USER, Watched, breadcrumbs, exception, is, level, part, standstill};
use crate::harness::{Plan, Refusal, account, document, eventually, receivers::Span, until_late};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ERROR: &str = "TransactionTimeoutError";

fn is_timeout(event: &Value) -> bool {
    exception(event).0 == ERROR
}

/// A registration that is late.
async fn late(watched: &Watched) -> Refusal {
    let mut request = until_late(1, CASE);
    request.user_id = USER.to_owned();
    let refusal = watched.stack.client.register(request).await.unwrap_err();
    assert_eq!(refusal.reason, "CONFIRMATION_TIMEOUT");
    refusal
}

#[tokio::test]
async fn a_timeout_is_an_error_in_the_journeys_trace_that_says_why() {
    let watched = standstill(Plan::on_demand(), 1).await;

    let refusal = late(&watched).await;

    let event = watched.sentry.event("the timeout", is_timeout).await;
    let registration = refusal.registration();
    let transaction = registration.transaction.as_ref().unwrap();
    let (hash, diagnosis) = (&transaction.hash, refusal.detail.as_ref().unwrap().diagnosis.as_ref().unwrap());
    let value = format!("Transaction {}…{} not confirmed after 1 second", &hash[..6], &hash[62..]);
    assert_eq!(exception(&event), (ERROR, &*value), "{event:#}");
    assert_eq!(event["exception"]["values"].as_array().unwrap().len(), 1, "{event:#}");
    assert_eq!(level(&event), "error");
    assert_eq!(event["fingerprint"], json!([ERROR, "pending"]));
    assert_eq!(event["user"], json!({ "id": USER }));
    for (tag, value) in [("network", "anvil"), ("cause", "pending"), ("state", "submitted")] {
        assert_eq!(event["tags"][tag], value, "{}", event["tags"]);
    }
    assert_eq!(event["contexts"]["trace"]["trace_id"], registration.trace_id);
    let head = watched.stack.anvil.head().await;
    let blockchain = &event["contexts"]["blockchain"];
    for (key, value) in [
        ("network", json!("anvil")),
        ("contractAddress", json!(watched.stack.registry.address.to_string())),
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
    let told = &event["contexts"]["diagnosis"];
    assert_eq!((&told["cause"], &told["explanation"]), (&json!("pending"), &json!(diagnosis.explanation)));
    for (key, number) in &diagnosis.evidence {
        let found = told[key].as_str().map_or_else(|| told[key].to_string(), str::to_owned);
        assert_eq!(found, *number, "{key} in {told:#}");
    }
    let endpoint = &event["contexts"]["rpc"]["127.0.0.1"];
    assert!(endpoint.to_string().contains("healthy"), "the endpoint's state in {:#}", event["contexts"]["rpc"]);
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn a_timeouts_breadcrumbs_are_the_journeys_steps() {
    let watched = standstill(Plan::on_demand(), 1).await;

    late(&watched).await;

    let event = watched.sentry.event("the timeout", is_timeout).await;
    let steps: Vec<_> = breadcrumbs(&event).iter().filter_map(|crumb| crumb["message"].as_str()).collect();
    let mut rest = steps.iter();
    for step in ["accepted", "signed", "sent"] {
        assert!(rest.any(|text| text.contains(step)), "{step}, in its order, in {steps:?}");
    }
    assert!(steps.iter().any(|step| step.contains("sent") && step.contains("127.0.0.1")), "to whom: {steps:?}");
}

#[tokio::test]
async fn a_late_journeys_waterfall_is_there_when_it_is_late_and_a_second_one_linked_to_it_when_it_is_confirmed() {
    let watched = standstill(Plan::on_demand(), 1).await;

    let refusal = late(&watched).await;

    let trace = &refusal.registration().trace_id;
    let call = watched.transaction("grpc.server", trace).await;
    assert_eq!((&*call[0].status, call[0].get("rpc.grpc.status_code")), ("deadline_exceeded", &json!(4)));
    let first = watched.transaction("blockchain.register", trace).await;
    assert_eq!((&*first[0].status, first[0].ids.parent.as_ref()), ("deadline_exceeded", Some(&call[0].ids.span)));
    assert_eq!(part(&first, "blockchain.prepare").status, "ok");
    assert_eq!(part(&first, "blockchain.send").status, "ok");
    let wait = part(&first, "blockchain.wait");
    assert_eq!((&*wait.status, wait.get("cause")), ("deadline_exceeded", &json!("pending")));
    assert_eq!(wait.get("txHash"), &json!(refusal.metadata["transactionHash"]));
    watched.is_told_to_both(&first).await;
    assert!(watched.otlp.span(trace, &wait.ids.span).await.status.starts_with("error"));

    watched.stack.anvil.mine_on_demand().await;

    let journeys = watched.transactions("blockchain.register", trace, 2).await;
    let second = journeys.iter().find(|journey| journey[0].ids != first[0].ids).unwrap();
    assert_eq!(second[0].status, "ok", "{second:#?}");
    assert_eq!(second[0].lacks(["txHash", "blockNumber", "registrationId"]), [""; 0]);
    assert_eq!(part(second, "blockchain.wait").lacks(["blockNumber", "gasUsed", "confirmations"]), [""; 0]);
    watched.is_told_to_both(second).await;
    let told = watched.otlp.span(trace, &second[0].ids.span).await;
    let first_ids = (trace.as_str(), first[0].ids.span.as_str());
    assert!(told.links.iter().any(|link| (&*link.trace, &*link.span) == first_ids), "{told:#?}");
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn a_stuck_batch_of_25_is_ten_errors_each_in_its_own_trace_and_one_that_names_the_rest() {
    let watched = Watched::start(Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "2s")).await;

    let accepted = watched.batch(25).await;

    let events = watched.sentry.events_where(11, "timeouts", is_timeout).await;
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
    assert_eq!(fingerprints.len(), 1, "one issue: {fingerprints:?}");
    // Every journey's waterfall is told, not only those with an event of their own.
    for registration in &accepted {
        let journey = watched.transaction("blockchain.register", &registration.trace_id).await;
        assert_eq!(journey[0].status, "deadline_exceeded");
    }
    assert_eq!(watched.sentry.events().iter().filter(|event| is_timeout(event)).count(), 11);
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn a_timeout_is_reported_and_told_though_nobody_waits() {
    let watched = standstill(Plan::on_demand(), 1).await;

    let accepted = watched.stack.client.accept(1, CASE).await;

    let trace = &accepted.trace_id;
    let event = watched.sentry.event("the timeout", is_timeout).await;
    assert_eq!(event["contexts"]["trace"]["trace_id"], *trace);
    assert_eq!(event["user"], Value::Null, "nobody was named");
    assert_eq!(watched.transaction("blockchain.register", trace).await[0].status, "deadline_exceeded");
}

#[tokio::test]
async fn a_late_transaction_is_one_error_however_many_wait() {
    let watched = standstill(Plan::on_demand(), 1).await;

    let waiting = (0..3).map(|_| watched.stack.client.register(until_late(1, CASE)));
    let refusals: Vec<_> = futures_util::future::join_all(waiting).await;

    let traces: BTreeSet<_> = refusals.into_iter().map(|refusal| refusal.unwrap_err().trace_id).collect();
    for trace in &traces {
        let call = |seen: &Value| is(seen, "grpc.server", trace);
        let calls = watched.sentry.transactions_where(1, "a call that was too late", call).await;
        assert_eq!(Span::of_transaction(&calls[0])[0].status, "deadline_exceeded");
    }
    assert_eq!(traces.len(), 3);
    watched.sentry.event("the timeout", is_timeout).await;
    watched.stack.anvil.mine_on_demand().await;
    let confirmed = async || {
        let seen = watched.sentry.transactions();
        (seen.iter().filter(|seen| seen["contexts"]["trace"]["op"] == "blockchain.register").count() == 2).then_some(())
    };
    eventually("the journey's end", confirmed).await;
    assert_eq!(watched.sentry.events().len(), 1, "{:#?}", watched.sentry.events());
}
