//! Sentry logs, application metrics and release health.

use super::{CASE, ObservedStack, stalled_chain};
use crate::harness::{Fault, StackBuilder, WaitFor, register_request, register_until_timeout};
use serde_json::Value;

fn attribute<'a>(of: &'a Value, name: &str) -> &'a Value {
    &of["attributes"][name]["value"]
}

#[tokio::test]
async fn only_warnings_and_errors_are_sentry_logs() {
    let mut observed = stalled_chain(StackBuilder::on_demand().through_proxy(), 1).await;
    let late = observed.stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();
    let injected = observed.stack.proxy().inject_all(Fault::LoseRequest);
    let down = |line: &Value| line["message"] == "RPC endpoint 127.0.0.1 unhealthy" && line["state"] == "down";
    observed.stack.service.wait_for_log("the endpoint to be down", down).await;
    injected.release();

    let is_report = |log: &Value| log["body"].as_str().is_some_and(|body| body.contains("not confirmed after"));
    let report = observed.sentry.log("the timeout", is_report).await;
    assert_eq!(
        (&report["level"], &report["trace_id"]),
        (&"error".into(), &late.registration().trace_id.as_str().into())
    );
    assert_eq!(attribute(&report, "sentry.environment"), "development");
    assert!(attribute(&report, "sentry.release").as_str().unwrap().contains(env!("CARGO_PKG_VERSION")));
    let is_warning = |log: &Value| log["body"].as_str().is_some_and(|body| body.starts_with("RPC endpoint"));
    let warning = observed.sentry.log("the endpoint", is_warning).await;
    assert_eq!(warning["level"], "warn");
    let levels: Vec<_> = observed.sentry.logs().iter().map(|log| log["level"].clone()).collect();
    assert!(levels.iter().all(|level| ["warn", "error", "fatal"].contains(&level.as_str().unwrap())), "{levels:?}");
}

#[tokio::test]
async fn registrations_durations_and_failures_are_sentry_metrics() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let good = observed.stack.client.confirm(1, CASE).await;

    let registered =
        observed.sentry.metric("documents.registered", |metric| metric["name"] == "documents.registered").await;
    let took =
        observed.sentry.metric("the duration", |metric| metric["name"] == "document.registration.duration").await;

    assert_eq!((&registered["type"], registered["value"].as_f64()), (&"counter".into(), Some(1.0)), "{registered}");
    assert_eq!(took["type"], "distribution", "{took}");
    assert!(took["value"].as_f64().unwrap() > 0.0 && !took["unit"].is_null(), "{took}");
    assert_eq!(took["trace_id"], good.trace_id);

    let contract = observed.stack.registry.address;
    observed.stack.anvil.rpc().run("anvil_setCode", serde_json::json!([contract, "0x60006000fd"])).await;
    observed.stack.client.register(register_request(2, CASE, WaitFor::Confirmed)).await.unwrap_err();
    let failed = observed.sentry.metric("documents.failed", |metric| metric["name"] == "documents.failed").await;
    assert_eq!((&failed["type"], failed["value"].as_f64()), (&"counter".into(), Some(1.0)), "{failed}");
    assert_eq!(attribute(&failed, "errorType"), "REJECTED_BY_CONTRACT", "{failed}");
    assert_eq!(attribute(&failed, "step"), "prepare", "{failed}");
}

#[tokio::test]
async fn a_timeout_is_counted_as_a_failure_in_step_wait() {
    let observed = stalled_chain(StackBuilder::on_demand(), 1).await;

    observed.stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    let failed = observed.sentry.metric("documents.failed", |metric| metric["name"] == "documents.failed").await;
    assert_eq!(attribute(&failed, "errorType"), "CONFIRMATION_TIMEOUT", "{failed}");
    assert_eq!(attribute(&failed, "step"), "wait", "{failed}");
}

#[tokio::test]
async fn a_service_process_is_a_release_health_session() {
    let mut observed = ObservedStack::start(StackBuilder::on_demand().set("TRACE_SERVICE_VERSION", "1.2.3")).await;
    observed.stack.client.confirm(1, CASE).await;
    observed.stack.service.terminate();
    assert_eq!(observed.stack.service.exit_code().await, 0);

    let mut sessions = observed.sentry.payloads("session");
    sessions.extend(observed.sentry.payloads("sessions"));

    assert!(!sessions.is_empty());
    for session in &sessions {
        assert!(session["attrs"]["release"].as_str().unwrap().contains("1.2.3"), "{session}");
        assert_eq!(session["attrs"]["environment"], "development", "{session}");
    }
    let end = sessions.iter().find(|session| session["status"] == "exited");
    assert!(end.is_some(), "no session with status exited in {sessions:#?}");
}
