//! Tests of the harness's telemetry receivers: they read what is sent, detect violations, and can be made to fail.

use crate::harness::{
    Behavior, OtlpStore, Protocol, Reply, SentryStore, assert_pending,
    receivers::{DSN_KEY, encoding::Encoding, sentry_relay},
    rpc::http_client,
    until_observed, within,
};
use opentelemetry::{
    KeyValue,
    trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState, Tracer, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde_json::{Value, json};
use std::time::Duration;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

async fn send(store: &SentryStore, encoding: Encoding, envelope: &str) -> Result<reqwest::Response, reqwest::Error> {
    let url = format!("http://{}/api/1/envelope/", store.address());
    let request = http_client().post(url).header("content-type", "application/x-sentry-envelope");
    let request = request.header("x-sentry-auth", format!("Sentry sentry_key={DSN_KEY}, sentry_version=7"));
    let request = request.header("content-encoding", encoding.name());
    request.body(encoding.encode(envelope.as_bytes()).await).send().await
}

fn envelope_of(kind: &str, payload: &Value) -> String {
    format!("{{\"trace\":{{\"trace_id\":\"{TRACE}\"}}}}\n{{\"type\":\"{kind}\"}}\n{payload}\n")
}

fn transaction() -> Value {
    let now = humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string();
    let trace = json!({ "trace_id": TRACE, "span_id": SPAN, "op": "grpc.server", "status": "ok", "data": { "a": 1 } });
    let span = json!({ "trace_id": TRACE, "span_id": "1".repeat(16), "parent_span_id": SPAN, "op": "db",
        "description": "accept", "start_timestamp": now, "timestamp": now });
    json!({ "event_id": TRACE, "type": "transaction", "transaction": "a/b", "platform": "native",
        "start_timestamp": now, "timestamp": now, "contexts": { "trace": trace }, "spans": [span] })
}

#[tokio::test]
async fn sentry_parses_envelopes_in_every_encoding() {
    for encoding in Encoding::ALL {
        let store = SentryStore::start();
        let answer = send(&store, encoding, &envelope_of("transaction", &transaction())).await.unwrap();

        assert_eq!(answer.status(), 200, "{encoding:?}");
        let seen = store.transaction("grpc.server", TRACE).await;
        assert_eq!(seen["transaction"], "a/b");
        let envelopes = store.envelopes();
        assert_eq!((envelopes.len(), &*envelopes[0].project), (1, "1"));
        assert_eq!(envelopes[0].header["trace"]["trace_id"], TRACE);
        assert_eq!(envelopes[0].http["content-type"], "application/x-sentry-envelope");
        let spans = store.spans();
        let names: Vec<_> = spans.iter().map(|span| (span.op.as_str(), span.name.as_str())).collect();
        assert_eq!(names, [("grpc.server", "a/b"), ("db", "accept")]);
        assert_eq!((spans[0].ids.parent.as_deref(), spans[1].ids.parent.as_deref()), (None, Some(SPAN)));
        assert_eq!(spans[0].get("a"), 1);
    }
}

#[tokio::test]
async fn sentry_parses_logs_and_metrics() {
    let store = SentryStore::start();
    let logs = json!({ "items": [{ "body": "one" }, { "body": "two" }] });
    send(&store, Encoding::Identity, &envelope_of("log", &logs)).await.unwrap();
    let metrics = json!({ "items": [{ "name": "documents.registered", "value": 1 }] });
    send(&store, Encoding::Identity, &envelope_of("trace_metric", &metrics)).await.unwrap();

    assert_eq!(store.log("the second", |log| log["body"] == "two").await, json!({ "body": "two" }));
    assert_eq!(store.metric("registered", |metric| metric["name"] == "documents.registered").await["value"], 1);
    assert_eq!((store.logs().len(), store.metrics().len()), (2, 1));
}

#[tokio::test]
async fn sentry_detects_invalid_envelopes() {
    let store = SentryStore::start();
    assert_eq!(send(&store, Encoding::Identity, "no").await.unwrap().status(), 400);
    assert_eq!(store.invalid().len(), 1);
    assert!(
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.events())).is_err(),
        "reading the store has to fail"
    );
}

