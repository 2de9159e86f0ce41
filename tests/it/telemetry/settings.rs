//! Telemetry settings: off means off, and invalid values fail the start.

use super::{CASE, ObservedStack, with_headers};
use crate::harness::{
    OtlpStore, Protocol, SentryStore, Service, StackBuilder, WaitFor, receivers::DSN_KEY, register_request,
    register_until_timeout, service::Settings,
};

async fn stop(service: &mut Service) {
    service.terminate();
    assert_eq!(service.exit_code().await, 0);
}

#[tokio::test]
async fn disabled_telemetry_sends_nothing_and_keeps_trace_ids() {
    for (name, value) in [("TRACING_ENABLED", "false"), ("OTEL_SDK_DISABLED", "true")] {
        let mut observed = ObservedStack::start(StackBuilder::on_demand().set(name, value)).await;
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let headers = [("sentry-trace", format!("{trace}-00f067aa0ba902b7-1"))];
        let request = with_headers(register_request(1, CASE, WaitFor::Confirmed), &headers);

        let answer = observed.stack.client.register_traced(request).await.unwrap();
        observed.stack.client.register(register_request(1, "no case", WaitFor::Confirmed)).await.unwrap_err();
        stop(&mut observed.stack.service).await;

        assert_eq!((&*answer.trace_id, &*answer.message.trace_id), (trace, trace));
        assert!(observed.sentry.envelopes().is_empty(), "{name}: {:#?}", observed.sentry.envelopes());
        assert!(observed.otlp.spans().is_empty(), "{name}");
        assert!(
            observed.stack.service.log().iter().any(|line| line["trace_id"] == trace),
            "{name}: the log has no trace id"
        );
    }
}

#[tokio::test]
async fn an_empty_dsn_and_no_collector_are_valid() {
    let mut stack =
        StackBuilder::on_demand().set("SENTRY_DSN", "").set("OTEL_EXPORTER_OTLP_ENDPOINT", "").start().await;

    let registration = stack.client.confirm(1, CASE).await;

    stack.service.wait_for_log("a line with the trace id", |line| line["trace_id"] == registration.trace_id).await;
    let complaints: Vec<_> = stack.service.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    stop(&mut stack.service).await;
}

#[tokio::test]
async fn sentry_and_a_collector_work_independently() {
    let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
    let stack = StackBuilder::on_demand().sentry(&sentry).start().await;
    let registration = stack.client.confirm(1, CASE).await;
    sentry.transaction("blockchain.register", &registration.trace_id).await;

    let stack = StackBuilder::on_demand().otlp(&otlp, Protocol::Grpc).start().await;
    let registration = stack.client.confirm(1, CASE).await;
    let is_it = |span: &crate::harness::receivers::Span| {
        span.op == "blockchain.wait" && span.ids.trace == registration.trace_id
    };
    otlp.spans_where(1, "the wait", is_it).await;
}

/// Asserts that the start fails with a reason for this setting and without a secret.
async fn assert_start_fails(settings: Settings, name: &str, secrets: &[&str]) {
    let failed = Service::expect_start_failure(&settings).await;
    assert_eq!(failed.code, 64, "{name}: {}", failed.output);
    let line = failed.output.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in: {}", failed.output));
    assert!(line.trim().len() > name.len() + 10, "no reason: {line}");
    for secret in secrets {
        assert!(!failed.output.contains(secret), "`{secret}` is repeated in: {}", failed.output);
    }
}

#[tokio::test]
async fn an_invalid_dsn_fails_the_start_and_is_not_printed() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    for dsn in [
        format!("{DSN_KEY}@sentry.example/1"),
        format!("https://sentry.example/1?key={DSN_KEY}"),
        format!("https://{DSN_KEY}@sentry.example"),
        format!("https://{DSN_KEY}@sentry.example/project-x"),
        format!("ftp://{DSN_KEY}@sentry.example/1"),
        DSN_KEY.to_owned(),
    ] {
        let settings = settings.clone().set("SENTRY_DSN", dsn);
        assert_start_fails(settings, "SENTRY_DSN", &[DSN_KEY, "sentry.example"]).await;
    }
}

#[tokio::test]
async fn a_dsn_file_is_read_and_an_invalid_one_is_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dsn");
    let sentry = SentryStore::start();
    std::fs::write(&file, format!("{}\n", sentry.dsn())).unwrap();
    let stack = StackBuilder::on_demand().set("SENTRY_DSN_FILE", file.display()).sample_rate(1.0).start().await;
    let registration = stack.client.confirm(1, CASE).await;
    sentry.transaction("blockchain.register", &registration.trace_id).await;

    std::fs::write(&file, format!("{DSN_KEY}@sentry.example/1")).unwrap();
    let (_dependencies, settings) = StackBuilder::on_demand().set("SENTRY_DSN_FILE", file.display()).prepare().await;
    assert_start_fails(settings, "SENTRY_DSN", &[DSN_KEY, "sentry.example"]).await;
}

