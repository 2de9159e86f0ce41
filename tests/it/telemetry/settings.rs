//! Switches and settings of telemetry: off is off, and what is wrong is said before anything begins.

use super::{CASE, Watched, with_headers};
use crate::harness::{
    OtlpStore, Plan, Protocol, SentryStore, Service, WaitFor, receivers::DSN_KEY, registering, service::Settings,
    until_late,
};

async fn ends_well(service: &mut Service) {
    service.terminate();
    assert_eq!(service.exit_code().await, 0);
}

#[tokio::test]
async fn switched_off_nothing_arrives_anywhere_and_trace_ids_stay() {
    for (name, value) in [("TRACING_ENABLED", "false"), ("OTEL_SDK_DISABLED", "true")] {
        let mut watched = Watched::start(Plan::on_demand().set(name, value)).await;
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let headers = [("sentry-trace", format!("{trace}-00f067aa0ba902b7-1"))];
        let request = with_headers(registering(1, CASE, WaitFor::Confirmed), &headers);

        let answer = watched.stack.client.register_traced(request).await.unwrap();
        watched.stack.client.register(registering(1, "no case", WaitFor::Confirmed)).await.unwrap_err();
        ends_well(&mut watched.stack.service).await;

        assert_eq!((&*answer.trace_id, &*answer.message.trace_id), (trace, trace));
        assert!(watched.sentry.envelopes().is_empty(), "{name}: {:#?}", watched.sentry.envelopes());
        assert!(watched.otlp.spans().is_empty(), "{name}");
        assert!(watched.stack.service.log().iter().any(|line| line["trace_id"] == trace), "{name}: the log stays");
    }
}

#[tokio::test]
async fn an_empty_dsn_and_no_collector_are_no_fault_and_trace_ids_stay() {
    let mut stack = Plan::on_demand().set("SENTRY_DSN", "").set("OTEL_EXPORTER_OTLP_ENDPOINT", "").start().await;

    let registration = stack.client.confirm(1, CASE).await;

    stack.service.logged("its trace", |line| line["trace_id"] == registration.trace_id).await;
    let complaints: Vec<_> = stack.service.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    ends_well(&mut stack.service).await;
}

#[tokio::test]
async fn sentry_alone_and_a_collector_alone_are_told_everything() {
    let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
    let stack = Plan::on_demand().sentry(&sentry).start().await;
    let registration = stack.client.confirm(1, CASE).await;
    sentry.transaction("blockchain.register", &registration.trace_id).await;

    let stack = Plan::on_demand().otlp(&otlp, Protocol::Grpc).start().await;
    let registration = stack.client.confirm(1, CASE).await;
    let is_it = |span: &crate::harness::receivers::Span| {
        span.op == "blockchain.wait" && span.ids.trace == registration.trace_id
    };
    otlp.spans_where(1, "the wait", is_it).await;
}

/// Starting is refused for these settings, with words on this one, and without a secret.
async fn is_refused(settings: Settings, name: &str, secrets: &[&str]) {
    let refused = Service::refused(&settings).await;
    assert_eq!(refused.code, 64, "{name}: {}", refused.said);
    let line = refused.said.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("{name} is not in: {}", refused.said));
    assert!(line.trim().len() > name.len() + 10, "no reason: {line}");
    for secret in secrets {
        assert!(!refused.said.contains(secret), "`{secret}` is repeated in: {}", refused.said);
    }
}

#[tokio::test]
async fn a_dsn_that_is_none_stops_the_start_and_is_not_printed() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    for dsn in [
        format!("{DSN_KEY}@sentry.example/1"),
        format!("https://sentry.example/1?key={DSN_KEY}"),
        format!("https://{DSN_KEY}@sentry.example"),
        format!("https://{DSN_KEY}@sentry.example/project-x"),
        format!("ftp://{DSN_KEY}@sentry.example/1"),
        DSN_KEY.to_owned(),
    ] {
        let settings = settings.clone().set("SENTRY_DSN", dsn);
        is_refused(settings, "SENTRY_DSN", &[DSN_KEY, "sentry.example"]).await;
    }
}