#[tokio::test]
async fn a_rejecting_receiver_records_nothing() {
    let store = SentryStore::start();
    let envelope = envelope_of("event", &json!({ "message": "x" }));

    store.set_behavior(Behavior::Reject(Reply::rate_limits("60:transaction:key")));
    let limited = send(&store, Encoding::Gzip, &envelope).await.unwrap();
    store.set_behavior(Behavior::Reject(Reply::retry_after(30)));
    let later = send(&store, Encoding::Gzip, &envelope).await.unwrap();
    store.set_behavior(Behavior::Reject(Reply::status(500)));
    let broken = send(&store, Encoding::Gzip, &envelope).await.unwrap();

    assert_eq!(
        (limited.status().as_u16(), &limited.headers()["x-sentry-rate-limits"]),
        (429, &"60:transaction:key".parse().unwrap())
    );
    assert_eq!((later.status().as_u16(), &later.headers()["retry-after"]), (429, &"30".parse().unwrap()));
    assert_eq!(broken.status(), 500);
    assert_eq!((store.envelopes().len(), store.discarded().len()), (0, 3));
    store
        .set_behavior(Behavior::AcceptWith(Reply::status(200).header("x-sentry-rate-limits", "60:error:organization")));
    let accepted = send(&store, Encoding::Gzip, &envelope).await.unwrap();
    assert!(accepted.headers().contains_key("x-sentry-rate-limits"));
    assert_eq!(store.events().len(), 1);
}

#[tokio::test]
async fn a_receiver_reopens_on_the_same_port() {
    let store = SentryStore::start();
    let envelope = envelope_of("event", &json!({ "message": "x" }));
    store.set_behavior(Behavior::RefuseConnections);
    crate::harness::eventually("a refused connection", async || {
        send(&store, Encoding::Identity, &envelope).await.err().filter(reqwest::Error::is_connect)
    })
    .await;
    let before = store.events().len();

    store.set_behavior(Behavior::Accept);

    crate::harness::eventually("an answer", async || send(&store, Encoding::Identity, &envelope).await.ok()).await;
    assert_eq!(store.events().len(), before + 1);
}

#[tokio::test]
async fn a_hanging_receiver_does_not_answer_and_records_nothing() {
    let store = SentryStore::start();
    let envelope = envelope_of("event", &json!({ "message": "x" }));
    store.set_behavior(Behavior::Hang);
    let mut sending = Box::pin(send(&store, Encoding::Identity, &envelope));
    until_observed(&mut sending, store.until_discarded("the hanging request", |all| (!all.is_empty()).then_some(())))
        .await;
    assert_pending("the hanging request", &mut sending, Duration::from_millis(300)).await;

    store.set_behavior(Behavior::Slow(Duration::from_millis(200)));

    assert!(within("the end of the connection", sending).await.is_err());
    assert_eq!(store.events().len(), 0);
    let started = tokio::time::Instant::now();
    send(&store, Encoding::Identity, &envelope).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200), "answered after {:?}", started.elapsed());
    assert_eq!(store.events().len(), 1);
}

