//! The caller's wait and deadline, and the server's confirmation timeout.

use crate::harness::{
    CASE, CallError, Cause, Fault, StackBuilder, State, WaitFor, document, language_client::Language, register_request,
    register_until_timeout, retry_timing, seconds,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Request};

async fn stalled_chain(builder: StackBuilder) -> crate::harness::TestStack {
    let stack = builder.start().await;
    stack.anvil.stop_mining().await;
    stack
}

#[tokio::test]
async fn a_wait_timeout_is_answered_and_the_registration_is_confirmed_later() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(1);
    let started = Instant::now();

    let error = stack.client.register(request).await.unwrap_err();

    assert!(started.elapsed() >= Duration::from_secs(1), "answered after {:?}", started.elapsed());
    assert_eq!(error.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert_eq!(error.metadata["state"], "SUBMITTED");
    assert_eq!(error.metadata["blockedReason"], "");
    assert_eq!(error.registration().state(), State::Submitted);
    stack.anvil.mine_on_demand().await;
    stack.client.wait_for_state(&error.registration_id.unwrap(), State::Confirmed).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_wait_timeout_names_the_blocked_reason() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(1);

    let error = stack.client.register(request).await.unwrap_err();

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert_eq!(error.metadata["state"], "QUEUED");
    assert_eq!(error.metadata["blockedReason"], reason);
}

#[tokio::test]
async fn a_wait_of_zero_answers_at_once_with_the_accepted_registration() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(0);

    let error = stack.client.register(request).await.unwrap_err();

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    let id = error.registration_id.unwrap();
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().id, id);
}

#[tokio::test]
async fn a_call_is_answered_before_its_deadline_with_details() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let deadline = Duration::from_secs(2);

    // The service answers a quarter of a second before the deadline, which the client enforces by its own clock.
    let error = retry_timing("the answer before the deadline", async || {
        let mut request = Request::new(register_request(1, CASE, WaitFor::Confirmed));
        request.set_timeout(deadline);
        let started = Instant::now();
        let status = stack.client.stub().register_document(request).await.unwrap_err();
        assert!(started.elapsed() > deadline / 2, "answered after {:?}", started.elapsed());
        // An error that the client made itself has no reason.
        let answered = status.metadata().contains_key("x-error-reason");
        if answered { Ok(CallError::from(status)) } else { Err(format!("{status:?} after {:?}", started.elapsed())) }
    })
    .await;

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert_eq!(error.registration().document_hash, document(1));
}

#[tokio::test]
async fn the_earlier_of_wait_timeout_and_deadline_ends_a_call() {
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let mut message = register_request(1, CASE, WaitFor::Confirmed);
    message.wait_timeout = seconds(1);
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(20));
    let started = Instant::now();

    let error = stack.client.register(request).await.unwrap_err();

    assert_eq!(error.reason, "WAIT_TIMEOUT");
    assert!(started.elapsed() < Duration::from_secs(15), "answered after {:?}", started.elapsed());
}

/// The outcome of a call in another language whose own deadline is shorter than the confirmation.
async fn assert_answered_before_deadline(language: Language) -> Value {
    const DEADLINE: f64 = 3.0;
    let stack = stalled_chain(StackBuilder::on_demand()).await;
    let request = json!({ "documentHash": document(1), "caseId": CASE, "waitFor": "WAIT_FOR_CONFIRMED" });

    // The service answers a quarter of a second before the deadline, which the client enforces by its own clock.
    let outcome = retry_timing("the answer before the deadline", async || {
        let outcome = language.register(stack.service.grpc, &request, DEADLINE).await;
        // An error that the client made itself has no reason.
        let answered = !outcome["metadata"]["x-error-reason"].is_null();
        if answered && outcome["seconds"].as_f64().unwrap() < DEADLINE { Ok(outcome) } else { Err(outcome.to_string()) }
    })
    .await;

    assert_eq!(outcome["code"], "DEADLINE_EXCEEDED", "{outcome}");
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let metadata = &outcome["metadata"];
    assert_eq!(metadata["x-error-reason"], "WAIT_TIMEOUT", "the error is the client's own: {outcome}");
    assert_eq!(metadata["x-registration-id"], id, "{outcome}");
    assert_eq!(metadata["x-trace-id"].as_str().unwrap().len(), 32, "{outcome}");
    outcome
}

#[tokio::test]
async fn python_gets_typed_details_before_its_deadline() {
    let outcome = assert_answered_before_deadline(Language::Python).await;

    let info = &outcome["details"]["ErrorInfo"];
    assert_eq!((&info["reason"], &info["domain"]), (&json!("WAIT_TIMEOUT"), &json!("registrar.v1")), "{outcome}");
    let registration = &outcome["details"]["RegistrationErrorDetail"]["registration"];
    assert_eq!(registration["documentHash"], document(1), "{outcome}");
}

#[tokio::test]
async fn node_gets_reason_and_id_in_trailers_before_its_deadline() {
    assert_answered_before_deadline(Language::Node).await;
}

