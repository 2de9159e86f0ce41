//! Each cause of a late confirmation, brought about on a real node, and told the same wherever somebody looks.

mod endpoints;
mod reports;
mod rounds;
mod transactions;

use crate::harness::{Cause, Plan, Refusal, Stack, State, cli, metrics::Metrics, until_late};
use registrar::api::proto::{Diagnosis, Registration};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tonic::Code;

const CASE: &str = "case-1";

/// A plan whose transactions are late after so many seconds. What a test does to one that is sent has to be done by then, on a busy
/// machine too.
fn late_after(plan: Plan, seconds: u64) -> Plan {
    plan.set("REGISTRAR_CONFIRMATION_TIMEOUT", format!("{seconds}s"))
}

/// The name of a cause in metadata, logs and metrics.
fn code(cause: Cause) -> String {
    cause.as_str_name().trim_start_matches("CAUSE_").to_lowercase()
}

/// Registers a document, whose transaction a node takes and no block does.
async fn submit(stack: &Stack, number: u64) -> Registration {
    let accepted = stack.client.accept(number, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await
}

/// Waits for the document's confirmation, which does not come in time for this cause; returns the diagnosis, which everybody
/// sees who looks.
async fn is_late(stack: &mut Stack, number: u64, cause: Cause) -> Diagnosis {
    let refusal = stack.client.register(until_late(number, CASE)).await.unwrap_err();
    let diagnosis = of_the_error(&refusal);
    assert_eq!(diagnosis.cause(), cause, "{}\n{:?}", diagnosis.explanation, diagnosis.evidence);
    is_told_to_all(stack, refusal.registration_id.as_deref().unwrap(), &diagnosis).await;
    diagnosis
}

/// What the caller is told who waited.
fn of_the_error(refusal: &Refusal) -> Diagnosis {
    assert_eq!(refusal.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
    let diagnosis = refusal.detail.as_ref().unwrap().diagnosis.clone().unwrap();
    assert_eq!(refusal.metadata["cause"], code(diagnosis.cause()));
    assert_eq!(refusal.metadata["explanation"], diagnosis.explanation);
    assert!(refusal.message.contains(&diagnosis.explanation), "{}", refusal.message);
    diagnosis
}

/// The same stands in the registration, the log and the metric.
async fn is_told_to_all(stack: &mut Stack, id: &str, told: &Diagnosis) {
    let stored = stack.client.get(id).await.unwrap().diagnosis.unwrap();
    assert_eq!((stored.cause, &stored.explanation), (told.cause, &told.explanation));
    let (id, cause) = (id.to_owned(), code(told.cause()));
    let line = stack.service.logged("the report", |line| is_report(line) && line["registration_id"] == id).await;
    assert_eq!((&line["cause"], &line["explanation"]), (&json!(cause), &json!(told.explanation)), "{line}");
    let metrics = Metrics::read(&stack.service.http("/metrics").await.1);
    let counted = metrics.value("registrar_confirmation_timeouts_total", &[("cause", &cause)]);
    assert!(counted >= 1.0, "{cause} is counted {counted} times");
}

/// A line of the log that reports a transaction's timeout.
fn is_report(line: &Value) -> bool {
    line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains("not confirmed after"))
}

/// What is said to whoever asks now.
async fn asked(stack: &Stack, id: &str) -> Diagnosis {
    stack.client.diagnose(id).await.unwrap().diagnosis.unwrap()
}

/// What `registrar explain` prints for people.
async fn explained(stack: &Stack, id: &str) -> String {
    let server = format!("http://{}", stack.service.grpc);
    let run = cli::run(&["explain", id, "--server", &server], &[]).await;
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
}

/// Fails unless the numbers are there.
fn proves(diagnosis: &Diagnosis, numbers: &[(&str, &str)]) {
    let evidence: BTreeMap<_, _> = diagnosis.evidence.iter().collect();
    for (key, number) in numbers {
        let proof = evidence.get(&(*key).to_owned()).map(|value| value.as_str());
        assert_eq!(proof, Some(*number), "{key} in {evidence:?}");
    }
}

/// Fails unless the words are there.
fn says(diagnosis: &Diagnosis, words: &[&str]) {
    for word in words {
        assert!(diagnosis.explanation.contains(word), "`{word}` is not in: {}", diagnosis.explanation);
    }
}