/// Exports two spans, the second a child of the first, with OpenTelemetry's exporter.
async fn export(store: &OtlpStore, protocol: Protocol) -> Result<(), String> {
    let endpoint = store.endpoint();
    let exporter = match protocol {
        Protocol::Grpc => SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().unwrap(),
        // Its blocking HTTP client must not be created in an async context.
        Protocol::Http => tokio::task::spawn_blocking(move || {
            let _ = http_client();
            SpanExporter::builder().with_http().with_endpoint(format!("{endpoint}/v1/traces")).build().unwrap()
        })
        .await
        .unwrap(),
    };
    let resource = Resource::builder().with_service_name("registrar").build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer("test");
    let linked = SpanContext::new(TraceId::from(7), SpanId::from(8), TraceFlags::SAMPLED, false, TraceState::default());
    let span = tracer.span_builder("Check a").with_kind(SpanKind::Server).with_links(vec![Link::with_context(linked)]);
    let mut span =
        tracer.build(span.with_attributes([KeyValue::new("sentry.op", "rpc.health_check"), KeyValue::new("lag", 3)]));
    use opentelemetry::trace::Span as _;
    span.add_event("late", vec![KeyValue::new("by", 1.5)]);
    span.set_status(Status::error("unavailable"));
    let context = opentelemetry::Context::new();
    let context = opentelemetry::trace::TraceContextExt::with_span(&context, span);
    drop(tracer.build_with_context(tracer.span_builder("below"), &context));
    drop(context);
    let flushed = tokio::task::spawn_blocking(move || provider.force_flush().and_then(|()| provider.shutdown())).await;
    flushed.unwrap().map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_collector_parses_exports_over_both_protocols() {
    for protocol in Protocol::ALL {
        let store = OtlpStore::start();
        export(&store, protocol).await.unwrap();

        let spans = store.spans_where(2, "any", |_| true).await;
        let above = spans.iter().find(|span| span.name == "Check a").unwrap();
        let below = spans.iter().find(|span| span.name == "below").unwrap();
        assert_eq!(
            (above.kind, above.op.as_str(), above.status.as_str()),
            ("server", "rpc.health_check", "error: unavailable")
        );
        assert_eq!((above.get("lag"), &above.resource["service.name"]), (&json!(3), &json!("registrar")));
        assert_eq!((&*above.events[0].name, &above.events[0].attributes["by"]), ("late", &json!(1.5)));
        assert_eq!((&*above.links[0].trace, &*above.links[0].span), (&*format!("{:032x}", 7), &*format!("{:016x}", 8)));
        assert_eq!(
            (&below.ids.trace, below.ids.parent.as_ref()),
            (&above.ids.trace, Some(&above.ids.span)),
            "{protocol:?}"
        );
        assert!(above.end >= above.start);
    }
}

#[tokio::test]
async fn a_failing_collector_fails_the_export() {
    for protocol in Protocol::ALL {
        for behavior in [Behavior::Reject(Reply::status(503)), Behavior::RefuseConnections] {
            let store = OtlpStore::start();
            store.set_behavior(behavior.clone());
            export(&store, protocol).await.expect_err(&format!("{protocol:?} {behavior:?}"));
            assert_eq!(store.spans(), []);
        }
    }
}

#[tokio::test]
async fn sentry_relay_accepts_a_valid_transaction() {
    sentry_relay::assert_accepted(&[transaction()]).await;
}

#[tokio::test]
async fn sentry_relay_reports_violations() {
    let with = |pointer: &str, value: Value| {
        let mut item = transaction();
        *item.pointer_mut(pointer).unwrap() = value;
        item
    };
    let future = json!("2099-01-01T00:00:00Z");
    let items = [
        transaction(),
        with("/event_id", json!("nonsense")),
        with("/contexts/trace/status", json!("bogus")),
        with("/start_timestamp", future.clone()),
        with("/contexts/trace/trace_id", json!("0".repeat(32))),
        with("/spans/0/start_timestamp", future),
        json!({ "event_id": TRACE, "level": "error", "tags": { "cause": "x".repeat(300) } }),
        json!({ "event_id": TRACE, "level": "error", "no_such_attribute": 1 }),
    ];

    let findings = sentry_relay::normalise(&items).await;

    let found: Vec<_> = findings.iter().map(|finding| (finding.item, finding.path.as_str())).collect();
    let expected = [
        (1, "event_id"),
        (2, "contexts.trace.status"),
        (3, ""),
        (4, "contexts.trace.trace_id"),
        (5, ""),
        (6, "tags.0.1"),
        (7, "no_such_attribute"),
    ];
    assert_eq!(found, expected, "{findings:#?}");
}
