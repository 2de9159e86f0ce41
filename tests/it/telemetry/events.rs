//! Other Sentry events: each sent once, in the trace of its registration.

use super::{CASE, ObservedStack, USER, exception, level, message};
use crate::harness::{
    Registration, StackBuilder, State, WaitFor, account, document, eventually, receivers::Span, register_request,
};
use alloy::primitives::{B256, Bytes, U64, U256};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tonic::Code;

/// Contract code that reverts every call: PUSH1 0, PUSH1 0, REVERT.
const ALWAYS_REVERTS: &str = "0x60006000fd";

async fn replace_code(observed: &ObservedStack, code: &str) -> String {
    let (address, rpc) = (observed.stack.registry.address, observed.stack.anvil.rpc());
    let before: Bytes = rpc.call("eth_getCode", json!([address, "latest"])).await;
    rpc.run("anvil_setCode", json!([address, code])).await;
    before.to_string()
}

/// The text of an event of any kind.
fn event_text(event: &Value) -> String {
    let (kind, value) = exception(event);
    format!("{kind} {value} {}", message(event))
}

#[tokio::test]
async fn a_failed_registration_is_one_error_in_its_trace() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    replace_code(&observed, ALWAYS_REVERTS).await;
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.user_id = USER.to_owned();

    let error = observed.stack.client.register(request).await.unwrap_err();

    assert_eq!(error.kind(), (Code::FailedPrecondition, "REJECTED_BY_CONTRACT"));
    let id = &error.registration().id;
    let in_trace = |event: &Value| event["contexts"]["trace"]["trace_id"] == error.trace_id;
    let event = observed.sentry.event("the failure", in_trace).await;
    assert_eq!(level(&event), "error", "{event:#}");
    assert!(event.to_string().contains("REJECTED_BY_CONTRACT"), "no reason in {event:#}");
    assert!(event.to_string().contains(id), "no registration id in {event:#}");
    assert_eq!(event["user"], json!({ "id": USER }));
    let call = observed.transaction("grpc.server", &error.trace_id).await;
    let tree = observed.transaction("blockchain.register", &error.trace_id).await;
    assert_eq!((&*call[0].status, &*tree[0].status), ("failed_precondition", "failed_precondition"));
    let prepare = super::part(&tree, "blockchain.prepare");
    assert_eq!(prepare.status, "failed_precondition");
    assert!(tree.iter().all(|span| span.op != "blockchain.send"), "a transaction was sent: {tree:#?}");
    observed.assert_in_both_receivers(&tree).await;
    assert_eq!(observed.sentry.events().len(), 1, "{:#?}", observed.sentry.events());
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_registration_repeated_after_a_failure_has_a_second_waterfall() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let code = replace_code(&observed, ALWAYS_REVERTS).await;
    let error = observed.stack.client.register(register_request(1, CASE, WaitFor::Confirmed)).await.unwrap_err();
    replace_code(&observed, &code).await;

    let again = observed.stack.client.confirm(1, CASE).await;

    assert_eq!(again.trace_id, error.trace_id);
    let trees = observed.transactions("blockchain.register", &again.trace_id, 2).await;
    let mut statuses: Vec<_> = trees.iter().map(|tree| tree[0].status.as_str()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["failed_precondition", "ok"]);
    assert_span_ids_are_unique(&trees);
}

/// A span id that occurs twice would be drawn as one span.
fn assert_span_ids_are_unique(trees: &[Vec<Span>]) {
    let mut ids = BTreeSet::new();
    for span in trees.iter().flatten() {
        assert!(ids.insert(&span.ids), "a second span with this id: {span:#?}");
    }
}

#[tokio::test]
async fn a_late_registration_replaced_externally_is_traced_again_with_new_span_ids() {
    let observed = super::stalled_chain(StackBuilder::on_demand(), 1).await;
    let accepted = observed.stack.client.accept(1, CASE).await;
    observed.transaction("blockchain.register", &accepted.trace_id).await;
    replace_externally(&observed).await;

    observed.stack.anvil.mine_on_demand().await;

    observed.stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    let trees = observed.transactions("blockchain.register", &accepted.trace_id, 2).await;
    assert_span_ids_are_unique(&trees);
}

