//! A caller's trace continues in the service, with every kind of trace header.

use super::{CASE, ObservedStack, with_headers};
use crate::harness::{
    OtlpStore, Protocol, SentryStore, StackBuilder, WaitFor, language_client::Language, receivers::Envelope,
    register_request, register_until_timeout,
};
use serde_json::json;
use std::collections::BTreeSet;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "00f067aa0ba902b7";

/// The envelope of the Sentry transaction of this operation and trace.
fn envelope(sentry: &SentryStore, op: &str, trace: &str) -> Envelope {
    let of = |envelope: &Envelope| envelope.items.iter().any(|item| super::is(&item.payload, op, trace));
    sentry.envelopes().into_iter().find(of).unwrap()
}

#[tokio::test]
async fn a_callers_span_is_the_parent_of_the_call_with_every_header() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
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
        let request = with_headers(register_request(number as u64, CASE, WaitFor::Confirmed), &headers);
        let answer = observed.stack.client.register_traced(request).await.unwrap();
        assert_eq!((&*answer.trace_id, &*answer.message.trace_id), (trace, trace), "{headers:?}");

        let call = observed.transaction("grpc.server", trace).await;
        let tree = observed.transaction("blockchain.register", trace).await;
        assert_eq!(call[0].ids.parent.as_deref(), Some(SPAN), "{headers:?}");
        assert_eq!(tree[0].ids.parent.as_ref(), Some(&call[0].ids.span), "{headers:?}");
        observed.assert_in_both_receivers(&call).await;
        observed.assert_in_both_receivers(&tree).await;
    }
}

#[tokio::test]
async fn a_repeated_request_is_linked_to_the_registrations_trace() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let first = observed.stack.client.confirm(1, CASE).await;

    let again = observed.stack.client.register_traced(register_request(1, CASE, WaitFor::Confirmed)).await.unwrap();

    assert_ne!(again.trace_id, first.trace_id);
    let call = observed.transaction("grpc.server", &again.trace_id).await;
    let exported = observed.otlp.span(&again.trace_id, &call[0].ids.span).await;
    assert!(exported.links.iter().any(|link| link.trace == first.trace_id), "{exported:#?}");
    assert_eq!(
        observed.transactions("blockchain.register", &first.trace_id, 1).await.len(),
        1,
        "the registration was traced twice"
    );
}