#[tokio::test]
async fn a_dsn_in_a_file_is_read_and_a_wrong_one_is_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dsn");
    let sentry = SentryStore::start();
    std::fs::write(&file, format!("{}\n", sentry.dsn())).unwrap();
    let stack = Plan::on_demand().set("SENTRY_DSN_FILE", file.display()).sample_rate(1.0).start().await;
    let registration = stack.client.confirm(1, CASE).await;
    sentry.transaction("blockchain.register", &registration.trace_id).await;

    std::fs::write(&file, format!("{DSN_KEY}@sentry.example/1")).unwrap();
    let (_ground, settings) = Plan::on_demand().set("SENTRY_DSN_FILE", file.display()).prepare().await;
    is_refused(settings, "SENTRY_DSN", &[DSN_KEY, "sentry.example"]).await;
}

#[tokio::test]
async fn a_rate_out_of_bounds_stops_the_start() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    for name in ["TRACE_SAMPLE_RATE", "SENTRY_TRACES_SAMPLE_RATE", "SENTRY_SAMPLE_RATE"] {
        for rate in ["-0.1", "1.1", "NaN", "inf", "often", "50%"] {
            is_refused(settings.clone().set(name, rate), name, &[]).await;
        }
    }
}

#[tokio::test]
async fn a_collector_that_cannot_be_reached_as_it_is_written_stops_the_start() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    for endpoint in
        ["grpc://collector.example:4317", "collector.example:4317", "//collector.example", "http://", "nonsense"]
    {
        let settings = settings.clone().set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        is_refused(settings, "OTEL_EXPORTER_OTLP_ENDPOINT", &[]).await;
    }
    let settings = settings.set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    is_refused(settings.set("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon"), "OTEL_EXPORTER_OTLP_PROTOCOL", &[]).await;
}

#[tokio::test]
async fn the_names_that_the_ecosystem_knows_are_honoured() {
    let sentry = SentryStore::start();
    let stack = Plan::on_demand()
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
async fn users_leave_as_a_hash_when_there_is_a_salt() {
    let watched = super::standstill(Plan::on_demand().set("REGISTRAR_USER_ID_SALT", "pepper"), 1).await;
    let mut request = until_late(1, CASE);
    request.user_id = super::USER.to_owned();

    let refusal = watched.stack.client.register(request).await.unwrap_err();

    let journey = watched.sentry.transaction("blockchain.register", &refusal.trace_id).await;
    let event =
        watched.sentry.event("the timeout", |event| super::exception(event).0 == "TransactionTimeoutError").await;
    let id = journey["user"]["id"].as_str().unwrap();
    assert!(id.len() == 32 && event["user"]["id"] == id, "the same hash: {id} and {}", event["user"]);
    watched.otlp.spans_where(1, "the journey", |span| span.op == "blockchain.register").await;
    let told = format!("{:?}{:?}{:?}", watched.sentry.envelopes(), watched.otlp.spans(), watched.stack.service.log());
    assert!(!told.contains(super::USER) && !told.contains("pepper"), "the user is told");
}

#[tokio::test]
async fn resource_attributes_and_span_limits_are_the_standards() {
    let plan = Plan::on_demand()
        .set("OTEL_RESOURCE_ATTRIBUTES", "team=records,service.name=not-this")
        .set("TRACE_SERVICE_NAME", "shelf")
        .set("TRACE_ENVIRONMENT", "staging")
        .set("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 6)
        .set("OTEL_SPAN_LINK_COUNT_LIMIT", 2);
    let watched = Watched::start(plan).await;

    watched.batch(4).await;
    watched.stack.anvil.mine_on_demand().await;

    let is_batch = |span: &crate::harness::receivers::Span| span.op == "blockchain.batch" && span.get("batchSize") == 4;
    let batch = watched.otlp.spans_where(1, "the batch", is_batch).await.remove(0);
    assert_eq!(batch.links.len(), 2);
    watched.otlp.spans_where(4, "the journeys", |span| span.op == "blockchain.register").await;
    for span in watched.otlp.spans() {
        assert!(span.data.len() <= 6, "{span:#?}");
        for (key, value) in [("team", "records"), ("service.name", "shelf"), ("deployment.environment.name", "staging")]
        {
            assert_eq!(span.resource[key], value, "{:?}", span.resource);
        }
    }
}

#[tokio::test]
async fn errors_can_be_sampled_away_by_themselves() {
    let mut watched = super::standstill(Plan::on_demand().set("SENTRY_SAMPLE_RATE", "0"), 1).await;

    let refusal = watched.stack.client.register(until_late(1, CASE)).await.unwrap_err();

    watched.transaction("blockchain.register", &refusal.trace_id).await;
    ends_well(&mut watched.stack.service).await;
    assert!(watched.sentry.events().is_empty());
}