/// Replaces the signer's first transaction by an external one with higher fees.
async fn replace_externally(observed: &ObservedStack) {
    let fee = U256::from(500_000_000_000_u64);
    let call = json!({ "from": account(1), "to": account(9), "nonce": U64::from(0), "gas": U64::from(21_000),
        "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
    let _: B256 = observed.stack.anvil.rpc().call("eth_sendTransaction", json!([call])).await;
}

#[tokio::test]
async fn an_external_replacement_is_one_warning_and_its_work_continues() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    observed.stack.anvil.stop_mining().await;
    let accepted = observed.stack.client.accept(1, CASE).await;
    let submitted = observed.stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    replace_externally(&observed).await;

    observed.stack.anvil.mine_on_demand().await;

    let hash = submitted.transaction.unwrap().hash;
    let is_it = |event: &Value| level(event) == "warning" && event_text(event).contains("queued again");
    let event = observed.sentry.event("the replacement", is_it).await;
    assert_eq!(event["tags"]["txHash"], hash, "{event:#}");
    assert_eq!(event["contexts"]["trace"]["trace_id"], accepted.trace_id);
    let requeued = |seen: &Registration| seen.transaction.as_ref().is_some_and(|now| now.hash != hash);
    observed.stack.client.wait_until(&accepted.id, "another transaction", requeued).await;
    observed.stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    observed.transaction("blockchain.register", &accepted.trace_id).await;
    observed.stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
    assert_eq!(observed.sentry.events().len(), 1, "{:#?}", observed.sentry.events());
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_reorg_of_an_included_transaction_is_one_warning() {
    let observed = ObservedStack::start(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3)).await;
    let accepted = observed.stack.client.accept(1, CASE).await;
    let included = observed.stack.client.wait_for_state(&accepted.id, State::Included).await;
    observed.stack.anvil.stop_mining().await;

    observed.stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    observed.stack.anvil.mine(2).await;

    let transaction = included.transaction.as_ref().unwrap();
    let is_it = |event: &Value| event_text(event).contains("no longer canonical");
    let event = observed.sentry.event("the reorg", is_it).await;
    assert_eq!(level(&event), "warning", "{event:#}");
    assert_eq!(event["tags"]["txHash"], transaction.hash, "{event:#}");
    assert_eq!(event["tags"]["registrationId"], accepted.id, "{event:#}");
    assert_eq!(event["contexts"]["trace"]["trace_id"], accepted.trace_id);
    let block = transaction.block_number.unwrap();
    assert!(event.to_string().contains(&block.to_string()), "no block number in {event:#}");
    observed.stack.anvil.mine_on_demand().await;
    let again = |seen: &Registration| seen.state() == State::Included && seen.revision > included.revision;
    observed.stack.client.wait_until(&accepted.id, "another inclusion", again).await;
    observed.stack.anvil.mine(2).await;
    observed.stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    assert_eq!(observed.sentry.events().iter().filter(|event| is_it(event)).count(), 1);
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_signer_without_funds_is_one_event() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    observed.stack.anvil.set_balance(account(1), 0).await;
    let mut accepted = Vec::new();
    for number in 0..5 {
        accepted.push(observed.stack.client.accept(number, CASE).await);
    }
    let reason = "INSUFFICIENT_FUNDS";
    for registration in &accepted {
        observed.stack.client.wait_until(&registration.id, reason, |seen| seen.blocked_reason == reason).await;
    }

    let is_it = |event: &Value| event.to_string().contains(reason);
    let event = observed.sentry.event("the lack of funds", is_it).await;

    assert!(event.to_string().contains(&account(1).to_string()), "no signer in {event:#}");
    observed.stack.anvil.set_balance(account(1), 10_u128.pow(21)).await;
    for registration in &accepted {
        observed.stack.client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    let exported = async || Some(observed.sentry.events().iter().filter(|event| is_it(event)).count());
    assert_eq!(eventually("a count", exported).await, 1, "{:#?}", observed.sentry.events());
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn callers_mistakes_are_no_events() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let client = &observed.stack.client;
    let invalid = client.register(register_request(1, "no case", WaitFor::Accepted)).await.unwrap_err();
    let missing = client.get("00000000-0000-7000-8000-000000000000").await.unwrap_err();
    observed.stack.anvil.stop_mining().await;
    let mut hurried = register_request(1, CASE, WaitFor::Confirmed);
    hurried.wait_timeout = crate::harness::seconds(0);
    let hurried = client.register(hurried).await.unwrap_err();

    for error in [invalid, missing, hurried] {
        observed.transaction("grpc.server", &error.trace_id).await;
    }

    assert_eq!(observed.sentry.events(), Vec::<Value>::new());
}

#[tokio::test]
async fn a_warning_during_a_call_is_an_event_of_its_span() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    replace_code(&observed, "0x").await;

    let error = observed.stack.client.verify(&document(1), CASE).await.unwrap_err();

    assert_eq!(error.reason, "NO_CONTRACT");
    let is_call = |span: &Span| span.ids.trace == error.trace_id && span.op == "grpc.server";
    let call = observed.otlp.spans_where(1, "the call", is_call).await.remove(0);
    let warning = call.events.iter().find(|event| event.name.starts_with("documents cannot be verified"));
    let warning = warning.unwrap_or_else(|| panic!("{call:#?}"));
    assert_eq!(warning.attributes["level"], "WARN", "{call:#?}");
    assert!(warning.attributes.contains_key("error"), "{call:#?}");
}