#[tokio::test]
async fn a_sample_rate_out_of_range_fails_the_start() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    for name in ["TRACE_SAMPLE_RATE", "SENTRY_TRACES_SAMPLE_RATE", "SENTRY_SAMPLE_RATE"] {
        for rate in ["-0.1", "1.1", "NaN", "inf", "often", "50%"] {
            assert_start_fails(settings.clone().set(name, rate), name, &[]).await;
        }
    }
}

#[tokio::test]
async fn an_invalid_collector_endpoint_fails_the_start() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    for endpoint in
        ["grpc://collector.example:4317", "collector.example:4317", "//collector.example", "http://", "nonsense"]
    {
        let settings = settings.clone().set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        assert_start_fails(settings, "OTEL_EXPORTER_OTLP_ENDPOINT", &[]).await;
    }
    let settings = settings.set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    assert_start_fails(
        settings.set("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"),
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        &[],
    )
    .await;
}

#[tokio::test]
async fn sentrys_standard_variables_are_supported() {
    let sentry = SentryStore::start();
    let stack = StackBuilder::on_demand()
        .set("SENTRY_DSN", sentry.dsn())
        .set("SENTRY_TRACES_SAMPLE_RATE", "1.0")
        .set("SENTRY_ENVIRONMENT", "production")
        .set("SENTRY_RELEASE", "registrar@9.9.9")
        .start()
        .await;

    let registration = stack.client.confirm(1, CASE).await;

    let transaction = sentry.transaction("blockchain.register", &registration.trace_id).await;
    assert_eq!(
        (&transaction["environment"], &transaction["release"]),
        (&"production".into(), &"registrar@9.9.9".into())
    );
}

#[tokio::test]
async fn user_ids_are_hashed_when_a_salt_is_set() {
    let observed = super::stalled_chain(StackBuilder::on_demand().set("REGISTRAR_USER_ID_SALT", "pepper"), 1).await;
    let mut request = register_until_timeout(1, CASE);
    request.user_id = super::USER.to_owned();

    let error = observed.stack.client.register(request).await.unwrap_err();

    let tree = observed.sentry.transaction("blockchain.register", &error.trace_id).await;
    let event =
        observed.sentry.event("the timeout", |event| super::exception(event).0 == "TransactionTimeoutError").await;
    let id = tree["user"]["id"].as_str().unwrap();
    assert!(id.len() == 32 && event["user"]["id"] == id, "different hashes: {id} and {}", event["user"]);
    observed.otlp.spans_where(1, "the registration trace", |span| span.op == "blockchain.register").await;
    let exported =
        format!("{:?}{:?}{:?}", observed.sentry.envelopes(), observed.otlp.spans(), observed.stack.service.log());
    assert!(!exported.contains(super::USER) && !exported.contains("pepper"), "the user id or the salt is exported");
}

#[tokio::test]
async fn opentelemetrys_standard_variables_are_supported() {
    let builder = StackBuilder::on_demand()
        .set("OTEL_RESOURCE_ATTRIBUTES", "team=records,service.name=not-this")
        .set("TRACE_SERVICE_NAME", "shelf")
        .set("TRACE_ENVIRONMENT", "staging")
        .set("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 6)
        .set("OTEL_SPAN_LINK_COUNT_LIMIT", 2);
    let observed = ObservedStack::start(builder).await;

    observed.batch(4).await;
    observed.stack.anvil.mine_on_demand().await;

    let is_batch = |span: &crate::harness::receivers::Span| span.op == "blockchain.batch" && span.get("batchSize") == 4;
    let batch = observed.otlp.spans_where(1, "the batch", is_batch).await.remove(0);
    assert_eq!(batch.links.len(), 2);
    observed.otlp.spans_where(4, "the registration traces", |span| span.op == "blockchain.register").await;
    for span in observed.otlp.spans() {
        assert!(span.data.len() <= 6, "{span:#?}");
        for (key, value) in [("team", "records"), ("service.name", "shelf"), ("deployment.environment.name", "staging")]
        {
            assert_eq!(span.resource[key], value, "{:?}", span.resource);
        }
    }
}

#[tokio::test]
async fn errors_have_their_own_sample_rate() {
    let mut observed = super::stalled_chain(StackBuilder::on_demand().set("SENTRY_SAMPLE_RATE", "0"), 1).await;

    let error = observed.stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    observed.transaction("blockchain.register", &error.trace_id).await;
    stop(&mut observed.stack.service).await;
    assert!(observed.sentry.events().is_empty());
}
