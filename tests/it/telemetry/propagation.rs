//! A caller's trace goes on here, whatever headers it speaks.

use super::{CASE, Watched, with_headers};
use crate::harness::{
    OtlpStore, Plan, Protocol, SentryStore, WaitFor, foreign::Language, receivers::Envelope, registering,
};
use serde_json::json;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "00f067aa0ba902b7";

/// The envelope of the transaction of this operation in this trace.
fn envelope(sentry: &SentryStore, op: &str, trace: &str) -> Envelope {
    let of = |envelope: &Envelope| envelope.items.iter().any(|item| super::is(&item.payload, op, trace));
    sentry.envelopes().into_iter().find(of).unwrap()
}

#[tokio::test]
async fn a_callers_span_is_above_the_call_whatever_headers_it_speaks() {
    let watched = Watched::start(Plan::on_demand()).await;
    let sentry_trace = format!("{TRACE}-{SPAN}");
    for (number, (trace, headers)) in [
        (TRACE, vec![("sentry-trace", format!("{sentry_trace}-1"))]),
        (OTHER, vec![("traceparent", format!("00-{OTHER}-{SPAN}-01"))]),
        (
            "11111111111111111111111111111111",
            vec![
                ("traceparent", format!("00-{TRACE}-{SPAN}-00")),
                ("sentry-trace", format!("11111111111111111111111111111111-{SPAN}-1")),
            ],
        ),
        (
            "22222222222222222222222222222222",
            vec![("sentry-trace", format!("22222222222222222222222222222222-{SPAN}"))],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let request = with_headers(registering(number as u64, CASE, WaitFor::Confirmed), &headers);
        let answer = watched.stack.client.register_traced(request).await.unwrap();
        assert_eq!((&*answer.trace_id, &*answer.message.trace_id), (trace, trace), "{headers:?}");

        let call = watched.transaction("grpc.server", trace).await;
        let journey = watched.transaction("blockchain.register", trace).await;
        assert_eq!(call[0].ids.parent.as_deref(), Some(SPAN), "{headers:?}");
        assert_eq!(journey[0].ids.parent.as_ref(), Some(&call[0].ids.span), "{headers:?}");
        watched.is_told_to_both(&call).await;
        watched.is_told_to_both(&journey).await;
    }
}

#[tokio::test]
async fn a_request_that_finds_a_registration_is_linked_to_the_journeys_trace() {
    let watched = Watched::start(Plan::on_demand()).await;
    let first = watched.stack.client.confirm(1, CASE).await;

    let again = watched.stack.client.register_traced(registering(1, CASE, WaitFor::Confirmed)).await.unwrap();

    assert_ne!(again.trace_id, first.trace_id);
    let call = watched.transaction("grpc.server", &again.trace_id).await;
    let told = watched.otlp.span(&again.trace_id, &call[0].ids.span).await;
    assert!(told.links.iter().any(|link| link.trace == first.trace_id), "{told:#?}");
    assert_eq!(watched.transactions("blockchain.register", &first.trace_id, 1).await.len(), 1, "one journey");
}

#[tokio::test]
async fn a_callers_sentry_baggage_comes_back_as_it_was_and_no_other_baggage_does() {
    let watched = Watched::start(Plan::on_demand()).await;
    let baggage = format!(
        "vendor=secret, sentry-trace_id={TRACE},sentry-public_key=49d0f7386ad645858ae85020e393bef3, \
         sentry-sample_rate=0.25,sentry-sampled=true,sentry-environment=caller%20world,sentry-release=web%401.2,\
         sentry-transaction=%2Fupload,sentry-sample_rand=0.125"
    );
    let headers = [("sentry-trace", format!("{TRACE}-{SPAN}-1")), ("baggage", baggage)];
    let request = with_headers(registering(1, CASE, WaitFor::Confirmed), &headers);

    watched.stack.client.register(request).await.unwrap();

    for op in ["grpc.server", "blockchain.register"] {
        watched.transaction(op, TRACE).await;
        let trace = &envelope(&watched.sentry, op, TRACE).header["trace"];
        for (key, value) in [
            ("trace_id", TRACE),
            ("public_key", "49d0f7386ad645858ae85020e393bef3"),
            ("sample_rate", "0.25"),
            ("sampled", "true"),
            ("environment", "caller world"),
            ("release", "web@1.2"),
            ("transaction", "/upload"),
            ("sample_rand", "0.125"),
        ] {
            assert_eq!(trace[key], value, "{key} in {trace}");
        }
        assert_eq!(trace.get("vendor"), None, "{trace}");
    }
}

#[tokio::test]
async fn headers_that_only_name_a_trace_are_recorded_and_never_trusted() {
    let watched = Watched::start(Plan::on_demand()).await;
    let headers =
        [("x-trace-id", TRACE.to_owned()), ("x-span-id", SPAN.to_owned()), ("x-parent-span-id", "1".repeat(16))];
    let request = with_headers(registering(1, CASE, WaitFor::Confirmed), &headers);

    let answer = watched.stack.client.register_traced(request).await.unwrap();

    assert_ne!(answer.trace_id, TRACE);
    let call = watched.transaction("grpc.server", &answer.trace_id).await;
    assert_eq!(call[0].ids.parent, None);
    let told: Vec<_> =
        call[0].data.values().filter(|value| **value == json!(TRACE) || **value == json!(SPAN)).collect();
    assert_eq!(told.len(), 2, "both are found in {:#?}", call[0].data);
}

#[tokio::test]
async fn a_python_caller_that_speaks_sentry_trace_sees_its_trace_go_on() {
    let watched = Watched::start(Plan::on_demand()).await;
    let request =
        json!({ "documentHash": crate::harness::document(1), "caseId": CASE, "waitFor": "WAIT_FOR_CONFIRMED" });
    let named = format!("{TRACE}-{SPAN}-1");

    let outcome =
        Language::Python.register_with(watched.stack.service.grpc, &request, 30.0, &[("sentry-trace", &named)]).await;

    assert_eq!(outcome["metadata"]["x-trace-id"], TRACE, "{outcome}");
    let call = watched.transaction("grpc.server", TRACE).await;
    assert_eq!(call[0].ids.parent.as_deref(), Some(SPAN));
    watched.transaction("blockchain.register", TRACE).await;
}

#[tokio::test]
async fn a_collector_that_speaks_http_is_told_the_same() {
    let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
    let stack = Plan::on_demand().sentry(&sentry).otlp(&otlp, Protocol::Http).start().await;
    let watched = Watched { stack, sentry, otlp };

    let registration = watched.stack.client.confirm(1, CASE).await;

    let journey = watched.transaction("blockchain.register", &registration.trace_id).await;
    watched.is_told_to_both(&journey).await;
}
