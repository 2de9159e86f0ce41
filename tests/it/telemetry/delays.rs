//! Queue timeouts: registrations that no node has a transaction for are errors with their cause, once per episode.

use super::{CASE, ObservedStack, USER, breadcrumbs, exception, level, part};
use crate::harness::{
    Client, Fault, StackBuilder, State, WaitFor, account, document, eventually, metrics::Metrics,
    proxy::node_errors::SENDER_LIMIT, register_request, register_until_timeout,
};
use futures_util::future::join_all;
use registrar::api::proto::ListRegistrationsRequest;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep_until};
use tonic::Code;

const DELAY_ERROR: &str = "RegistrationDelayedError";
const ETHER: u128 = 10_u128.pow(18);

fn is_delay(event: &Value) -> bool {
    exception(event).0 == DELAY_ERROR
}

/// A service whose signer has no funds, with this queue timeout.
async fn without_funds(builder: StackBuilder, seconds: u64) -> ObservedStack {
    let observed = ObservedStack::start(builder.set("REGISTRAR_QUEUE_TIMEOUT", format!("{seconds}s"))).await;
    observed.stack.anvil.set_balance(account(1), 0).await;
    observed
}

async fn wait_until_diagnosed(client: &Client, id: &str) {
    client.wait_until(id, "a diagnosis", |registration| registration.diagnosis.is_some()).await;
}

fn delays(observed: &ObservedStack) -> usize {
    observed.sentry.events().iter().filter(|event| is_delay(event)).count()
}

