//! Incoming trace headers as standard clients send them, and outgoing trace headers to the configured hosts.

use crate::harness::{
    CASE, Fault, Service, StackBuilder, WaitFor, cli, document, eventually,
    language_client::Language,
    proxy::{Proxy, RecordedCall},
    register_request,
};
use registrar::api::proto::{RegisterDocumentRequest, VerifyDocumentRequest};
use serde_json::{Value, json};
use tonic::{Request, metadata::AsciiMetadataKey};

const TRACE: &str = "771a43a4192642f0b136d5159a501700";
const OTHER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "b7ad6b7169203331";
const TRACE_HEADERS: [&str; 4] = ["traceparent", "tracestate", "sentry-trace", "baggage"];

fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().append(AsciiMetadataKey::from_static(name), value.parse().unwrap());
    }
    request
}

async fn assert_sentry_trace_is_continued(language: Language) {
    let stack = StackBuilder::block_time(0.2).start().await;
    let request = json!({ "documentHash": document(1), "caseId": CASE, "waitFor": "WAIT_FOR_CONFIRMED" });
    let sentry = format!("{TRACE}-{SPAN}-1");
    let w3c = format!("00-{OTHER}-{SPAN}-00");
    let baggage = format!("userId=alice,sentry-trace_id={TRACE},sentry-public_key=49d0,sentry-sample_rate=0.5");
    let headers = [
        ("sentry-trace", sentry.as_str()),
        ("baggage", &baggage),
        ("traceparent", &w3c),
        ("tracestate", "congo=t61rcWkgMzE"),
        ("x-trace-id", OTHER),
        ("x-span-id", "external span"),
    ];

    let outcome = language.register_with(stack.service.grpc, &request, 30.0, &headers).await;

    assert_eq!(outcome["code"], "OK", "{outcome}");
    assert_eq!(outcome["metadata"]["x-trace-id"], TRACE, "{outcome}");
    assert_eq!(outcome["registration"]["traceId"], TRACE, "{outcome}");
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().trace_id, TRACE);
}

#[tokio::test]
async fn python_gets_its_sentry_trace_back() {
    assert_sentry_trace_is_continued(Language::Python).await;
}

#[tokio::test]
async fn node_gets_its_sentry_trace_back() {
    assert_sentry_trace_is_continued(Language::Node).await;
}

