//! Every cause of a late confirmation, produced on a real node and reported consistently to every observer.

mod endpoints;
mod evidence_rounds;
mod reports;
mod transactions;

use crate::harness::{
    CASE, CallError, Cause, StackBuilder, State, TestStack, cli, metrics::Metrics, register_until_timeout,
};
use registrar::api::proto::{Diagnosis, Registration};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tonic::Code;

/// Sets the confirmation timeout. What a test does to a sent transaction has to happen before it, also on a busy
/// machine.
fn late_after(builder: StackBuilder, seconds: u64) -> StackBuilder {
    builder.set("REGISTRAR_CONFIRMATION_TIMEOUT", format!("{seconds}s"))
}

/// The name of a cause in metadata, logs and metrics.
fn code(cause: Cause) -> String {
    cause.as_str_name().trim_start_matches("CAUSE_").to_lowercase()
}

/// Registers a document and waits until its transaction is submitted.
async fn submit(stack: &TestStack, number: u64) -> Registration {
    let accepted = stack.client.accept(number, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await
}

/// Waits for the document's confirmation timeout with this cause and checks that every observer gets the same
/// diagnosis.
async fn assert_late(stack: &mut TestStack, number: u64, cause: Cause) -> Diagnosis {
    let error = stack.client.register(register_until_timeout(number, CASE)).await.unwrap_err();
    let diagnosis = diagnosis_of_error(&error);
    assert_eq!(diagnosis.cause(), cause, "{}\n{:?}", diagnosis.explanation, diagnosis.evidence);
    assert_reported_consistently(stack, error.registration_id.as_deref().unwrap(), &diagnosis).await;
    diagnosis
}

/// The diagnosis in a caller's error.
fn diagnosis_of_error(error: &CallError) -> Diagnosis {
    assert_eq!(error.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
    let diagnosis = error.detail.as_ref().unwrap().diagnosis.clone().unwrap();
    assert_eq!(error.metadata["cause"], code(diagnosis.cause()));
    assert_eq!(error.metadata["explanation"], diagnosis.explanation);
    assert!(error.message.contains(&diagnosis.explanation), "{}", error.message);
    diagnosis
}

/// Asserts that the registration, the log and the metric have the same diagnosis.
async fn assert_reported_consistently(stack: &mut TestStack, id: &str, expected: &Diagnosis) {
    let stored = stack.client.get(id).await.unwrap().diagnosis.unwrap();
    assert_eq!((stored.cause, &stored.explanation), (expected.cause, &expected.explanation));
    let (id, cause) = (id.to_owned(), code(expected.cause()));
    let line = stack.service.wait_for_log("the report", |line| is_report(line) && line["registration_id"] == id).await;
    assert_eq!((&line["cause"], &line["explanation"]), (&json!(cause), &json!(expected.explanation)), "{line}");
    let metrics = Metrics::read(&stack.service.http("/metrics").await.1);
    let counted = metrics.value("registrar_confirmation_timeouts_total", &[("cause", &cause)]);
    assert!(counted >= 1.0, "{cause}: counter is {counted}");
}

/// A log line that reports a confirmation timeout.
fn is_report(line: &Value) -> bool {
    line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains("not confirmed after"))
}

/// The diagnosis at this moment.
async fn diagnose(stack: &TestStack, id: &str) -> Diagnosis {
    stack.client.diagnose(id).await.unwrap().diagnosis.unwrap()
}

/// The output of `registrar explain`.
async fn explained(stack: &TestStack, id: &str) -> String {
    let server = format!("http://{}", stack.service.grpc);
    let run = cli::run(&["explain", id, "--server", &server], &[]).await;
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
}

/// Asserts that the evidence has these values.
fn assert_evidence(diagnosis: &Diagnosis, numbers: &[(&str, &str)]) {
    let evidence: BTreeMap<_, _> = diagnosis.evidence.iter().collect();
    for (key, number) in numbers {
        let value = evidence.get(&(*key).to_owned()).map(|value| value.as_str());
        assert_eq!(value, Some(*number), "{key} in {evidence:?}");
    }
}

/// Asserts that the explanation contains these texts.
fn assert_explains(diagnosis: &Diagnosis, words: &[&str]) {
    for word in words {
        assert!(diagnosis.explanation.contains(word), "`{word}` is not in: {}", diagnosis.explanation);
    }
}
