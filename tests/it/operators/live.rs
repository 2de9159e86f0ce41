//! A real Prometheus that looks at a really running service: every number that a rule, a panel or a page asks for is there.

use super::{
    dashboard, pages,
    prometheus::Prometheus,
    promql::{Selector, selectors},
    source, text,
};
use crate::documents::code_spans;
use crate::harness::{Fault, Plan, Stack, WaitFor, document, eventually, registering};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

const CASE: &str = "case-1";
/// Longer than a number takes that is there to come.
const ENOUGH: Duration = Duration::from_secs(30);

/// What other programs tell: `kube-state-metrics` and `node_exporter`.
const OF_OTHERS: [&str; 2] = ["kube_", "node_"];
/// Values that only trouble shows, and the source that says them.
const OF_TROUBLE: [(&str, &str, &str); 5] = [
    ("code", "internal", "api/call.rs"),
    ("code", "unknown", "api/call.rs"),
    ("code", "unavailable", "api/call.rs"),
    ("code", "resource_exhausted", "api/call.rs"),
    ("outcome", "refused", "chain/error.rs"),
];

/// A service to which everything has happened that happens to one on a good day.
async fn lived_in() -> Stack {
    let stack = Plan::block_time(0.2).endpoints(2).start().await;
    let client = &stack.client;
    let registration = client.confirm(1, CASE).await;
    client.get(&registration.id).await.unwrap();
    client.diagnose(&registration.id).await.unwrap();
    client.list(Default::default()).await.unwrap();
    client.info().await;
    client.watch(&registration.id, WaitFor::Confirmed, 0).await.unwrap().rest().await;
    client.register(registering(1, "not a case", WaitFor::Accepted)).await.unwrap_err();
    // The first endpoint does not answer once, and the other is asked.
    let trap = stack.proxy().trap("eth_call", Fault::LoseRequest);
    client.verify(&document(1), CASE).await.unwrap();
    trap.release();
    stack
}

#[tokio::test]
async fn every_number_that_rules_panels_and_pages_ask_for_is_there() {
    let stack = lived_in().await;
    let prometheus = Prometheus::watching(stack.service.admin).await;
    // How much it grows shows only what has grown before its eyes.
    eventually("a first look", async || prometheus.query("up == 1").await.pop()).await;
    stack.client.confirm(2, CASE).await;

    let mut wanted = BTreeSet::new();
    let mut queries = BTreeSet::new();
    for rule in prometheus.rules().await {
        wanted.extend(selectors(rule.expression()));
        if !rule.is_alert() {
            queries.insert(rule.name().to_owned());
        }
    }
    let mut named = Vec::new();
    for (expression, name) in dashboard::expressions() {
        wanted.extend(selectors(&expression));
        named.push((expression.clone(), labels_of_name(&name)));
        // A panel that stays empty beside a working service shows nobody anything. Nothing happens to show a start.
        if !expression.starts_with("changes(") {
            queries.insert(expression);
        }
    }
    for page in pages::PAGES {
        let page = text(page);
        for line in pages::blocks(&page, "promql") {
            let expression = line.split('#').next().unwrap();
            wanted.extend(selectors(expression));
            named.push((expression.to_owned(), labels_of_sum(expression)));
        }
        wanted.extend(code_spans(&page).iter().filter_map(|span| metric(span)));
    }
    queries
        .extend(wanted.iter().flat_map(Selector::each_value).filter(|one| !is_excused(one)).map(|one| one.to_string()));
    assert!(queries.len() > 150, "only {} things are asked for", queries.len());

    let begun = Instant::now();
    let missing = eventually("numbers", async || {
        let mut missing = Vec::new();
        for query in &queries {
            if prometheus.query(query).await.is_empty() {
                missing.push(query.clone());
            }
        }
        (missing.is_empty() || begun.elapsed() > ENOUGH).then_some(missing)
    })
    .await;
    assert!(missing.is_empty(), "nothing is there for:\n{}", missing.join("\n"));

    for (expression, labels) in named {
        for series in prometheus.query(&expression).await {
            let missing: Vec<_> = labels.iter().filter(|label| series["metric"][label.as_str()].is_null()).collect();
            assert!(missing.is_empty(), "{missing:?} are no labels of {expression}");
        }
    }

    let rules = eventually("every rule to be reckoned", async || {
        let rules = prometheus.rules().await;
        rules.iter().all(|rule| rule.is_well()).then_some(rules)
    })
    .await;
    for rule in rules.iter().filter(|rule| rule.is_alert()) {
        assert_ne!(rule.state(), "firing", "{} fires beside a working service", rule.name());
    }
}

/// The labels that `{{label}}` stands for.
fn labels_of_name(name: &str) -> Vec<String> {
    name.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().to_owned()).collect()
}

/// The labels that `sum by (label, label)` begins with.
fn labels_of_sum(expression: &str) -> Vec<String> {
    let labels = expression.strip_prefix("sum by (").and_then(|rest| rest.split(')').next());
    labels.into_iter().flat_map(|labels| labels.split(", ")).map(str::to_owned).collect()
}

/// A metric that a page names by itself, or at the beginning of what it says.
fn metric(span: &str) -> Option<Selector> {
    let is_ours = |name: &str| ["registrar_", "process_"].iter().any(|prefix| name.starts_with(prefix));
    let name = span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().filter(|name| is_ours(name))?;
    // A histogram is its buckets.
    let histogram = name.ends_with("_duration_seconds") || name == "registrar_batch_size";
    let name = if histogram { format!("{name}_bucket") } else { name.to_owned() };
    Some(Selector { name, matchers: Vec::new() })
}

/// Whether it cannot be there: others tell it, or only trouble shows it. Then the source has the word.
fn is_excused(one: &Selector) -> bool {
    let trouble = OF_TROUBLE.iter().find(|(label, value, _)| one.wants(label, value));
    if let Some((_, value, file)) = trouble {
        assert!(source(file).contains(&format!("\"{value}\"")), "{file} does not say {value}");
    }
    trouble.is_some() || OF_OTHERS.iter().any(|prefix| one.name.starts_with(prefix))
}