#[tokio::test]
async fn a_callers_sentry_baggage_is_forwarded_and_other_baggage_is_not() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let baggage = format!(
        "vendor=secret, sentry-trace_id={TRACE},sentry-public_key=49d0f7386ad645858ae85020e393bef3, \
         sentry-sample_rate=0.25,sentry-sampled=true,sentry-environment=caller%20world,sentry-release=web%401.2,\
         sentry-transaction=%2Fupload,sentry-sample_rand=0.125"
    );
    let headers = [("sentry-trace", format!("{TRACE}-{SPAN}-1")), ("baggage", baggage)];
    let request = with_headers(register_request(1, CASE, WaitFor::Confirmed), &headers);

    observed.stack.client.register(request).await.unwrap();

    for op in ["grpc.server", "blockchain.register"] {
        observed.transaction(op, TRACE).await;
        let trace = &envelope(&observed.sentry, op, TRACE).header["trace"];
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
async fn every_envelope_has_the_time_of_sending_and_our_traces_a_random_value() {
    let observed = super::stalled_chain(StackBuilder::on_demand(), 1).await;
    let late = observed.stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();
    let trace = &late.registration().trace_id;
    observed.transaction("blockchain.register", trace).await;
    observed.sentry.event("the timeout", |event| super::exception(event).0 == "TransactionTimeoutError").await;

    let envelopes = observed.sentry.envelopes();
    let mut kinds = BTreeSet::new();
    for Envelope { header, items, .. } in &envelopes {
        let sent_at = header["sent_at"].as_str().unwrap_or_else(|| panic!("no sent_at in {header}"));
        let age = humantime::parse_rfc3339(sent_at).unwrap().elapsed().unwrap();
        assert!(age < std::time::Duration::from_secs(60), "{sent_at}");
        kinds.extend(items.iter().map(|item| item.kind().to_owned()));
    }
    assert!(["event", "session", "transaction"].iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
    let context = &envelope(&observed.sentry, "blockchain.register", trace).header["trace"];
    let rand: f64 = context["sample_rand"].as_str().unwrap().parse().unwrap();
    let id = u64::from_str_radix(&trace[16..], 16).unwrap() as f64 / 2_f64.powi(64);
    assert!((rand - id).abs() < 2e-6, "{rand} for {trace}");
}

#[tokio::test]
async fn of_8_kib_of_baggage_only_2_kib_of_sentrys_members_are_stored() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let vendor = format!("vendor={}", "x".repeat(4_000));
    let members = (0..40).map(|n| format!("sentry-m{n}={}", "y".repeat(90))).collect::<Vec<_>>().join(",");
    let baggage = format!("{vendor},sentry-trace_id={TRACE},sentry-sample_rand=0.5,{members}");
    let headers = [("sentry-trace", format!("{TRACE}-{SPAN}-1")), ("baggage", baggage)];

    observed
        .stack
        .client
        .register(with_headers(register_request(1, CASE, WaitFor::Confirmed), &headers))
        .await
        .unwrap();

    observed.transaction("blockchain.register", TRACE).await;
    let context = &envelope(&observed.sentry, "blockchain.register", TRACE).header["trace"];
    let kept: Vec<_> = context.as_object().unwrap().keys().filter(|key| key.starts_with('m')).collect();
    assert!((15..22).contains(&kept.len()), "{} members are kept", kept.len());
    assert_eq!((&context["trace_id"], &context["sample_rand"]), (&TRACE.into(), &"0.5".into()));
    let database = std::fs::read(observed.stack.database()).unwrap();
    let wal = std::fs::read(observed.stack.database().with_extension("db-wal")).unwrap_or_default();
    let stored = [database, wal].concat();
    assert!(!stored.windows(64).any(|bytes| bytes.iter().all(|byte| *byte == b'x')), "other baggage is stored");
}

#[tokio::test]
async fn nonstandard_trace_id_headers_are_recorded_and_not_trusted() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let headers =
        [("x-trace-id", TRACE.to_owned()), ("x-span-id", SPAN.to_owned()), ("x-parent-span-id", "1".repeat(16))];
    let request = with_headers(register_request(1, CASE, WaitFor::Confirmed), &headers);

    let answer = observed.stack.client.register_traced(request).await.unwrap();

    assert_ne!(answer.trace_id, TRACE);
    let call = observed.transaction("grpc.server", &answer.trace_id).await;
    assert_eq!(call[0].ids.parent, None);
    let exported: Vec<_> =
        call[0].data.values().filter(|value| **value == json!(TRACE) || **value == json!(SPAN)).collect();
    assert_eq!(exported.len(), 2, "not both ids are recorded in {:#?}", call[0].data);
}

#[tokio::test]
async fn a_python_callers_sentry_trace_is_continued() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let request =
        json!({ "documentHash": crate::harness::document(1), "caseId": CASE, "waitFor": "WAIT_FOR_CONFIRMED" });
    let named = format!("{TRACE}-{SPAN}-1");

    let outcome =
        Language::Python.register_with(observed.stack.service.grpc, &request, 30.0, &[("sentry-trace", &named)]).await;

    assert_eq!(outcome["metadata"]["x-trace-id"], TRACE, "{outcome}");
    let call = observed.transaction("grpc.server", TRACE).await;
    assert_eq!(call[0].ids.parent.as_deref(), Some(SPAN));
    observed.transaction("blockchain.register", TRACE).await;
}

#[tokio::test]
async fn a_collector_over_http_gets_the_same_spans() {
    let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
    let stack = StackBuilder::on_demand().sentry(&sentry).otlp(&otlp, Protocol::Http).start().await;
    let observed = ObservedStack { stack, sentry, otlp };

    let registration = observed.stack.client.confirm(1, CASE).await;

    let tree = observed.transaction("blockchain.register", &registration.trace_id).await;
    observed.assert_in_both_receivers(&tree).await;
}
