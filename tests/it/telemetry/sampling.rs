//! Sampling: all failures, a share of the rest, and the same traces in both receivers.

use super::{CASE, ObservedStack, with_headers};
use crate::harness::{
    CallError, StackBuilder, State, WaitFor, eventually,
    receivers::{Ids, Span},
    register_request, register_until_timeout,
    wait::TEST_TIMEOUT,
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// Concurrent calls.
const CONCURRENT_CALLS: usize = 50;
/// Registrations without a failure.
const SUCCESSFUL: u64 = 2_000;
/// Of 2,000 traces sampled at 1%, 20 are kept on average. Fewer than 1 or more than 48 has a probability below 1 in 10
/// million each (binomial distribution).
const EXPECTED_SAMPLES: std::ops::RangeInclusive<usize> = 1..=48;

/// Traces per second that are kept because a caller requests it, and the burst after a pause.
const CALLER_SAMPLES_PER_SECOND: u64 = 50;
/// Slower calls and registrations are always kept.
const SLOW_CALL: Duration = Duration::from_secs(2);
const SLOW_REGISTRATION: Duration = Duration::from_secs(15);

/// Registers documents, each in its own trace, waits until all are confirmed, and returns the trace ids.
async fn register_successfully(observed: &ObservedStack, numbers: std::ops::Range<u64>) -> BTreeSet<String> {
    let client = &observed.stack.client;
    let accepted: Vec<_> = stream::iter(numbers)
        .map(|number| client.accept(number, CASE))
        .buffer_unordered(CONCURRENT_CALLS)
        .collect()
        .await;
    for registration in &accepted {
        client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    accepted.into_iter().map(|registration| registration.trace_id).collect()
}

/// Those of the traces whose transaction of this operation Sentry has.
fn traces_in_sentry(observed: &ObservedStack, op: &str, of: &BTreeSet<String>) -> BTreeSet<String> {
    let spans = observed.sentry.spans().into_iter().filter(|span| span.op == op).map(|span| span.ids.trace);
    spans.filter(|trace| of.contains(trace)).collect()
}

/// The traces that are always kept because a call or registration was slow or failed, which happens on a busy machine.
fn always_kept_traces(observed: &ObservedStack) -> BTreeSet<String> {
    let is_one = |span: &Span| match span.op.as_str() {
        "grpc.server" => span.status != "ok" || span.end - span.start >= SLOW_CALL,
        "blockchain.register" => span.status != "ok" || span.end - span.start >= SLOW_REGISTRATION,
        _ => false,
    };
    observed.sentry.spans().into_iter().filter(is_one).map(|span| span.ids.trace).collect()
}

fn ids<'a>(spans: impl IntoIterator<Item = &'a Span>, of: &BTreeSet<String>) -> BTreeSet<Ids> {
    spans.into_iter().filter(|span| of.contains(&span.ids.trace)).map(|span| span.ids.clone()).collect()
}

/// Waits until both receivers have the same spans of these traces.
async fn assert_same_in_both(observed: &ObservedStack, of: &BTreeSet<String>) {
    let what = "both receivers to have the same spans";
    let same = async || {
        let (sentry, otlp) = (ids(&observed.sentry.spans(), of), ids(&observed.otlp.spans(), of));
        (sentry == otlp).then_some(())
    };
    if tokio::time::timeout(TEST_TIMEOUT / 2, eventually(what, same)).await.is_err() {
        let (sentry, otlp) = (ids(&observed.sentry.spans(), of), ids(&observed.otlp.spans(), of));
        let differ: Vec<_> = sentry.symmetric_difference(&otlp).take(5).collect();
        panic!("Sentry has {} spans, the collector {}; differences include: {differ:#?}", sentry.len(), otlp.len());
    }
}

/// Stops the service, which sends all telemetry before it exits.
async fn stop(observed: &mut ObservedStack) {
    observed.stack.service.terminate();
    assert_eq!(observed.stack.service.exit_code().await, 0);
}

#[tokio::test]
async fn at_one_percent_all_failures_and_a_sample_of_the_rest_are_kept_in_both_receivers() {
    // Long enough for successful registrations on a busy machine.
    let builder = StackBuilder::block_time(0.2).set("REGISTRAR_CONFIRMATION_TIMEOUT", "8s");
    let mut observed = ObservedStack::start_at(builder, 0.01).await;

    let successful = register_successfully(&observed, 0..SUCCESSFUL).await;
    observed.stack.anvil.stop_mining().await;
    let late: Vec<CallError> = stream::iter(SUCCESSFUL..SUCCESSFUL + 100)
        .map(|number| observed.stack.client.register(register_until_timeout(number, CASE)))
        .buffer_unordered(100)
        .map(Result::unwrap_err)
        .collect()
        .await;
    assert!(late.iter().all(|error| error.reason == "CONFIRMATION_TIMEOUT"));
    let late: BTreeSet<String> = late.into_iter().map(|error| error.trace_id).collect();
    stop(&mut observed).await;

    assert_eq!((successful.len(), late.len()), (SUCCESSFUL as usize, 100));
    let always_kept = always_kept_traces(&observed);
    for op in ["grpc.server", "blockchain.register"] {
        assert_eq!(traces_in_sentry(&observed, op, &late).len(), 100, "{op}: not every failure is kept");
        let share = traces_in_sentry(&observed, op, &successful).difference(&always_kept).count();
        assert!(EXPECTED_SAMPLES.contains(&share), "{op}: {share} of {SUCCESSFUL} are kept");
    }
    let call = traces_in_sentry(&observed, "grpc.server", &successful);
    assert_eq!(call, traces_in_sentry(&observed, "blockchain.register", &successful), "a trace is kept partially");
    assert_same_in_both(&observed, &successful).await;
    assert_same_in_both(&observed, &late).await;
}

#[tokio::test]
async fn at_zero_only_failures_are_kept_with_sample_rate_one() {
    let observed =
        ObservedStack::start_at(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s"), 0.0).await;
    let good = observed.stack.client.confirm(1, CASE).await;
    observed.stack.anvil.stop_mining().await;

    let late = observed.stack.client.register(register_until_timeout(2, CASE)).await.unwrap_err();

    observed.transaction("grpc.server", &late.trace_id).await;
    observed.transaction("blockchain.register", &late.trace_id).await;
    let envelopes = observed.sentry.envelopes();
    let of = |trace: &str| {
        let is_it = |envelope: &&crate::harness::receivers::Envelope| envelope.header["trace"]["trace_id"] == trace;
        envelopes.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    assert!(of(&good.trace_id).is_empty());
    let kept: Vec<_> =
        of(&late.trace_id).into_iter().filter(|envelope| envelope.items[0].kind() == "transaction").collect();
    assert_eq!(kept.len(), 2);
    for envelope in kept {
        let trace = &envelope.header["trace"];
        assert_eq!(trace["sample_rate"].as_str().unwrap().parse::<f64>().unwrap(), 1.0, "not always kept: {trace}");
        assert_eq!(trace["sampled"], "true");
    }
}

#[tokio::test]
async fn a_failure_keeps_its_call_and_its_batch() {
    let observed =
        ObservedStack::start_at(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s"), 0.0).await;
    observed.stack.anvil.stop_mining().await;

    // The call succeeded long before the failure.
    let accepted = observed.stack.client.accept(1, CASE).await;

    let call = observed.transaction("grpc.server", &accepted.trace_id).await;
    assert_eq!(call[0].status, "ok");
    let tree = observed.transaction("blockchain.register", &accepted.trace_id).await;
    assert_eq!(tree[0].status, "deadline_exceeded");
    let is_batch = |span: &Span| span.op == "blockchain.batch";
    let batch = observed.otlp.spans_where(1, "the batch", is_batch).await.remove(0);
    assert!(batch.links.iter().any(|link| link.trace == accepted.trace_id), "{batch:#?}");
    observed.assert_in_both_receivers(&call).await;
    observed.assert_in_both_receivers(&tree).await;
}

#[tokio::test]
async fn a_callers_sampling_decision_is_respected() {
    let observed = ObservedStack::start_at(StackBuilder::on_demand(), 0.0).await;
    let header =
        |digit: &str, flag: &str| vec![("sentry-trace", format!("{}-{}-{flag}", digit.repeat(32), "1".repeat(16)))];
    let not_sampled = with_headers(register_request(1, CASE, WaitFor::Confirmed), &header("a", "0"));
    observed.stack.client.register(not_sampled).await.unwrap();
    let sampled = with_headers(register_request(2, CASE, WaitFor::Confirmed), &header("b", "1"));

    observed.stack.client.register(sampled).await.unwrap();

    let trace = "b".repeat(32);
    let call = observed.transaction("grpc.server", &trace).await;
    let tree = observed.transaction("blockchain.register", &trace).await;
    observed.assert_in_both_receivers(&call).await;
    observed.assert_in_both_receivers(&tree).await;
    let of_other = observed.sentry.spans().into_iter().filter(|span| span.ids.trace == "a".repeat(32)).count();
    assert_eq!(of_other, 0);
}

#[tokio::test]
async fn callers_sampling_requests_are_rate_limited() {
    const CALLS: u64 = 2_000;
    let mut observed = ObservedStack::start_at(StackBuilder::block_time(0.2), 0.0).await;
    let client = &observed.stack.client;
    let calls = stream::iter(0..CALLS).map(async |number| {
        let header = [("traceparent", format!("00-{:032x}-{:016x}-01", number + 1, number + 1))];
        let request = with_headers(register_request(number, CASE, WaitFor::Accepted), &header);
        client.register_traced(request).await.unwrap().trace_id
    });

    let started = Instant::now();
    let traces: BTreeSet<_> = calls.buffer_unordered(CONCURRENT_CALLS).collect().await;
    let took = started.elapsed();
    stop(&mut observed).await;

    let kept = traces_in_sentry(&observed, "grpc.server", &traces);
    let kept = kept.difference(&always_kept_traces(&observed)).count();
    let max = usize::try_from((took.as_secs() + 2) * CALLER_SAMPLES_PER_SECOND).unwrap();
    assert!(kept >= 1, "no trace is kept");
    assert!(kept <= max, "{kept} of {CALLS} calls in {took:?} are kept because callers request it");
    assert_same_in_both(&observed, &traces).await;
}
