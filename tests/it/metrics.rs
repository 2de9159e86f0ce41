//! Metrics: the reference lists each one, and the values are true.

use crate::harness::{
    CASE, Fault, StackBuilder, State, WaitFor, account, document, eventually,
    load_scenario::{ENDPOINT_1, ENDPOINT_2},
    metrics::{Family, Metrics},
    register_request, register_until_timeout,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const ETHER: u128 = 1_000_000_000_000_000_000;

/// Labels whose values are not a list that can be written down: names, methods, and what another table lists.
const OPEN: [&str; 9] = ["caller", "cause", "code", "endpoint", "from", "method", "signer", "to", "reason"];

/// A row of the reference's table.
struct Listed {
    kind: String,
    unit: String,
    labels: BTreeSet<String>,
    line: String,
}

/// The metrics that the reference lists.
fn listed() -> BTreeMap<String, Listed> {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/metrics.md")).unwrap();
    let section = page.split_once("\n## Table\n").unwrap().1.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let listed = rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').splitn(5, '|').map(str::trim).collect();
        let [name, kind, unit, labels, _] = cells[..] else { panic!("not five cells: {line}") };
        let labels = labels.split(", ").filter(|label| !label.is_empty()).map(bare);
        let (kind, unit, labels) = (kind.to_owned(), unit.to_owned(), labels.collect());
        (bare(name), Listed { kind, unit, labels, line: line.to_owned() })
    });
    listed.collect()
}

fn bare(quoted: &str) -> String {
    quoted.trim_matches('`').to_owned()
}