#[tokio::test]
async fn an_invalid_trace_header_is_ignored_and_an_ambiguous_one_starts_a_new_trace() {
    // Organization 1. Nothing is sent there.
    let dsn = "https://5ec2e7a1@o1.ingest.sentry.invalid/1";
    let stack = StackBuilder::on_demand().set("SENTRY_DSN", dsn).start().await;
    let (w3c, sentry) = (format!("00-{TRACE}-{SPAN}-01"), format!("{TRACE}-{SPAN}"));
    let w3c_off = format!("00-{TRACE}-{SPAN}-00");
    let upper = format!("00-{}-{SPAN}-01", TRACE.to_uppercase());
    let future = format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like");
    let rows: [(&[(&'static str, &str)], bool); 11] = [
        (&[("sentry-trace", &sentry)], true),
        (&[("traceparent", &w3c), ("sentry-trace", "garbage")], true),
        (&[("traceparent", "garbage"), ("sentry-trace", &sentry)], true),
        (&[("traceparent", &future), ("tracestate", "MALFORMED"), ("baggage", ",,=,%zz")], true),
        (&[("traceparent", &w3c), ("traceparent", &w3c)], false),
        (&[("traceparent", &w3c), ("traceparent", &w3c_off), ("sentry-trace", &sentry)], false),
        (&[("sentry-trace", &sentry), ("sentry-trace", &sentry), ("traceparent", &w3c)], false),
        (&[("sentry-trace", &sentry), ("baggage", "sentry-org_id=2")], false),
        (&[("sentry-trace", &sentry), ("baggage", "sentry-org_id=1")], true),
        (&[("traceparent", &upper)], false),
        (&[("tracestate", "congo=1"), ("baggage", "sentry-trace_id=771a43a4192642f0b136d5159a501700")], false),
    ];
    for (number, (headers, is_continued)) in rows.into_iter().enumerate() {
        let request = with(register_request(number as u64, CASE, WaitFor::Accepted), headers);
        let answer = stack.client.register_traced(request).await.unwrap();
        assert_eq!(answer.message.trace_id, answer.trace_id, "{headers:?}");
        assert_eq!(answer.trace_id == TRACE, is_continued, "{headers:?}");
    }
}

#[tokio::test]
async fn nonstandard_trace_id_headers_are_ignored() {
    let stack = StackBuilder::on_demand().start().await;
    let external = [("x-trace-id", OTHER), ("x-span-id", SPAN), ("x-parent-span-id", SPAN)];
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let both = [&external[..], &[("traceparent", &w3c)]].concat();

    let alone: Request<RegisterDocumentRequest> = with(register_request(1, CASE, WaitFor::Accepted), &external);
    let alone = stack.client.register_traced(alone).await.unwrap();
    let beside = with(register_request(2, CASE, WaitFor::Accepted), &both);
    let beside = stack.client.register_traced(beside).await.unwrap();

    assert!(![OTHER, TRACE].contains(&alone.trace_id.as_str()), "{}", alone.trace_id);
    assert_eq!(alone.message.trace_id, alone.trace_id);
    assert_eq!(beside.trace_id, TRACE);
}

/// The proxy's URL with a host name that the setting can distinguish from `127.0.0.1`.
fn by_name(proxy: &Proxy) -> String {
    proxy.url().replace("127.0.0.1", "localhost")
}

fn trace_headers(received: &RecordedCall) -> Vec<(&str, &str)> {
    let text = |name: &'static str| Some((name, received.headers.get(name)?.to_str().unwrap()));
    TRACE_HEADERS.into_iter().filter_map(text).collect()
}

#[tokio::test]
async fn only_configured_endpoints_get_trace_headers() {
    let (dependencies, settings) = StackBuilder::on_demand().endpoints(2).prepare().await;
    let urls = format!("{},{}", by_name(&dependencies.proxies[0]), dependencies.proxies[1].url());
    let settings = settings.set("REGISTRAR_RPC_URLS", urls).set("REGISTRAR_TRACE_HOSTS", ".example.com, LocalHost");
    let stack = dependencies.start(settings).await;
    let [named, other] = stack.proxies() else { panic!("two proxies") };
    let other_is_healthy = [("endpoint", "127.0.0.1"), ("state", "healthy")];
    eventually("the other endpoint to be healthy", async || {
        let metrics = stack.service.metrics().await;
        (metrics.value("registrar_rpc_endpoint_state", &other_is_healthy) == 1.0).then_some(())
    })
    .await;
    stack.client.confirm(1, CASE).await;
    // Both endpoints get the call, because the first loses it.
    let lost = named.inject("eth_call", Fault::LoseRequest);
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let frozen = format!("sentry-trace_id={TRACE},sentry-release=their%20shop,sentry-sample_rand=0.25");
    let baggage = format!("userId=alice,{frozen}");
    let request = VerifyDocumentRequest { document_hash: document(1), case_id: CASE.to_owned() };
    let headers = [("traceparent", w3c.as_str()), ("tracestate", "a@b@c=1, congo=2"), ("baggage", &baggage)];

    stack.client.stub().verify_document(with(request, &headers)).await.unwrap();

    assert!(lost.hits() > 0 && other.count("eth_call") > 0);
    let calls = named.calls("eth_call");
    let of_caller = |sent: &Vec<(&str, &str)>| sent.iter().any(|(_, value)| value.contains(TRACE));
    let sent = calls.iter().map(trace_headers).find(of_caller).expect("no call has the caller's trace");
    let value = |name| sent.iter().find(|(sent, _)| *sent == name).map(|(_, value)| *value);
    let parts: Vec<_> = value("traceparent").unwrap().split('-').collect();
    assert_eq!((parts[0], parts[1], parts.len()), ("00", TRACE, 4), "{sent:?}");
    assert_ne!(parts[2], SPAN, "the span id is the caller's: {sent:?}");
    let flag = if parts[3] == "01" { "1" } else { "0" };
    assert_eq!(value("sentry-trace"), Some(format!("{TRACE}-{}-{flag}", parts[2]).as_str()));
    assert_eq!(value("tracestate"), Some("a@b@c=1,congo=2"));
    assert_eq!(value("baggage"), Some(frozen.as_str()));
    for seen in other.all() {
        assert_eq!(trace_headers(&seen), [], "{}", seen.call);
    }
}

#[tokio::test]
async fn no_endpoint_gets_trace_headers_without_configuration_or_spans() {
    for settings in [
        vec![],
        vec![("REGISTRAR_TRACE_HOSTS", "rpc.example.com,.internal.example,10.0.0.1")],
        vec![("REGISTRAR_TRACE_HOSTS", "127.0.0.1"), ("TRACING_ENABLED", "false")],
    ] {
        let builder = StackBuilder::on_demand().through_proxy();
        let builder = settings.iter().fold(builder, |builder, (name, value)| builder.set(name, value));
        let stack = builder.start().await;
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let request = VerifyDocumentRequest { document_hash: document(1), case_id: CASE.to_owned() };

        stack.client.confirm(1, CASE).await;
        // This call goes to the endpoint within the caller's request.
        stack
            .client
            .stub()
            .verify_document(with(request, &[("traceparent", &w3c), ("tracestate", "a=1")]))
            .await
            .unwrap();

        let all = stack.proxy().all();
        assert!(!all.is_empty());
        for seen in all {
            assert_eq!(trace_headers(&seen), [], "{settings:?}: {}", seen.call);
        }
    }
}

#[tokio::test]
async fn an_invalid_trace_host_is_rejected_and_not_repeated() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let settings = settings.set("REGISTRAR_TRACE_HOSTS", "rpc.example.com, https://rpc.example.com/v2/s3cr3t,*");

    let failed = Service::expect_start_failure(&settings).await;

    assert_eq!(failed.code, 64, "{failed:?}");
    for words in ["2 invalid settings", "REGISTRAR_TRACE_HOSTS: entry 2", "REGISTRAR_TRACE_HOSTS: entry 3"] {
        assert!(failed.output.contains(words), "{words} in {failed:?}");
    }
    assert!(!failed.output.contains("s3cr3t"), "{failed:?}");
}

#[tokio::test]
async fn each_command_has_its_own_trace_id_and_prints_it() {
    let stack = StackBuilder::on_demand().start().await;
    let server = [("REGISTRAR_SERVER", format!("http://{}", stack.service.grpc))];
    let server = server.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (hash, other) = (document(1), document(2));

    let first = cli::run(&["register", &hash, "--case", CASE, "--json"], &server).await.object();
    let second = cli::run(&["register", &other, "--case", CASE, "--json"], &server).await.object();
    let again = cli::run(&["register", &hash, "--case", CASE], &server).await;
    let not_found = cli::run(&["status", &document(3), "--case", CASE, "--json"], &server).await.object();

    let id = |answer: &Value| answer["traceId"].as_str().unwrap().to_owned();
    assert_ne!(id(&first), id(&second));
    let row = |label: &str| {
        let line = again.stdout.lines().find(|line| line.trim_start().starts_with(label));
        line.unwrap_or_else(|| panic!("{label} in {again:?}")).split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(row("trace"), id(&first), "the registration's trace id");
    assert!(![id(&first), id(&second)].contains(&row("this call")), "{again:?}");
    assert!(![id(&first), id(&second)].contains(&id(&not_found["error"])), "{not_found}");
}
