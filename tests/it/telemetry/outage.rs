//! Outages of Sentry and the collector: callers do not notice, and the service exits in time.

use super::{CASE, ObservedStack, exception, stalled_chain};
use crate::harness::{
    Behavior, Protocol, Reply, StackBuilder, State, receivers::DSN_KEY, register_until_timeout, wait::eventually,
};
use futures_util::future::join_all;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Limit of a call: far above a registration's time on a node that mines on demand, also on a busy machine, and below
/// every exporter timeout of 10 s or more.
const MAX_CALL_TIME: Duration = Duration::from_secs(9);
const GRACE: Duration = Duration::from_secs(6);
/// Tolerance for a busy machine; a service that waited for an exporter would exit later.
const EXIT_TOLERANCE: Duration = Duration::from_secs(9);

/// Registers documents sequentially and then concurrently; returns the slowest call's time.
async fn slowest(observed: &ObservedStack, from: u64) -> Duration {
    let timed = async |number: u64| {
        let started = Instant::now();
        observed.stack.client.confirm(number, CASE).await;
        started.elapsed()
    };
    let mut all = Vec::new();
    for number in from..from + 5 {
        all.push(timed(number).await);
    }
    all.extend(join_all((from + 5..from + 45).map(timed)).await);
    all.into_iter().max().unwrap()
}

/// Both receivers change to this behavior during the work.
async fn assert_outage_does_not_affect_calls(behavior: Behavior) {
    let mut observed = ObservedStack::start(StackBuilder::on_demand().set("REGISTRAR_SHUTDOWN_GRACE", "6s")).await;
    slowest(&observed, 0).await;

    observed.sentry.set_behavior(behavior.clone());
    observed.otlp.set_behavior(behavior);
    let slowest = slowest(&observed, 100).await;
    observed.stack.anvil.stop_mining().await;
    observed.stack.client.accept(1000, CASE).await;
    let started = Instant::now();
    observed.stack.service.terminate();

    assert!(slowest < MAX_CALL_TIME, "the slowest call took {slowest:?}");
    assert_eq!(observed.stack.service.exit_code().await, 0);
    assert!(started.elapsed() < GRACE + EXIT_TOLERANCE, "exited after {:?}", started.elapsed());
    let log = observed.stack.service.log();
    let errors: Vec<_> = log.iter().filter(|line| line["level"] == "ERROR").collect();
    assert!(errors.is_empty(), "a telemetry outage is logged as an error: {errors:#?}");
    for receiver in ["otlp", "sentry"] {
        let exported =
            log.iter().filter(|line| line["message"] == "telemetry export failing" && line["receiver"] == receiver);
        let count = exported.count();
        assert!(count <= 1, "{receiver}: logged {count} times");
    }
}

#[tokio::test]
async fn hanging_receivers_do_not_affect_calls() {
    assert_outage_does_not_affect_calls(Behavior::Hang).await;
}

