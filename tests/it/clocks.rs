//! The two clocks: the caller's wait and deadline, and the server's confirmation clock.

use crate::harness::{
    Cause, Fault, Plan, Refusal, State, WaitFor, document, foreign::Language, in_one_of, registering, seconds,
    until_late,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Request};

const CASE: &str = "case-1";

/// A service on a node that mines nothing.
async fn standstill(plan: Plan) -> crate::harness::Stack {
    let stack = plan.start().await;
    stack.anvil.stop_mining().await;
    stack
}

#[tokio::test]
async fn a_wait_that_ends_first_answers_wait_timeout_and_the_work_goes_on() {
    let stack = standstill(Plan::on_demand()).await;
    let mut request = registering(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(1);
    let began = Instant::now();

    let refusal = stack.client.register(request).await.unwrap_err();

    assert!(began.elapsed() >= Duration::from_secs(1), "answered after {:?}", began.elapsed());
    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert_eq!(refusal.metadata["state"], "SUBMITTED");
    assert_eq!(refusal.metadata["blockedReason"], "");
    assert_eq!(refusal.registration().state(), State::Submitted);
    stack.anvil.mine_on_demand().await;
    stack.client.reaches(&refusal.registration_id.unwrap(), State::Confirmed).await;
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_wait_that_ends_while_the_registration_is_blocked_says_by_what() {
    let stack = standstill(Plan::on_demand()).await;
    stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    let mut request = registering(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(1);

    let refusal = stack.client.register(request).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert_eq!(refusal.metadata["state"], "QUEUED");
    assert_eq!(refusal.metadata["blockedReason"], reason);
}

#[tokio::test]
async fn a_wait_of_zero_answers_at_once_with_what_was_accepted() {
    let stack = standstill(Plan::on_demand()).await;
    let mut request = registering(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(0);

    let refusal = stack.client.register(request).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    let id = refusal.registration_id.unwrap();
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().id, id);
}

#[tokio::test]
async fn a_call_is_answered_before_its_own_deadline_with_its_details() {
    let stack = standstill(Plan::on_demand()).await;
    let deadline = Duration::from_secs(2);

    // The answer has a quarter of a second to come.
    let refusal = in_one_of("an answer in time", async || {
        let mut request = Request::new(registering(1, CASE, WaitFor::Confirmed));
        request.set_timeout(deadline);
        let began = Instant::now();
        let status = stack.client.stub().register_document(request).await.unwrap_err();
        assert!(began.elapsed() > deadline / 2, "answered after {:?}", began.elapsed());
        // The client itself, when it gives up, has no reason to tell.
        let told = status.metadata().contains_key("x-error-reason");
        if told { Ok(Refusal::from(status)) } else { Err(format!("{status:?} after {:?}", began.elapsed())) }
    })
    .await;

    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert_eq!(refusal.registration().document_hash, document(1));
}

#[tokio::test]
async fn the_earliest_of_wait_and_deadline_ends_a_call() {
    let stack = standstill(Plan::on_demand()).await;
    let mut message = registering(1, CASE, WaitFor::Confirmed);
    message.wait_timeout = seconds(1);
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(20));
    let began = Instant::now();

    let refusal = stack.client.register(request).await.unwrap_err();

    assert_eq!(refusal.reason, "WAIT_TIMEOUT");
    assert!(began.elapsed() < Duration::from_secs(15), "answered after {:?}", began.elapsed());
}

/// What a caller in another language sees of a call that its own deadline would have ended.
async fn is_answered_before_its_deadline(language: Language) -> Value {
    const DEADLINE: f64 = 3.0;
    let stack = standstill(Plan::on_demand()).await;
    let request = json!({ "documentHash": document(1), "caseId": CASE, "waitFor": "WAIT_FOR_CONFIRMED" });

    // The answer has a quarter of a second to come.
    let outcome = in_one_of("an answer in time", async || {
        let outcome = language.register(stack.service.grpc, &request, DEADLINE).await;
        // The client itself, when it gives up, has no reason to tell.
        let told = !outcome["metadata"]["x-error-reason"].is_null();
        if told && outcome["seconds"].as_f64().unwrap() < DEADLINE { Ok(outcome) } else { Err(outcome.to_string()) }
    })
    .await;

    assert_eq!(outcome["code"], "DEADLINE_EXCEEDED", "{outcome}");
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let metadata = &outcome["metadata"];
    assert_eq!(metadata["x-error-reason"], "WAIT_TIMEOUT", "its own words, not the client's: {outcome}");
    assert_eq!(metadata["x-registration-id"], id, "{outcome}");
    assert_eq!(metadata["x-trace-id"].as_str().unwrap().len(), 32, "{outcome}");
    outcome
}

#[tokio::test]
async fn python_is_answered_before_its_deadline_with_the_typed_details() {
    let outcome = is_answered_before_its_deadline(Language::Python).await;

    let info = &outcome["details"]["ErrorInfo"];
    assert_eq!((&info["reason"], &info["domain"]), (&json!("WAIT_TIMEOUT"), &json!("registrar.v1")), "{outcome}");
    let registration = &outcome["details"]["RegistrationErrorDetail"]["registration"];
    assert_eq!(registration["documentHash"], document(1), "{outcome}");
}

#[tokio::test]
async fn node_is_answered_before_its_deadline_with_the_reason_and_the_id_in_plain_trailers() {
    is_answered_before_its_deadline(Language::Node).await;
}

#[tokio::test]
async fn the_confirmation_clock_answers_everybody_who_waits_and_the_work_goes_on() {
    // These callers say nothing of how long they wait. The clock is long enough for a busy machine to send in the meantime.
    let stack = standstill(Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "5s")).await;

    let waiting = (0..3).map(|_| stack.client.register(registering(1, CASE, WaitFor::Confirmed)));
    let refusals = futures_util::future::join_all(waiting).await;

    let sent = stack.client.get_pair(&document(1), CASE).await.unwrap().transaction.unwrap().hash;
    for refusal in refusals.into_iter().map(Result::unwrap_err) {
        assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
        assert_eq!(refusal.metadata["cause"], "pending");
        assert!(!refusal.metadata["explanation"].is_empty());
        assert_eq!(refusal.metadata["transactionHash"], sent);
        assert!(refusal.metadata.contains_key("explorerUrl"));
        let diagnosis = refusal.detail.as_ref().unwrap().diagnosis.as_ref().unwrap();
        assert_eq!(diagnosis.cause(), Cause::Pending);
        assert_eq!(diagnosis.explanation, refusal.metadata["explanation"]);
        assert_eq!(refusal.registration().state(), State::Submitted);
    }
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let confirmed = stack.client.reaches(&id, State::Confirmed).await;
    assert!(confirmed.diagnosis.is_some(), "the diagnosis is kept");
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_block_that_is_not_deep_enough_in_time_is_diagnosed_as_such() {
    let plan = Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "3s").set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = plan.start().await;

    let refusal = stack.client.register(until_late(1, CASE)).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
    assert_eq!(refusal.metadata["cause"], "awaiting_confirmations");
    assert!(refusal.metadata["explanation"].contains("1 of the 2 confirmations"), "{:?}", refusal.metadata);
    assert_eq!(refusal.registration().state(), State::Included);
    stack.anvil.mine(1).await;
    stack.client.reaches(&refusal.registration_id.unwrap(), State::Confirmed).await;
}

#[tokio::test]
async fn a_newcomer_on_a_plain_anvil_who_wants_two_confirmations_is_told_what_to_set() {
    let plan = Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "3s").set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = plan.start().await;

    let refusal = stack.client.register(until_late(1, CASE)).await.unwrap_err();

    let advice = "REGISTRAR_CONFIRMATIONS=1";
    assert_eq!(refusal.reason, "CONFIRMATION_TIMEOUT");
    assert!(refusal.metadata["explanation"].contains(advice), "{:?}", refusal.metadata);
    let asked = stack.client.diagnose(&refusal.registration_id.unwrap()).await.unwrap().diagnosis.unwrap();
    assert!(asked.explanation.contains(advice), "asking gives the same advice: {asked:?}");
}

