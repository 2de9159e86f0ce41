//! The audit log: a line for every refusal and every accepted registration.

use super::{ADMIN_TOKEN, Guarded, READ_TOKEN, REGISTER_TOKEN, three_callers};
use crate::harness::{CASE, SentryStore, Service, StackBuilder, WaitFor, eventually, register_request};
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::BTreeSet;
use tonic::Code;

/// The log is written behind the answers.
pub async fn audit_lines(service: &Service, count: usize) -> Vec<Value> {
    eventually("the audit lines", async || {
        let log = service.log().into_iter();
        let lines: Vec<_> = log.filter(|line| line["target"] == "registrar::audit").collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn every_refusal_and_every_acceptance_under_load_is_one_audit_line() {
    const CALLS: u64 = 300;
    // Audit lines are written whatever the log filter says.
    let builder = StackBuilder::on_demand().set("RUST_LOG", "error,registrar::app=info");
    let guarded = Guarded::start_with(builder, "enforce", &three_callers()).await;
    let accept = |number| register_request(number, CASE, WaitFor::Accepted);
    let (registers, reads) = (guarded.client(REGISTER_TOKEN), guarded.client(READ_TOKEN));
    let accepted = join_all((0..CALLS).map(|number| registers.register_traced(accept(number))));
    let denied = join_all((0..CALLS).map(|number| reads.register(accept(number))));
    let unknown = join_all((0..CALLS).map(|number| guarded.stack.client.register(accept(number))));
    let (accepted, denied, unknown) = tokio::join!(accepted, denied, unknown);

    let lines = audit_lines(&guarded.stack.service, 3 * CALLS as usize).await;
    let of = |decision: &str, reason: Option<&str>| -> Vec<&Value> {
        let is_it = |line: &&Value| line["decision"] == decision && line["reason"].as_str() == reason;
        lines.iter().filter(is_it).collect()
    };
    let traces = |lines: &[&Value]| -> BTreeSet<String> {
        lines.iter().map(|line| line["trace_id"].as_str().unwrap().to_owned()).collect()
    };
    let of_accepted = of("accepted", None);
    assert_eq!(of_accepted.len(), CALLS as usize);
    let expected: BTreeSet<_> = accepted.iter().map(|answer| answer.as_ref().unwrap().message.id.clone()).collect();
    let audited: BTreeSet<_> =
        of_accepted.iter().map(|line| line["registration_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(audited, expected);
    for (errors, reason, caller, identification) in
        [(denied, "SCOPE_MISSING", Some("reads"), "token"), (unknown, "CREDENTIALS_MISSING", None, "none")]
    {
        let lines = of("refused", Some(reason));
        assert_eq!(lines.len(), CALLS as usize, "{reason}");
        assert_eq!(traces(&lines), errors.into_iter().map(|error| error.unwrap_err().trace_id).collect());
        for line in lines {
            assert_eq!(line["caller"].as_str(), caller);
            assert_eq!(line["identification"], identification);
            assert_eq!(line["rpc"], "/registrar.v1.RegistrarService/RegisterDocument");
        }
    }
    let metrics = guarded.stack.service.metrics().await;
    let count = |caller, outcome| metrics.value("registrar_auth_total", &[("caller", caller), ("outcome", outcome)]);
    assert_eq!(count("registers", "allowed"), CALLS as f64);
    assert_eq!(count("reads", "SCOPE_MISSING"), CALLS as f64);
    assert_eq!(count("", "CREDENTIALS_MISSING"), CALLS as f64);
}

#[tokio::test]
async fn callers_that_are_only_audited_are_let_through_logged_and_counted() {
    let guarded = Guarded::start("audit", &three_callers()).await;
    guarded.stack.client.accept(1, CASE).await;
    guarded.client(READ_TOKEN).accept(2, CASE).await;
    guarded.client("wrong").accept(3, CASE).await;
    guarded.client(ADMIN_TOKEN).accept(4, CASE).await;
    let lines = audit_lines(&guarded.stack.service, 7).await;
    let would_refuse: Vec<_> = lines
        .iter()
        .filter(|line| line["decision"] == "would_refuse")
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert_eq!(would_refuse, ["CREDENTIALS_MISSING", "SCOPE_MISSING", "CREDENTIALS_INVALID"]);
    assert_eq!(lines.iter().filter(|line| line["decision"] == "accepted").count(), 4);
}

#[tokio::test]
async fn the_caller_is_in_the_row_and_in_sentrys_tags() {
    let sentry = SentryStore::start();
    let builder = StackBuilder::on_demand().sentry(&sentry).set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s");
    let guarded = Guarded::start_with(builder, "enforce", &three_callers()).await;
    guarded.stack.anvil.stop_mining().await;
    let request = crate::harness::register_until_timeout(1, CASE);
    let late = guarded.client(REGISTER_TOKEN).register(request).await.unwrap_err();
    assert_eq!(late.kind(), (Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT"));
    assert_eq!(late.registration().caller, "", "shown to operators alone");
    let id = late.registration_id.unwrap();
    assert_eq!(guarded.client(ADMIN_TOKEN).get(&id).await.unwrap().caller, "registers");
    let event = sentry.event("the timeout", |event| event["tags"]["registrationId"] == id.as_str()).await;
    assert_eq!(event["tags"]["caller"], "registers");
}