/// Connections are established by the kernel and never accepted, so that no byte is read.
#[tokio::test]
async fn receivers_that_never_read_do_not_affect_calls_and_take_no_memory() {
    for protocol in Protocol::ALL {
        let [sentry, otlp] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
        let builder = StackBuilder::on_demand().set("SENTRY_DSN", format!("http://{DSN_KEY}@{}/1", address(&sentry)));
        let builder = builder.set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", address(&otlp)));
        let builder = builder.set("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name()).set("OTEL_BSP_SCHEDULE_DELAY", 100);
        let builder = builder.set("TRACE_SAMPLE_RATE", 1).set("REGISTRAR_SHUTDOWN_GRACE", "6s");
        let mut stack = builder.start().await;
        let resident = async || stack.service.metrics().await.value("process_resident_memory_bytes", &[]);
        stack.client.confirm(0, CASE).await;
        let before = resident().await;

        let timed = async |number: u64| {
            let started = Instant::now();
            stack.client.confirm(number, CASE).await;
            started.elapsed()
        };
        let slowest = join_all((1..300).map(timed)).await.into_iter().max().unwrap();
        let grown = resident().await - before;
        let started = Instant::now();
        stack.service.terminate();

        assert!(slowest < MAX_CALL_TIME, "{protocol:?}: the slowest call took {slowest:?}");
        assert!(grown < 64e6, "{protocol:?}: {grown} more bytes of memory");
        assert_eq!(stack.service.exit_code().await, 0);
        assert!(started.elapsed() < GRACE + EXIT_TOLERANCE, "{protocol:?}: exited after {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn unreachable_receivers_do_not_affect_calls() {
    assert_outage_does_not_affect_calls(Behavior::RefuseConnections).await;
}

#[tokio::test]
async fn slow_receivers_do_not_affect_calls() {
    assert_outage_does_not_affect_calls(Behavior::Slow(Duration::from_secs(2))).await;
}

#[tokio::test]
async fn failing_receivers_do_not_affect_calls() {
    assert_outage_does_not_affect_calls(Behavior::Reject(Reply::status(503))).await;
}

#[tokio::test]
async fn telemetry_is_delivered_after_an_outage() {
    let mut observed = ObservedStack::start(StackBuilder::on_demand()).await;
    observed.sentry.set_behavior(Behavior::RefuseConnections);
    observed.otlp.set_behavior(Behavior::RefuseConnections);
    observed.stack.client.confirm(1, CASE).await;
    for receiver in ["otlp", "sentry"] {
        let lost = |line: &Value| line["message"] == "telemetry export failing" && line["receiver"] == receiver;
        observed.stack.service.wait_for_log("the failed export", lost).await;
    }
    observed.sentry.set_behavior(Behavior::Accept);
    observed.otlp.set_behavior(Behavior::Accept);

    let later = observed.stack.client.confirm(2, CASE).await;

    let tree = observed.transaction("blockchain.register", &later.trace_id).await;
    observed.assert_in_both_receivers(&tree).await;
    for receiver in ["otlp", "sentry"] {
        for (level, words) in [("WARN", "telemetry export failing"), ("INFO", "telemetry export recovered")] {
            let is_it =
                |line: &Value| line["message"] == words && line["level"] == level && line["receiver"] == receiver;
            observed.stack.service.wait_for_log(words, is_it).await;
        }
    }
    assert_eq!(observed.sentry.events(), Vec::<Value>::new(), "a telemetry outage is an error event");
}

#[tokio::test]
async fn a_rate_limit_on_transactions_does_not_hold_errors_back() {
    let observed = stalled_chain(StackBuilder::on_demand(), 2).await;
    observed.stack.anvil.mine_on_demand().await;
    observed.sentry.set_behavior(Behavior::Reject(Reply::rate_limits("60:transaction:key")));
    observed.stack.client.confirm(1, CASE).await;
    let has = |kind: &'static str| {
        move |all: &[crate::harness::receivers::Envelope]| {
            all.iter().flat_map(|envelope| &envelope.items).find(|item| item.kind() == kind).map(|_| ())
        }
    };
    observed.sentry.until_discarded("a rejected transaction", has("transaction")).await;
    // The call, the registration trace and the batch are sent concurrently.
    let limited = [("target", "sentry"), ("outcome", "rate_limited")];
    let all = async || {
        let metrics = observed.stack.service.metrics().await;
        (metrics.value("registrar_telemetry_export_total", &limited) >= 3.0).then_some(())
    };
    eventually("all to be rejected or held back", all).await;
    observed.sentry.set_behavior(Behavior::Accept);

    observed.stack.anvil.stop_mining().await;
    let late = observed.stack.client.register(register_until_timeout(2, CASE)).await.unwrap_err();

    let is_it = |event: &Value| exception(event).0 == "TransactionTimeoutError";
    let event = observed.sentry.event("the error", is_it).await;
    assert_eq!(event["contexts"]["trace"]["trace_id"], late.registration().trace_id);
    observed.otlp.spans_where(1, "the call", |span| span.ids.trace == late.trace_id && span.op == "grpc.server").await;
    assert_eq!(observed.sentry.transactions(), Vec::<Value>::new(), "transactions were sent despite the rate limit");
}

#[tokio::test]
async fn a_rate_limit_on_everything_is_respected_and_ends() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    observed.sentry.set_behavior(Behavior::Reject(Reply::retry_after(2)));
    // Before the rejection that starts the limit, whose time only the service knows.
    let started = Instant::now();
    observed.stack.client.confirm(1, CASE).await;
    observed.sentry.until_discarded("a rejected envelope", |all| (!all.is_empty()).then_some(())).await;
    observed.sentry.set_behavior(Behavior::Accept);

    let mut numbers = 2..;
    let mut traces = Vec::new();
    let first = eventually("an accepted registration trace", async || {
        traces.push(observed.stack.client.confirm(numbers.next()?, CASE).await.trace_id);
        let of_ours = |seen: &Value| traces.iter().any(|trace| super::is(seen, "blockchain.register", trace));
        observed.sentry.transactions().into_iter().find(of_ours)
    })
    .await;

    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "accepted {:?} after the start of the limit, or earlier: {first}",
        started.elapsed()
    );
}

#[tokio::test]
async fn telemetry_of_unfinished_work_is_sent_at_shutdown() {
    let mut observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let confirmed = observed.stack.client.confirm(1, CASE).await;
    observed.stack.anvil.stop_mining().await;
    let waiting = observed.stack.client.accept(2, CASE).await;
    observed.stack.client.wait_for_state(&waiting.id, State::Submitted).await;

    observed.stack.service.terminate();
    assert_eq!(observed.stack.service.exit_code().await, 0);

    // Nothing arrives after the exit.
    for (op, trace) in [
        ("grpc.server", &confirmed.trace_id),
        ("blockchain.register", &confirmed.trace_id),
        ("grpc.server", &waiting.trace_id),
    ] {
        let in_sentry = observed.sentry.transactions().iter().any(|seen| super::is(seen, op, trace));
        let in_collector = observed.otlp.spans().iter().any(|span| span.op == op && span.ids.trace == *trace);
        assert!(in_sentry && in_collector, "{op} of {trace}: Sentry {in_sentry}, collector {in_collector}");
    }
}
