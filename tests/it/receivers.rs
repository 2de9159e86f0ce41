//! The receivers themselves: that they read what is sent, notice what is wrong, and can be unwell.

use crate::harness::{
    Mood, OtlpStore, Protocol, Reply, SentryStore, meanwhile,
    receivers::{DSN_KEY, encoding::Encoding, relay},
    rpc::http_client,
    stays_pending, within,
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

/// Sends an envelope as an SDK does.
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
async fn sentry_reads_an_envelope_in_every_encoding() {
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
async fn sentry_reads_logs_and_metrics_one_by_one() {
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
async fn sentry_notices_what_is_no_envelope() {
    let store = SentryStore::start();
    assert_eq!(send(&store, Encoding::Identity, "no").await.unwrap().status(), 400);
    assert_eq!(store.wrong().len(), 1);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.events())).is_err(), "a look fails");
}

#[tokio::test]
async fn a_receiver_that_refuses_for_a_while_keeps_nothing_of_that_time() {
    let store = SentryStore::start();
    let envelope = envelope_of("event", &json!({ "message": "x" }));

    store.is(Mood::Answers(Reply::rate_limits("60:transaction:key")));
    let limited = send(&store, Encoding::Gzip, &envelope).await.unwrap();
    store.is(Mood::Answers(Reply::retry_after(30)));
    let later = send(&store, Encoding::Gzip, &envelope).await.unwrap();
    store.is(Mood::Answers(Reply::status(500)));
    let broken = send(&store, Encoding::Gzip, &envelope).await.unwrap();

    assert_eq!(
        (limited.status().as_u16(), &limited.headers()["x-sentry-rate-limits"]),
        (429, &"60:transaction:key".parse().unwrap())
    );
    assert_eq!((later.status().as_u16(), &later.headers()["retry-after"]), (429, &"30".parse().unwrap()));
    assert_eq!(broken.status(), 500);
    assert_eq!((store.envelopes().len(), store.not_taken().len()), (0, 3));
    store.is(Mood::TakesWith(Reply::status(200).header("x-sentry-rate-limits", "60:error:organization")));
    let taken = send(&store, Encoding::Gzip, &envelope).await.unwrap();
    assert!(taken.headers().contains_key("x-sentry-rate-limits"));
    assert_eq!(store.events().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_nobody_listens_on_comes_back_on_the_same_port() {
    let store = SentryStore::start();
    let envelope = envelope_of("event", &json!({ "message": "x" }));
    store.is(Mood::Refuses);
    crate::harness::eventually("a refusal", async || {
        send(&store, Encoding::Identity, &envelope).await.err().filter(reqwest::Error::is_connect)
    })
    .await;
    let before = store.events().len();

    store.is(Mood::Takes);

    crate::harness::eventually("an answer", async || send(&store, Encoding::Identity, &envelope).await.ok()).await;
    assert_eq!(store.events().len(), before + 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_answers_nobody_and_takes_nothing_until_it_is_well() {
    let store = SentryStore::start();
    let envelope = envelope_of("event", &json!({ "message": "x" }));
    store.is(Mood::Hangs);
    let mut sending = Box::pin(send(&store, Encoding::Identity, &envelope));
    meanwhile(&mut sending, store.until_not_taken("what hangs", |all| (!all.is_empty()).then_some(()))).await;
    assert!(stays_pending(&mut sending, Duration::from_millis(300)).await);

    store.is(Mood::Slow(Duration::from_millis(200)));

    assert!(within("the end of the connection", sending).await.is_err());
    assert_eq!(store.events().len(), 0);
    let began = tokio::time::Instant::now();
    send(&store, Encoding::Identity, &envelope).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "answered after {:?}", began.elapsed());
    assert_eq!(store.events().len(), 1);
}

/// Two spans, the second below the first, sent by OpenTelemetry's own exporter.
async fn export(store: &OtlpStore, protocol: Protocol) -> Result<(), String> {
    let endpoint = store.endpoint();
    let exporter = match protocol {
        Protocol::Grpc => SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().unwrap(),
        // Its client is a blocking one, which must not be made where others are awaited.
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
async fn a_collector_reads_what_the_official_exporter_sends_over_both_protocols() {
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
async fn a_collector_that_is_unwell_is_felt_by_the_official_exporter() {
    for protocol in Protocol::ALL {
        for mood in [Mood::Answers(Reply::status(503)), Mood::Refuses] {
            let store = OtlpStore::start();
            store.is(mood.clone());
            export(&store, protocol).await.expect_err(&format!("{protocol:?} {mood:?}"));
            assert_eq!(store.spans(), []);
        }
    }
}

#[tokio::test]
async fn sentrys_normaliser_finds_nothing_wrong_with_a_good_transaction() {
    relay::finds_nothing(&[transaction()]).await;
}

#[tokio::test]
async fn sentrys_normaliser_finds_what_is_wrong() {
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

    let findings = relay::normalise(&items).await;

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
