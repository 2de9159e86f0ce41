//! What else a person has to know of: each told once, in the trace of the registration that it is about.

use super::{CASE, USER, Watched, exception, level, message};
use crate::harness::{Plan, Registration, State, WaitFor, account, document, eventually, receivers::Span, registering};
use alloy::primitives::{B256, Bytes, U64, U256};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tonic::Code;

/// Reverts whatever it is asked: PUSH1 0, PUSH1 0, REVERT.
const ALWAYS_REVERTS: &str = "0x60006000fd";

async fn replace_code(watched: &Watched, code: &str) -> String {
    let (address, rpc) = (watched.stack.registry.address, watched.stack.anvil.rpc());
    let before: Bytes = rpc.call("eth_getCode", json!([address, "latest"])).await;
    rpc.run("anvil_setCode", json!([address, code])).await;
    before.to_string()
}

/// The words of an event, whatever kind it is.
fn words(event: &Value) -> String {
    let (kind, value) = exception(event);
    format!("{kind} {value} {}", message(event))
}

#[tokio::test]
async fn a_registration_that_failed_is_one_error_in_its_trace_and_its_waterfall_says_so() {
    let watched = Watched::start(Plan::on_demand()).await;
    replace_code(&watched, ALWAYS_REVERTS).await;
    let mut request = registering(1, CASE, WaitFor::Confirmed);
    request.user_id = USER.to_owned();

    let refusal = watched.stack.client.register(request).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::FailedPrecondition, "REJECTED_BY_CONTRACT"));
    let id = &refusal.registration().id;
    let in_trace = |event: &Value| event["contexts"]["trace"]["trace_id"] == refusal.trace_id;
    let event = watched.sentry.event("the failure", in_trace).await;
    assert_eq!(level(&event), "error", "{event:#}");
    assert!(event.to_string().contains("REJECTED_BY_CONTRACT"), "why: {event:#}");
    assert!(event.to_string().contains(id), "of which registration: {event:#}");
    assert_eq!(event["user"], json!({ "id": USER }));
    let call = watched.transaction("grpc.server", &refusal.trace_id).await;
    let journey = watched.transaction("blockchain.register", &refusal.trace_id).await;
    assert_eq!((&*call[0].status, &*journey[0].status), ("failed_precondition", "failed_precondition"));
    let prepare = super::part(&journey, "blockchain.prepare");
    assert_eq!(prepare.status, "failed_precondition");
    assert!(journey.iter().all(|span| span.op != "blockchain.send"), "nothing was sent: {journey:#?}");
    watched.is_told_to_both(&journey).await;
    assert_eq!(watched.sentry.events().len(), 1, "{:#?}", watched.sentry.events());
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn a_failed_registration_that_is_registered_again_has_a_second_waterfall_in_its_trace() {
    let watched = Watched::start(Plan::on_demand()).await;
    let code = replace_code(&watched, ALWAYS_REVERTS).await;
    let refusal = watched.stack.client.register(registering(1, CASE, WaitFor::Confirmed)).await.unwrap_err();
    replace_code(&watched, &code).await;

    let again = watched.stack.client.confirm(1, CASE).await;

    assert_eq!(again.trace_id, refusal.trace_id);
    let journeys = watched.transactions("blockchain.register", &again.trace_id, 2).await;
    let mut statuses: Vec<_> = journeys.iter().map(|journey| journey[0].status.as_str()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["failed_precondition", "ok"]);
    no_span_is_told_twice(&journeys);
}

/// Two spans with one id would be one span to whoever draws the trace.
fn no_span_is_told_twice(journeys: &[Vec<Span>]) {
    let mut ids = BTreeSet::new();
    for span in journeys.iter().flatten() {
        assert!(ids.insert(&span.ids), "a second span with this id: {span:#?}");
    }
}

#[tokio::test]
async fn a_late_journey_that_somebody_else_then_puts_back_is_told_again_under_ids_of_its_own() {
    let watched = super::standstill(Plan::on_demand(), 1).await;
    let accepted = watched.stack.client.accept(1, CASE).await;
    watched.transaction("blockchain.register", &accepted.trace_id).await;
    replace(&watched).await;

    watched.stack.anvil.mine_on_demand().await;

    watched.stack.client.reaches(&accepted.id, State::Confirmed).await;
    let journeys = watched.transactions("blockchain.register", &accepted.trace_id, 2).await;
    no_span_is_told_twice(&journeys);
}

