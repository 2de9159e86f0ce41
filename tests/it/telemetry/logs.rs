//! Sentry's logs, application metrics and release health.

use super::{CASE, Watched, standstill};
use crate::harness::{Fault, Plan, WaitFor, registering, until_late};
use serde_json::Value;

/// An attribute of a log line or a metric.
fn attribute<'a>(of: &'a Value, name: &str) -> &'a Value {
    &of["attributes"][name]["value"]
}

#[tokio::test]
async fn warnings_and_errors_are_logs_in_sentry_with_their_trace_and_nothing_less_is() {
    let mut watched = standstill(Plan::on_demand().through_proxy(), 1).await;
    let late = watched.stack.client.register(until_late(1, CASE)).await.unwrap_err();
    let trap = watched.stack.proxy().trap_all(Fault::LoseRequest);
    let down = |line: &Value| line["message"] == "RPC endpoint 127.0.0.1 unhealthy" && line["state"] == "down";
    watched.stack.service.logged("the endpoint to be down", down).await;
    trap.release();

    let is_report = |log: &Value| log["body"].as_str().is_some_and(|body| body.contains("not confirmed after"));
    let report = watched.sentry.log("the timeout", is_report).await;
    assert_eq!(
        (&report["level"], &report["trace_id"]),
        (&"error".into(), &late.registration().trace_id.as_str().into())
    );
    assert_eq!(attribute(&report, "sentry.environment"), "development");
    assert!(attribute(&report, "sentry.release").as_str().unwrap().contains(env!("CARGO_PKG_VERSION")));
    let is_warning = |log: &Value| log["body"].as_str().is_some_and(|body| body.starts_with("RPC endpoint"));
    let warning = watched.sentry.log("the endpoint", is_warning).await;
    assert_eq!(warning["level"], "warn");
    let levels: Vec<_> = watched.sentry.logs().iter().map(|log| log["level"].clone()).collect();
    assert!(levels.iter().all(|level| ["warn", "error", "fatal"].contains(&level.as_str().unwrap())), "{levels:?}");
}

#[tokio::test]
async fn what_was_registered_how_long_it_took_and_what_failed_are_metrics_in_sentry() {
    let watched = Watched::start(Plan::on_demand()).await;
    let good = watched.stack.client.confirm(1, CASE).await;

    let registered =
        watched.sentry.metric("documents.registered", |metric| metric["name"] == "documents.registered").await;
    let took = watched.sentry.metric("the duration", |metric| metric["name"] == "document.registration.duration").await;

    assert_eq!((&registered["type"], registered["value"].as_f64()), (&"counter".into(), Some(1.0)), "{registered}");
    assert_eq!(took["type"], "distribution", "{took}");
    assert!(took["value"].as_f64().unwrap() > 0.0 && !took["unit"].is_null(), "{took}");
    assert_eq!(took["trace_id"], good.trace_id);

    let contract = watched.stack.registry.address;
    watched.stack.anvil.rpc().run("anvil_setCode", serde_json::json!([contract, "0x60006000fd"])).await;
    watched.stack.client.register(registering(2, CASE, WaitFor::Confirmed)).await.unwrap_err();
    let failed = watched.sentry.metric("documents.failed", |metric| metric["name"] == "documents.failed").await;
    assert_eq!((&failed["type"], failed["value"].as_f64()), (&"counter".into(), Some(1.0)), "{failed}");
    assert_eq!(attribute(&failed, "errorType"), "REJECTED_BY_CONTRACT", "{failed}");
    assert_eq!(attribute(&failed, "step"), "prepare", "{failed}");
}

#[tokio::test]
async fn a_timeout_is_a_failed_document_at_the_step_wait() {
    let watched = standstill(Plan::on_demand(), 1).await;

    watched.stack.client.register(until_late(1, CASE)).await.unwrap_err();

    let failed = watched.sentry.metric("documents.failed", |metric| metric["name"] == "documents.failed").await;
    assert_eq!(attribute(&failed, "errorType"), "CONFIRMATION_TIMEOUT", "{failed}");
    assert_eq!(attribute(&failed, "step"), "wait", "{failed}");
}

#[tokio::test]
async fn a_run_of_the_service_is_a_session_of_its_release() {
    let mut watched = Watched::start(Plan::on_demand().set("TRACE_SERVICE_VERSION", "1.2.3")).await;
    watched.stack.client.confirm(1, CASE).await;
    watched.stack.service.terminate();
    assert_eq!(watched.stack.service.exit_code().await, 0);

    let mut sessions = watched.sentry.payloads("session");
    sessions.extend(watched.sentry.payloads("sessions"));

    assert!(!sessions.is_empty());
    for session in &sessions {
        assert!(session["attrs"]["release"].as_str().unwrap().contains("1.2.3"), "{session}");
        assert_eq!(session["attrs"]["environment"], "development", "{session}");
    }
    let end = sessions.iter().find(|session| session["status"] == "exited");
    assert!(end.is_some(), "a session that ended well in {sessions:#?}");
}