#[tokio::test]
async fn a_timeout_is_reported_once_whoever_waits() {
    let mut stack = standstill(Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s")).await;
    let accepted = stack.client.accept(1, CASE).await;

    let is_report = |line: &Value| {
        line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains("not confirmed after"))
    };
    stack.service.logged("the report of the timeout", is_report).await;
    // A caller who comes later is answered, and makes no second report.
    let refusal = stack.client.register(until_late(1, CASE)).await.unwrap_err();

    assert_eq!(refusal.reason, "CONFIRMATION_TIMEOUT");
    assert_eq!(refusal.registration_id, Some(accepted.id));
    assert_eq!(stack.service.log().iter().filter(|line| is_report(line)).count(), 1);
}

#[tokio::test]
async fn without_an_endpoint_until_the_wait_ends_the_answer_says_so_and_the_work_goes_on() {
    let stack = Plan::on_demand().through_proxy().start().await;
    let away = stack.proxy().trap_all(Fault::LoseRequest);
    let mut request = registering(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(3);

    let refusal = stack.client.register(request).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::Unavailable, "ALL_RPC_ENDPOINTS_UNAVAILABLE"));
    assert!(refusal.retry_after.is_some(), "trying again can help: {refusal:?}");
    assert_eq!(refusal.registration().document_hash, document(1));
    away.release();
    stack.client.reaches(&refusal.registration_id.unwrap(), State::Confirmed).await;
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_is_told_from_a_slow_one() {
    let mut stack = Plan::on_demand().start().await;
    stack.anvil.kill();
    let mut request = registering(1, CASE, WaitFor::Submitted);
    request.wait_timeout = seconds(3);

    let refusal = stack.client.register(request).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::Unavailable, "ALL_RPC_ENDPOINTS_UNAVAILABLE"));
}

#[tokio::test]
async fn a_long_deadline_does_not_make_a_call_wait_longer_than_the_servers_maximum() {
    let plan = Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s").set("REGISTRAR_MAX_WAIT", "2s");
    let stack = plan.start().await;
    stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let mut request = Request::new(registering(1, CASE, WaitFor::Confirmed));
    request.set_timeout(Duration::from_secs(3600));
    let began = Instant::now();

    let refusal = stack.client.register(request).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert!(began.elapsed() < Duration::from_secs(30), "answered after {:?}", began.elapsed());
}

#[tokio::test]
async fn the_confirmation_clock_runs_for_what_is_included_though_its_sending_was_never_answered() {
    let plan = Plan::on_demand().through_proxy().set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = plan.set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s").start().await;
    let _trap = stack.proxy().trap("eth_sendRawTransaction", Fault::HoldAnswer);
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Included).await;

    let refusal = stack.client.register(until_late(1, CASE)).await.unwrap_err();

    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
}
