//! The export to a collector: certificates, rejected spans, redirects, proxies and settings without effect.

use super::{CASE, ObservedStack};
use crate::harness::{
    Behavior, OtlpStore, Protocol, Reply, SentryStore, Service, StackBuilder, certificates::Authority, eventually,
    listener::ReservedPort, tls_front::TlsFront,
};
use serde_json::Value;

#[tokio::test]
async fn spans_that_the_collector_rejects_count_as_failed_and_are_logged_once() {
    for protocol in Protocol::ALL {
        let otlp = OtlpStore::start();
        otlp.claim_rejected(1, "attribute limit\nexceeded");
        let mut stack = StackBuilder::on_demand().otlp(&otlp, protocol).start().await;
        for number in 0..2 {
            let before = otlp.spans().len();
            stack.client.confirm(number, CASE).await;
            eventually("an export", async || (otlp.spans().len() > before).then_some(())).await;
        }

        let export = |outcome: &'static str| [("target", "otlp"), ("outcome", outcome)];
        eventually("rejected spans", async || {
            let metrics = stack.service.metrics().await;
            let count = |outcome| metrics.value("registrar_telemetry_export_total", &export(outcome));
            (count("failed") >= 2.0 && count("failed") + count("ok") == otlp.spans().len() as f64).then_some(())
        })
        .await;
        let is_report = |line: &Value| line["message"] == "collector rejects spans; reported once";
        let report = stack.service.wait_for_log("the rejection", is_report).await;
        assert_eq!((&report["rejected"], &report["error"]), (&1.into(), &"attribute limit\nexceeded".into()));
        let log = stack.service.log();
        assert_eq!(log.iter().filter(|line| is_report(line)).count(), 1, "{protocol:?}");
        assert!(!log.iter().any(|line| line["message"] == "telemetry export failing"), "{protocol:?}");
    }
}

#[tokio::test]
async fn the_collectors_certificate_is_checked_with_the_configured_authority() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    for protocol in Protocol::ALL {
        let otlp = OtlpStore::start();
        let front = TlsFront::start(otlp.address(), &authority, protocol == Protocol::Grpc);
        let builder = || {
            let builder = StackBuilder::on_demand().otlp(&otlp, protocol);
            let builder = builder.set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", front.address()));
            let client = authority.sign_client();
            builder
                .set("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", client.certificate.display())
                .set("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", client.key.display())
        };
        let stack = builder().set("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.root().display()).start().await;
        stack.client.confirm(1, CASE).await;
        otlp.spans_where(1, "a span over TLS", |_| true).await;
        drop(stack);

        let builder = builder().set("OTEL_EXPORTER_OTLP_CERTIFICATE", authority.root().display());
        // For traces alone, so it wins.
        let builder = builder.set("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", foreign.root().display());
        let mut stack = builder.start().await;
        let before = otlp.spans().len();
        stack.client.confirm(1, CASE).await;
        let failing = |line: &Value| line["message"] == "telemetry export failing" && line["receiver"] == "otlp";
        stack.service.wait_for_log("the refused certificate", failing).await;
        assert_eq!(otlp.spans().len(), before, "{protocol:?}");
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_fail_the_start_by_name() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let authority = Authority::new();
    let client = authority.sign_client();
    let (root, certificate, key) = (authority.root(), client.certificate, client.key);
    let [root, certificate, key] = [root, certificate, key].map(|path| path.display().to_string());
    let https = "https://127.0.0.1:4317";
    for (endpoint, variables, words) in [
        (https, vec![("CERTIFICATE", "/no/such/file")], "CERTIFICATE: the file that it names cannot be read"),
        (https, vec![("CERTIFICATE", key.as_str())], "CERTIFICATE: the file that it names has no valid certificate"),
        (https, vec![("CLIENT_CERTIFICATE", &certificate)], "CLIENT_CERTIFICATE: needs its private key"),
        (https, vec![("CLIENT_KEY", &key)], "CLIENT_KEY: needs its certificate"),
        (
            https,
            vec![("CLIENT_CERTIFICATE", &certificate), ("CLIENT_KEY", &root)],
            "CLIENT_KEY: the file that it names has no valid private key",
        ),
        (
            "http://127.0.0.1:4317",
            vec![("CERTIFICATE", &root)],
            "CERTIFICATE: has no effect on a collector with http://",
        ),
    ] {
        let settings = settings.clone().set("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let set = |settings: crate::harness::service::Settings, (name, value): &(&str, &str)| {
            settings.set(&format!("OTEL_EXPORTER_OTLP_{name}"), value)
        };
        let failed = Service::expect_start_failure(&variables.iter().fold(settings, set)).await;
        assert_eq!(failed.code, 64, "{variables:?}: {}", failed.output);
        assert!(failed.output.contains(&format!("OTEL_EXPORTER_OTLP_{words}")), "{variables:?}: {}", failed.output);
    }
    let settings = settings.set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    let failed = Service::expect_start_failure(&settings.set("OTEL_TRACES_EXPORTER", "zipkin")).await;
    assert!(failed.code == 64 && failed.output.contains("OTEL_TRACES_EXPORTER"), "{}", failed.output);
}

#[tokio::test]
async fn redirects_are_not_followed_and_proxies_are_not_used_for_loopback() {
    let (other, closed_proxy) = (SentryStore::start(), ReservedPort::new());
    let other_otlp = OtlpStore::start();
    let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
    let builder = StackBuilder::on_demand().sentry(&sentry).otlp(&otlp, Protocol::Http);
    let proxy = format!("http://proxyuser:proxyw0rd@{}", closed_proxy.address);
    let builder = builder.set("HTTP_PROXY", &proxy).set("HTTPS_PROXY", &proxy).set("ALL_PROXY", &proxy);
    let builder = builder.set("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k3y").set("OTEL_TRACES_SAMPLER", "always_off");
    let stack = builder.set("OTEL_PROPAGATORS", "b3,jaeger").start().await;
    let observed = ObservedStack { stack, sentry, otlp };

    let direct = observed.stack.client.confirm(1, CASE).await;
    let tree = observed.transaction("blockchain.register", &direct.trace_id).await;
    observed.assert_in_both_receivers(&tree).await;
    let to = |address| Behavior::Reject(Reply::status(307).header("location", format!("http://{address}/")));
    observed.sentry.set_behavior(to(other.address()));
    observed.otlp.set_behavior(to(other_otlp.address()));
    observed.stack.client.confirm(2, CASE).await;
    eventually("both redirects", async || {
        let log = observed.stack.service.log();
        let failing = |receiver: &str| {
            log.iter().any(|line| line["message"] == "telemetry export failing" && line["receiver"] == receiver)
        };
        (failing("sentry") && failing("otlp")).then_some(())
    })
    .await;

    assert!(other.envelopes().is_empty() && other.invalid().is_empty() && other_otlp.spans().is_empty());
    let log = observed.stack.service.log();
    for name in ["OTEL_TRACES_SAMPLER", "OTEL_PROPAGATORS"] {
        let named = log.iter().filter(|line| line["level"] == "WARN" && line["name"] == name).count();
        assert_eq!(named, 1, "warnings about {name}");
    }
    assert!(!format!("{log:?}").contains("proxyw0rd"), "the proxy's password is logged");
}