/// Somebody else signs with the service's key, and offers more for its first nonce.
async fn replace(watched: &Watched) {
    let fee = U256::from(500_000_000_000_u64);
    let call = json!({ "from": account(1), "to": account(9), "nonce": U64::from(0), "gas": U64::from(21_000),
        "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
    let _: B256 = watched.stack.anvil.rpc().call("eth_sendTransaction", json!([call])).await;
}

#[tokio::test]
async fn a_transaction_that_somebody_else_replaced_is_told_and_its_work_goes_on() {
    let watched = Watched::start(Plan::on_demand()).await;
    watched.stack.anvil.stop_mining().await;
    let accepted = watched.stack.client.accept(1, CASE).await;
    let submitted = watched.stack.client.reaches(&accepted.id, State::Submitted).await;
    replace(&watched).await;

    watched.stack.anvil.mine_on_demand().await;

    let hash = submitted.transaction.unwrap().hash;
    let is_it = |event: &Value| level(event) == "warning" && words(event).contains("queued again");
    let event = watched.sentry.event("the replacement", is_it).await;
    assert_eq!(event["tags"]["txHash"], hash, "{event:#}");
    assert_eq!(event["contexts"]["trace"]["trace_id"], accepted.trace_id);
    let requeued = |seen: &Registration| seen.transaction.as_ref().is_some_and(|now| now.hash != hash);
    watched.stack.client.sees(&accepted.id, "another transaction", requeued).await;
    watched.stack.client.reaches(&accepted.id, State::Confirmed).await;
    watched.transaction("blockchain.register", &accepted.trace_id).await;
    watched.stack.registry.holds_exactly([(document(1), CASE.into())]).await;
    assert_eq!(watched.sentry.events().len(), 1, "{:#?}", watched.sentry.events());
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn a_reorg_of_an_included_transaction_is_told_once() {
    let watched = Watched::start(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3)).await;
    let accepted = watched.stack.client.accept(1, CASE).await;
    let included = watched.stack.client.reaches(&accepted.id, State::Included).await;
    watched.stack.anvil.stop_mining().await;

    watched.stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    watched.stack.anvil.mine(2).await;

    let transaction = included.transaction.as_ref().unwrap();
    let is_it = |event: &Value| words(event).contains("no longer canonical");
    let event = watched.sentry.event("the reorg", is_it).await;
    assert_eq!(level(&event), "warning", "{event:#}");
    assert_eq!(event["tags"]["txHash"], transaction.hash, "{event:#}");
    assert_eq!(event["tags"]["registrationId"], accepted.id, "{event:#}");
    assert_eq!(event["contexts"]["trace"]["trace_id"], accepted.trace_id);
    let block = transaction.block_number.unwrap();
    assert!(event.to_string().contains(&block.to_string()), "which block: {event:#}");
    watched.stack.anvil.mine_on_demand().await;
    let again = |seen: &Registration| seen.state() == State::Included && seen.revision > included.revision;
    watched.stack.client.sees(&accepted.id, "another inclusion", again).await;
    watched.stack.anvil.mine(2).await;
    watched.stack.client.reaches(&accepted.id, State::Confirmed).await;
    assert_eq!(watched.sentry.events().iter().filter(|event| is_it(event)).count(), 1);
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn a_signer_out_of_funds_is_told_once_however_much_waits_for_it() {
    let watched = Watched::start(Plan::on_demand()).await;
    watched.stack.anvil.set_balance(account(1), 0).await;
    let mut accepted = Vec::new();
    for number in 0..5 {
        accepted.push(watched.stack.client.accept(number, CASE).await);
    }
    let reason = "INSUFFICIENT_FUNDS";
    for registration in &accepted {
        watched.stack.client.sees(&registration.id, reason, |seen| seen.blocked_reason == reason).await;
    }

    let is_it = |event: &Value| event.to_string().contains(reason);
    let event = watched.sentry.event("the lack of funds", is_it).await;

    assert!(event.to_string().contains(&account(1).to_string()), "whose: {event:#}");
    watched.stack.anvil.set_balance(account(1), 10_u128.pow(21)).await;
    for registration in &accepted {
        watched.stack.client.reaches(&registration.id, State::Confirmed).await;
    }
    let told = async || Some(watched.sentry.events().iter().filter(|event| is_it(event)).count());
    assert_eq!(eventually("a count", told).await, 1, "{:#?}", watched.sentry.events());
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn what_a_caller_does_wrong_is_nobody_elses_error() {
    let watched = Watched::start(Plan::on_demand()).await;
    let client = &watched.stack.client;
    let invalid = client.register(registering(1, "no case", WaitFor::Accepted)).await.unwrap_err();
    let missing = client.get("00000000-0000-7000-8000-000000000000").await.unwrap_err();
    watched.stack.anvil.stop_mining().await;
    let mut hurried = registering(1, CASE, WaitFor::Confirmed);
    hurried.wait_timeout = crate::harness::seconds(0);
    let hurried = client.register(hurried).await.unwrap_err();

    for refusal in [invalid, missing, hurried] {
        watched.transaction("grpc.server", &refusal.trace_id).await;
    }

    assert_eq!(watched.sentry.events(), Vec::<Value>::new());
}