/// Where the service and the reference differ.
fn disagreements(listed: &Listed, family: &Family) -> Vec<String> {
    let mut wrong = Vec::new();
    if listed.kind != family.kind {
        wrong.push(format!("the type is {}", family.kind));
    }
    if family.help.len() < 10 || listed.unit.is_empty() {
        wrong.push(format!("unit {:?}, help {:?}", listed.unit, family.help));
    }
    if family.unit.as_ref().is_some_and(|unit| *unit != listed.unit) {
        wrong.push(format!("the unit is {:?}", family.unit));
    }
    if listed.labels != family.labels {
        wrong.push(format!("the labels are {:?}", family.labels));
    }
    for (label, value) in family.values.iter().filter(|(label, _)| !OPEN.contains(&label.as_str())) {
        if !listed.line.contains(&format!("`{value}`")) {
            wrong.push(format!("{label} is {value}"));
        }
    }
    wrong
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_service_has_every_metric_that_the_reference_lists_and_no_other() {
    let stack = StackBuilder::block_time(0.2).endpoints(2).start().await;
    stack.client.confirm(1, CASE).await;
    let _away = stack.proxy().inject_all(Fault::RefuseConnections);
    stack.client.confirm(2, CASE).await;

    let page = stack.service.metrics().await;

    let failovers = page.value("registrar_rpc_failovers_total", &[("from", ENDPOINT_1), ("to", ENDPOINT_2)]);
    assert!(failovers >= 1.0, "there was no failover, so its metric is missing");
    let (listed, on_page): (_, BTreeMap<_, _>) = (listed(), page.families().collect());
    assert!(listed.len() > 30, "only {} metrics are listed", listed.len());
    assert_eq!(listed.keys().collect::<Vec<_>>(), on_page.keys().collect::<Vec<_>>());
    for (name, listed) in listed {
        let wrong = disagreements(&listed, on_page[&name]);
        assert!(wrong.is_empty(), "{name} on the page differs from the reference: {wrong:?}");
    }
}

#[tokio::test]
async fn counters_are_present_at_zero_before_their_first_event() {
    let stack = StackBuilder::on_demand().start().await;

    let page = stack.service.metrics().await;

    for (name, label, value) in [
        ("registrar_registrations_total", "outcome", "failed"),
        ("registrar_confirmation_timeouts_total", "cause", "insufficient_funds"),
        ("registrar_transactions_total", "result", "requeued"),
        ("registrar_telemetry_export_total", "outcome", "failed"),
        ("registrar_telemetry_dropped_total", "budget", "spans"),
    ] {
        let before: Vec<f64> = page.all(name, &[(label, value)]).map(|sample| sample.value).collect();
        assert!(!before.is_empty() && before.iter().all(|value| *value == 0.0), "{name} {value}: {before:?}");
    }
}

#[tokio::test]
async fn the_queue_age_grows_while_a_signer_is_blocked() {
    let stack = StackBuilder::on_demand().start().await;
    let oldest = async || stack.service.metrics().await.value("registrar_queue_oldest_seconds", &[]);
    let queued = async || stack.service.metrics().await.value("registrar_in_flight", &[("state", "queued")]);
    assert_eq!(oldest().await, 0.0);
    stack.anvil.set_balance(account(1), 0).await;
    let started = tokio::time::Instant::now();
    let first = stack.client.accept(1, CASE).await;
    let mut last = 0.0;
    for reaches in [0.5, 1.5] {
        let what = format!("an age of {reaches} s");
        last = eventually(&what, async || Some(oldest().await).filter(|age| *age > last && *age >= reaches)).await;
    }
    stack.client.accept(2, CASE).await;
    eventually("two to be queued", async || (queued().await == 2.0).then_some(())).await;
    let age = oldest().await;
    assert!(last <= age && age <= started.elapsed().as_secs_f64(), "{age} s is not the age of the first registration");

    stack.anvil.set_balance(account(1), ETHER).await;

    stack.client.wait_for_state(&first.id, State::Confirmed).await;
    eventually("an empty queue", async || (oldest().await == 0.0 && queued().await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn signer_balances_are_reported_at_start_and_with_each_transaction() {
    let stack = StackBuilder::on_demand().signers(2).start().await;
    let balance = |page: &Metrics, number: usize| {
        let signer = account(number).to_string();
        let all: Vec<f64> =
            page.all("registrar_signer_balance_wei", &[("signer", &signer)]).map(|sample| sample.value).collect();
        assert_eq!(all.len(), 1, "{signer}");
        all[0]
    };
    let page = stack.service.metrics().await;
    for number in [1, 2] {
        assert_eq!(balance(&page, number), f64::from(stack.anvil.balance(account(number)).await));
    }
    for number in [1, 2] {
        stack.anvil.set_balance(account(number), 3 * ETHER).await;
    }

    let transaction = stack.client.confirm(1, CASE).await.transaction.unwrap();

    let sender = [1, 2].into_iter().find(|number| account(*number).to_string() == transaction.from_address).unwrap();
    assert_eq!(balance(&stack.service.metrics().await, sender), 3e18, "the balance before the transaction");
}

#[tokio::test]
async fn the_nonce_lag_counts_pending_transactions() {
    let stack = StackBuilder::on_demand().start().await;
    let signer = account(1).to_string();
    let lag = async || {
        let page = stack.service.metrics().await;
        assert_eq!(page.all("registrar_signer_nonce_lag", &[("signer", &signer)]).count(), 1);
        page.value("registrar_signer_nonce_lag", &[])
    };
    stack.client.confirm(1, CASE).await;
    eventually("no lag", async || (lag().await == 0.0).then_some(())).await;

    stack.anvil.stop_mining().await;
    for number in [2, 3] {
        let accepted = stack.client.accept(number, CASE).await;
        stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    }
    eventually("a lag of two", async || (lag().await == 2.0).then_some(())).await;

    stack.anvil.mine_on_demand().await;
    eventually("no lag", async || (lag().await == 0.0).then_some(())).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn process_metrics_have_their_standard_names() {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    let stack = StackBuilder::on_demand().start().await;

    let page = stack.service.metrics().await;

    let value = |name: &str| page.value(name, &[]);
    let started = value("process_start_time_seconds");
    // The kernel reports the boot time in whole seconds.
    assert!((before - 2.0..now() + 2.0).contains(&started), "started at {started}, and it is {}", now());
    assert!((1e6..4e9).contains(&value("process_resident_memory_bytes")), "{page:?}");
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!((2.0..1_000.0).contains(&value("process_threads")), "{page:?}");
    assert!((10.0..value("process_max_fds")).contains(&value("process_open_fds")), "{page:?}");
    let spent = value("process_cpu_seconds_total");
    assert!(spent <= 60.0, "{spent}");
    // Work uses processor time.
    for number in 0..30 {
        stack.client.confirm(number, CASE).await;
    }
    assert!(stack.service.metrics().await.value("process_cpu_seconds_total", &[]) > spent);
}

#[tokio::test]
async fn durations_have_trace_exemplars() {
    let stack = StackBuilder::on_demand().set("TRACE_SAMPLE_RATE", 1).start().await;

    let answer = stack.client.register_traced(register_request(1, CASE, WaitFor::Confirmed)).await.unwrap();

    let page = stack.service.metrics().await;
    let trace = BTreeSet::from([answer.trace_id]);
    let labels = [("method", "/registrar.v1.RegistrarService/RegisterDocument"), ("code", "ok")];
    assert_eq!(page.traces("registrar_grpc_request_duration_seconds_bucket", &labels), trace);
    assert_eq!(page.traces("registrar_stage_duration_seconds_bucket", &[("stage", "total")]), trace);
    assert_eq!(
        page.traces("registrar_stage_duration_seconds_bucket", &[]),
        trace,
        "stages of a batch have no single trace"
    );
}

#[tokio::test]
async fn timeouts_have_trace_exemplars() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s").start().await;
    stack.anvil.stop_mining().await;

    let error = stack.client.register(register_until_timeout(1, CASE)).await.unwrap_err();

    let registration = error.detail.unwrap().registration.unwrap();
    assert_eq!(registration.document_hash, document(1));
    let name = "registrar_confirmation_timeouts_total";
    let counted = async || {
        let page = stack.service.metrics().await;
        (page.value(name, &[]) == 1.0).then(|| page.traces(name, &[("cause", &error.metadata["cause"])]))
    };
    assert_eq!(eventually("the timeout", counted).await, BTreeSet::from([registration.trace_id]));
}