#[tokio::test]
async fn blocked_work_is_an_error_of_its_user_with_its_cause_and_trace() {
    let observed = without_funds(StackBuilder::on_demand(), 2).await;
    let client = &observed.stack.client;
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.user_id = USER.to_owned();

    // The call asks for no wait of its own: the queue timeout ends it.
    let error = client.register(request).await.unwrap_err();

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "QUEUE_TIMEOUT"));
    assert_eq!(error.metadata["cause"], "insufficient_funds");
    assert_eq!(error.metadata["blockedReason"], "INSUFFICIENT_FUNDS");
    let diagnosis = error.detail.as_ref().unwrap().diagnosis.as_ref().unwrap();
    assert_eq!(diagnosis.explanation, error.metadata["explanation"]);
    let registration = error.registration();
    assert_eq!(registration.state(), State::Queued);
    let stored = client.get(&registration.id).await.unwrap();
    assert_eq!(stored.diagnosis.as_ref(), Some(diagnosis));

    let event = observed.sentry.event("the delay", is_delay).await;
    let (kind, value) = exception(&event);
    let hash = document(1);
    let prefix = format!("Document {}…{} not sent after ", &hash[..6], &hash[62..]);
    assert_eq!(kind, DELAY_ERROR);
    assert!(value.starts_with(&prefix), "{value}");
    assert!(value.ends_with(&format!(": insufficient_funds: {}", diagnosis.explanation)), "{value}");
    assert_eq!((level(&event), &event["user"]), ("error", &json!({ "id": USER })));
    assert_eq!(event["fingerprint"], json!([DELAY_ERROR, "insufficient_funds"]));
    for (tag, value) in [
        ("cause", "insufficient_funds"),
        ("blockedReason", "INSUFFICIENT_FUNDS"),
        ("state", "queued"),
        ("caseId", CASE),
        ("documentHash", &hash),
    ] {
        assert_eq!(event["tags"][tag], value, "{}", event["tags"]);
    }
    let blockchain = &event["contexts"]["blockchain"];
    for (key, value) in [
        ("documentHash", json!(hash)),
        ("caseId", json!(CASE)),
        ("registrationId", json!(registration.id)),
        ("blockedReason", json!("INSUFFICIENT_FUNDS")),
    ] {
        assert_eq!(blockchain[key], value, "{key} in {blockchain:#}");
    }
    assert_eq!(event["contexts"]["rpc"]["127.0.0.1"]["state"], "healthy", "{:#}", event["contexts"]);
    assert!(breadcrumbs(&event)[0]["message"].as_str().unwrap().starts_with("accepted as registration"));

    // Its trace so far, and the rest below a linked root once it is sent.
    let trace = &registration.trace_id;
    assert_eq!(event["contexts"]["trace"]["trace_id"], *trace);
    let first = observed.transaction("blockchain.register", trace).await;
    assert_eq!((&*first[0].status, first[0].get("cause")), ("deadline_exceeded", &json!("insufficient_funds")));
    let prepare = part(&first, "blockchain.prepare");
    assert_eq!(event["contexts"]["trace"]["span_id"], prepare.ids.span);
    observed.stack.anvil.set_balance(account(1), ETHER).await;
    let confirmed = client.wait_for_state(&registration.id, State::Confirmed).await;
    assert!(confirmed.diagnosis.is_some(), "the diagnosis is lost");
    let trees = observed.transactions("blockchain.register", trace, 2).await;
    let second = trees.iter().find(|tree| tree[0].ids != first[0].ids).unwrap();
    assert_eq!((&*second[0].status, part(second, "blockchain.send").status.as_str()), ("ok", "ok"));
    let exported = observed.otlp.span(trace, &second[0].ids.span).await;
    assert!(exported.links.iter().any(|link| link.span == first[0].ids.span), "{exported:#?}");
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_blocked_queue_is_ten_errors_and_one_for_the_rest_until_work_moves_again() {
    let mut observed = without_funds(StackBuilder::on_demand(), 2).await;
    let client = observed.stack.client.clone();
    let accepted = join_all((0..25).map(|number| client.accept(number, CASE))).await;

    let events = observed.sentry.events_where(11, "delays", is_delay).await;
    let named = |event: &Value| event["contexts"]["blockchain"]["registrationId"].as_str().map(str::to_owned);
    let ids: BTreeSet<_> = events.iter().filter_map(named).collect();
    assert_eq!(ids.len(), 10);
    let rest = events.iter().find(|event| named(event).is_none()).unwrap();
    assert_eq!(rest["contexts"]["blockchain"]["registrations"], 15);
    let listed = rest.to_string();
    let others = accepted.iter().filter(|registration| !ids.contains(&registration.id));
    assert!(others.clone().count() == 15 && others.clone().all(|other| listed.contains(&other.id)), "{listed}");
    for registration in &accepted {
        let tree = observed.transaction("blockchain.register", &registration.trace_id).await;
        assert_eq!(tree[0].status, "deadline_exceeded");
    }

    // More of the same episode, and a restart, report nothing more.
    let more = client.accept(100, CASE).await;
    wait_until_diagnosed(&client, &more.id).await;
    observed.stack.crash().await;
    let client = observed.stack.client.clone();
    let last = client.accept(101, CASE).await;
    wait_until_diagnosed(&client, &last.id).await;
    assert_eq!(delays(&observed), 11);
    let page = observed.stack.service.metrics().await;
    let delayed =
        |page: &Metrics| page.value("registrar_registrations_delayed_total", &[("cause", "insufficient_funds")]);
    assert_eq!(delayed(&page), 1.0, "since the restart");

    // Once all is sent, the next blocked document is a new episode.
    observed.stack.anvil.set_balance(account(1), ETHER).await;
    for registration in accepted.iter().chain([&more, &last]) {
        client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    observed.stack.anvil.set_balance(account(1), 0).await;
    let again = client.accept(200, CASE).await;
    let is_again = |event: &Value| is_delay(event) && named(event).as_ref() == Some(&again.id);
    observed.sentry.event("the delay of the next episode", is_again).await;
    assert_eq!(delays(&observed), 12);
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_signed_transaction_that_no_endpoint_accepts_is_reported_with_its_hash() {
    let builder = StackBuilder::on_demand().through_proxy().set("REGISTRAR_QUEUE_TIMEOUT", "2s");
    let observed = ObservedStack::start(builder).await;
    let refused = observed.stack.proxy().inject("eth_sendRawTransaction", Fault::Error(SENDER_LIMIT[1]));
    let accepted = observed.stack.client.accept(1, CASE).await;

    let event = observed.sentry.event("the delay", is_delay).await;

    let stored = observed.stack.client.get(&accepted.id).await.unwrap();
    let hash = &stored.transaction.as_ref().unwrap().hash;
    assert_eq!(event["contexts"]["blockchain"]["txHash"], json!(hash), "{event:#}");
    assert_eq!(event["tags"]["cause"], "sender_limit", "{event:#}");
    let first = observed.transaction("blockchain.register", &accepted.trace_id).await;
    assert_eq!(part(&first, "blockchain.prepare").status, "ok");
    let send = part(&first, "blockchain.send");
    assert_eq!(send.status, "deadline_exceeded");
    assert_eq!(event["contexts"]["trace"]["span_id"], send.ids.span);
    refused.release();
    observed.stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    let trees = observed.transactions("blockchain.register", &accepted.trace_id, 2).await;
    let second = trees.iter().find(|tree| tree[0].ids != first[0].ids).unwrap();
    assert!(second.iter().all(|span| span.op != "blockchain.prepare"), "reported twice: {second:#?}");
    assert_eq!(delays(&observed), 1);
}

#[tokio::test]
async fn hundreds_of_blocked_documents_cost_one_diagnosis() {
    /// One batch: those behind it have no blocked reason of their own yet.
    const DOCUMENTS: u64 = 600;
    let builder = StackBuilder::on_demand().through_proxy().set("REGISTRAR_QUEUE_TIMEOUT", "60s");
    let mut observed = ObservedStack::start_at(builder, 0.0).await;
    observed.stack.anvil.set_balance(account(1), 0).await;
    let client = observed.stack.client.clone();
    let mut accepted = Vec::new();
    for numbers in (0..DOCUMENTS).collect::<Vec<_>>().chunks(200) {
        accepted.extend(join_all(numbers.iter().map(|number| client.accept(*number, CASE))).await);
    }
    let youngest = Instant::now();
    for last in &accepted[accepted.len() - 200..] {
        client.wait_until(&last.id, "blocked", |seen| seen.blocked_reason == "INSUFFICIENT_FUNDS").await;
    }
    // All are late at the next start.
    sleep_until(youngest + Duration::from_secs(1)).await;
    observed.stack.settings = observed.stack.settings.clone().set("REGISTRAR_QUEUE_TIMEOUT", "1s");
    observed.stack.crash().await;

    let counted = async || {
        let page = observed.stack.service.metrics().await;
        let delayed = page.value("registrar_registrations_delayed_total", &[("cause", "insufficient_funds")]);
        (delayed == DOCUMENTS as f64).then_some(())
    };
    eventually("all to be diagnosed", counted).await;

    let is_rest = |event: &Value| is_delay(event) && !event["contexts"]["blockchain"]["registrations"].is_null();
    let rest = observed.sentry.event("the rest", is_rest).await;
    assert_eq!(rest["contexts"]["blockchain"]["registrations"], DOCUMENTS - 10);
    // Ten, one for the rest, and one if the restart came before the signer's balance was known.
    let errors = observed.stack.service.log().iter().filter(|line| line["level"] == "ERROR").count();
    assert!((11..=12).contains(&errors), "{errors} errors");
    // Every registration has the diagnosis, made at one time.
    let mut request = ListRegistrationsRequest { page_size: 500, ..Default::default() };
    let mut times = BTreeSet::new();
    loop {
        let page = observed.stack.client.list(request.clone()).await.unwrap();
        times.extend(page.registrations.into_iter().map(|registration| {
            let time = registration.diagnosis.unwrap().time.unwrap();
            (time.seconds, time.nanos)
        }));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    // A busy machine takes longer than one diagnosis is used.
    assert!(times.len() <= 3, "{} diagnoses", times.len());
}

#[tokio::test]
async fn a_later_call_for_a_delayed_registration_is_answered_at_once() {
    let observed = without_funds(StackBuilder::on_demand(), 1).await;
    let accepted = observed.stack.client.accept(1, CASE).await;
    wait_until_diagnosed(&observed.stack.client, &accepted.id).await;

    let error = observed.stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "QUEUE_TIMEOUT"));
    assert_eq!(error.registration_id, Some(accepted.id));
    assert_eq!(delays(&observed), 1);
}
