//! A real Prometheus that scrapes a running service: every metric that a rule, a panel or a page queries exists.

use super::{
    dashboard, pages,
    prometheus::Prometheus,
    promql::{Selector, selectors},
    source, text,
};
use crate::documents::code_spans;
use crate::harness::{
    CASE, Fault, Finality, StackBuilder, TestStack, WaitFor, document, eventually, register_all_request,
    register_request,
};
use registrar::api::proto::{GetCertificateRequest, ListChangesRequest, get_certificate_request::Key};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// Longer than a metric takes to appear.
const METRIC_TIMEOUT: Duration = Duration::from_secs(30);

/// Metrics of other programs: `kube-state-metrics` and `node_exporter`.
const EXTERNAL_PREFIXES: [&str; 2] = ["kube_", "node_"];
/// Label values that occur only with failures, and the source file that sets them.
const FAILURE_VALUES: [(&str, &str, &str); 5] = [
    ("code", "internal", "registration/grpc_code.rs"),
    ("code", "unknown", "registration/grpc_code.rs"),
    ("code", "unavailable", "registration/grpc_code.rs"),
    ("code", "resource_exhausted", "registration/grpc_code.rs"),
    ("outcome", "refused", "chain/error.rs"),
];

/// A service after one of each ordinary operation.
async fn exercised_stack() -> TestStack {
    let stack = StackBuilder::block_time(0.2).endpoints(2).start().await;
    let client = &stack.client;
    let registration = client.confirm(1, CASE).await;
    client.register_all(register_all_request([1])).await.unwrap();
    client.get(&registration.id).await.unwrap();
    client.diagnose(&registration.id).await.unwrap();
    client.list(Default::default()).await.unwrap();
    client.list_changes(ListChangesRequest { from_beginning: true, ..Default::default() }).await.unwrap();
    let key = Some(Key::Id(registration.id.clone()));
    client.certificate(GetCertificateRequest { key, min_finality: Finality::Unsafe.into() }).await.unwrap();
    client.info().await;
    client.watch(&registration.id, WaitFor::Confirmed, 0).await.unwrap().rest().await;
    client.register(register_request(1, "not a case", WaitFor::Accepted)).await.unwrap_err();
    // The first endpoint loses a call, which fails over to the second.
    let injected = stack.proxy().inject("eth_call", Fault::LoseRequest);
    client.verify(&document(1), CASE).await.unwrap();
    injected.release();
    stack
}

#[tokio::test]
async fn every_queried_metric_exists() {
    let stack = exercised_stack().await;
    let prometheus = Prometheus::scraping(stack.service.admin).await;
    // `increase` and `rate` only cover growth after the first scrape.
    eventually("the first scrape", async || prometheus.query("up == 1").await.pop()).await;
    stack.client.confirm(2, CASE).await;

    let mut selected = BTreeSet::new();
    let mut queries = BTreeSet::new();
    for rule in prometheus.rules().await {
        selected.extend(selectors(rule.expression()));
        if !rule.is_alert() {
            queries.insert(rule.name().to_owned());
        }
    }
    let mut named = Vec::new();
    for (expression, name) in dashboard::expressions() {
        selected.extend(selectors(&expression));
        named.push((expression.clone(), labels_of_name(&name)));
        // A panel has to show data for a working service, except counts of restarts.
        if !expression.starts_with("changes(") {
            queries.insert(expression);
        }
    }
    for page in pages::PAGES {
        let page = text(page);
        for line in pages::blocks(&page, "promql") {
            let expression = line.split('#').next().unwrap();
            selected.extend(selectors(expression));
            named.push((expression.to_owned(), labels_of_sum(expression)));
        }
        selected.extend(code_spans(&page).iter().filter_map(|span| metric(span)));
    }
    queries.extend(
        selected.iter().flat_map(Selector::each_value).filter(|one| !is_excused(one)).map(|one| one.to_string()),
    );
    assert!(queries.len() > 150, "only {} queries", queries.len());

    let started = Instant::now();
    let missing = eventually("all metrics", async || {
        let mut missing = Vec::new();
        for query in &queries {
            if prometheus.query(query).await.is_empty() {
                missing.push(query.clone());
            }
        }
        (missing.is_empty() || started.elapsed() > METRIC_TIMEOUT).then_some(missing)
    })
    .await;
    assert!(missing.is_empty(), "no data for:\n{}", missing.join("\n"));

    for (expression, labels) in named {
        for series in prometheus.query(&expression).await {
            let missing: Vec<_> = labels.iter().filter(|label| series["metric"][label.as_str()].is_null()).collect();
            assert!(missing.is_empty(), "{expression} has no labels {missing:?}");
        }
    }

    let rules = eventually("every rule to be evaluated", async || {
        let rules = prometheus.rules().await;
        rules.iter().all(|rule| rule.is_healthy()).then_some(rules)
    })
    .await;
    for rule in rules.iter().filter(|rule| rule.is_alert()) {
        assert_ne!(rule.state(), "firing", "{} fires for a working service", rule.name());
    }
}

/// The labels in a legend's `{{label}}`.
fn labels_of_name(name: &str) -> Vec<String> {
    name.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().to_owned()).collect()
}

/// The labels of a leading `sum by (label, label)`.
fn labels_of_sum(expression: &str) -> Vec<String> {
    let labels = expression.strip_prefix("sum by (").and_then(|rest| rest.split(')').next());
    labels.into_iter().flat_map(|labels| labels.split(", ")).map(str::to_owned).collect()
}

/// A metric that a page names, alone or at the start of an expression.
fn metric(span: &str) -> Option<Selector> {
    let is_ours = |name: &str| ["registrar_", "process_"].iter().any(|prefix| name.starts_with(prefix));
    let name = span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().filter(|name| is_ours(name))?;
    // Histograms are queried by their buckets.
    let histogram = name.ends_with("_duration_seconds") || name == "registrar_batch_size";
    let name = if histogram { format!("{name}_bucket") } else { name.to_owned() };
    Some(Selector { name, matchers: Vec::new() })
}

/// Whether a metric cannot exist here, because another program exports it or because only failures set it. In the
/// second case the source has to contain the value.
fn is_excused(one: &Selector) -> bool {
    let failure = FAILURE_VALUES.iter().find(|(label, value, _)| one.requires(label, value));
    if let Some((_, value, file)) = failure {
        assert!(source(file).contains(&format!("\"{value}\"")), "{file} does not set {value}");
    }
    failure.is_some() || EXTERNAL_PREFIXES.iter().any(|prefix| one.name.starts_with(prefix))
}