#[tokio::test]
async fn a_confirmation_timeout_answers_all_callers_and_the_registration_is_confirmed_later() {
    // These calls have no wait timeout. The confirmation timeout is long enough for a busy machine to send first.
    let stack = stalled_chain(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "5s")).await;

    let waiting = (0..3).map(|_| stack.client.register(register_request(1, CASE, WaitFor::Confirmed)));
    let errors = futures_util::future::join_all(waiting).await;

    let sent = stack.client.get_pair(&document(1), CASE).await.unwrap().transaction.unwrap().hash;
    for error in errors.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
        assert_eq!(error.metadata["cause"], "pending");
        assert!(!error.metadata["explanation"].is_empty());
        assert_eq!(error.metadata["transactionHash"], sent);
        assert!(error.metadata.contains_key("explorerUrl"));
        let diagnosis = error.detail.as_ref().unwrap().diagnosis.as_ref().unwrap();
        assert_eq!(diagnosis.cause(), Cause::Pending);
        assert_eq!(diagnosis.explanation, error.metadata["explanation"]);
        assert_eq!(error.registration().state(), State::Submitted);
    }
    stack.anvil.mine_on_demand().await;
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    let confirmed = stack.client.wait_for_state(&id, State::Confirmed).await;
    assert!(confirmed.diagnosis.is_some(), "the diagnosis is stored");
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn too_few_confirmations_at_the_timeout_are_diagnosed() {
    let builder =
        StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "3s").set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = builder.start().await;

    let error = stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
    assert_eq!(error.metadata["cause"], "awaiting_confirmations");
    assert!(error.metadata["explanation"].contains("1 of the 2 confirmations"), "{:?}", error.metadata);
    assert_eq!(error.registration().state(), State::Included);
    stack.anvil.mine(1).await;
    stack.client.wait_for_state(&error.registration_id.unwrap(), State::Confirmed).await;
}

#[tokio::test]
async fn two_confirmations_on_a_default_anvil_time_out_with_advice() {
    let builder =
        StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "3s").set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = builder.start().await;

    let error = stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    let advice = "REGISTRAR_CONFIRMATIONS=1";
    assert_eq!(error.reason, "CONFIRMATION_TIMEOUT");
    assert!(error.metadata["explanation"].contains(advice), "{:?}", error.metadata);
    let diagnosis = stack.client.diagnose(&error.registration_id.unwrap()).await.unwrap().diagnosis.unwrap();
    assert!(diagnosis.explanation.contains(advice), "the diagnosis lacks the advice: {diagnosis:?}");
}

#[tokio::test]
async fn a_confirmation_timeout_is_reported_once() {
    let mut stack = stalled_chain(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s")).await;
    let accepted = stack.client.accept(1, CASE).await;

    let is_report = |line: &Value| {
        line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains("not confirmed after"))
    };
    stack.service.wait_for_log("the report of the timeout", is_report).await;
    // A later caller gets the same answer without a second report.
    let error = stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    assert_eq!(error.reason, "CONFIRMATION_TIMEOUT");
    assert_eq!(error.registration_id, Some(accepted.id));
    assert_eq!(stack.service.log().iter().filter(|line| is_report(line)).count(), 1);
}

#[tokio::test]
async fn a_wait_without_endpoints_ends_unavailable_and_the_registration_is_confirmed_later() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    let away = stack.proxy().inject_all(Fault::LoseRequest);
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(3);

    let error = stack.client.register(request).await.unwrap_err();

    assert_eq!(error.kind(), (Code::Unavailable, "ALL_RPC_ENDPOINTS_UNAVAILABLE"));
    assert!(error.retry_after.is_some(), "no retry delay: {error:?}");
    assert_eq!(error.registration().document_hash, document(1));
    away.release();
    stack.client.wait_for_state(&error.registration_id.unwrap(), State::Confirmed).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_stopped_node_is_reported_as_unavailable() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.anvil.kill();
    let mut request = register_request(1, CASE, WaitFor::Submitted);
    request.wait_timeout = seconds(3);

    let error = stack.client.register(request).await.unwrap_err();

    assert_eq!(error.kind(), (Code::Unavailable, "ALL_RPC_ENDPOINTS_UNAVAILABLE"));
}

#[tokio::test]
async fn the_servers_maximum_wait_limits_long_deadlines() {
    let builder = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s").set("REGISTRAR_MAX_WAIT", "2s");
    let stack = builder.start().await;
    stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let mut request = Request::new(register_request(1, CASE, WaitFor::Confirmed));
    request.set_timeout(Duration::from_secs(3600));
    let started = Instant::now();

    let error = stack.client.register(request).await.unwrap_err();

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "WAIT_TIMEOUT"));
    assert!(started.elapsed() < Duration::from_secs(30), "answered after {:?}", started.elapsed());
}

#[tokio::test]
async fn the_confirmation_timeout_applies_to_included_transactions_without_a_send_answer() {
    let builder = StackBuilder::on_demand().through_proxy().set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = builder.set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s").start().await;
    let _injected = stack.proxy().inject("eth_sendRawTransaction", Fault::HoldResponse);
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Included).await;

    let error = stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    assert_eq!(error.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
}
