//! Which traces are kept: all that went wrong, a share of what went well, and the same ones in both places.

use super::{CASE, Watched, with_headers};
use crate::harness::{
    Plan, Refusal, State, WaitFor, eventually,
    receivers::{Ids, Span},
    registering, until_late,
    wait::PATIENCE,
};
use futures_util::{StreamExt, stream};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

/// How many calls are under way at once.
const AT_ONCE: usize = 50;
/// How many registrations go well.
const GOOD: u64 = 2_000;
/// Of 2,000 traces, each kept with a chance of 1%, 20 are kept on average. To find fewer than 1 or more than 48 has a chance
/// of less than 1 in 10 million each (binomial distribution).
const KEPT_OF_GOOD: std::ops::RangeInclusive<usize> = 1..=48;

/// So many traces a second are kept because a caller says so, and as many at once after a pause.
const OF_CALLERS: u64 = 50;
/// A call that does not wait is kept when it takes longer, and a journey.
const SLOW_CALL: Duration = Duration::from_secs(2);
const SLOW_JOURNEY: Duration = Duration::from_secs(15);

/// Accepts so many documents, each in a trace of its own, and waits until all of them are confirmed; returns the traces.
async fn good(watched: &Watched, numbers: std::ops::Range<u64>) -> BTreeSet<String> {
    let client = &watched.stack.client;
    let accepted: Vec<_> =
        stream::iter(numbers).map(|number| client.accept(number, CASE)).buffer_unordered(AT_ONCE).collect().await;
    for registration in &accepted {
        client.reaches(&registration.id, State::Confirmed).await;
    }
    accepted.into_iter().map(|registration| registration.trace_id).collect()
}

/// The traces of which Sentry has the transaction of this operation.
fn kept(watched: &Watched, op: &str, of: &BTreeSet<String>) -> BTreeSet<String> {
    let spans = watched.sentry.spans().into_iter().filter(|span| span.op == op).map(|span| span.ids.trace);
    spans.filter(|trace| of.contains(trace)).collect()
}

/// The traces of which Sentry has a call or a journey that is kept because it took long or failed, as one does on a busy machine.
fn kept_for_what_they_are(watched: &Watched) -> BTreeSet<String> {
    let is_one = |span: &Span| match span.op.as_str() {
        "grpc.server" => span.status != "ok" || span.end - span.start >= SLOW_CALL,
        "blockchain.register" => span.status != "ok" || span.end - span.start >= SLOW_JOURNEY,
        _ => false,
    };
    watched.sentry.spans().into_iter().filter(is_one).map(|span| span.ids.trace).collect()
}

fn ids<'a>(spans: impl IntoIterator<Item = &'a Span>, of: &BTreeSet<String>) -> BTreeSet<Ids> {
    spans.into_iter().filter(|span| of.contains(&span.ids.trace)).map(|span| span.ids.clone()).collect()
}

/// Waits until both have the same spans of these traces.
async fn is_the_same_in_both(watched: &Watched, of: &BTreeSet<String>) {
    let what = "both to have the same";
    let same = async || {
        let (sentry, otlp) = (ids(&watched.sentry.spans(), of), ids(&watched.otlp.spans(), of));
        (sentry == otlp).then_some(())
    };
    if tokio::time::timeout(PATIENCE / 2, eventually(what, same)).await.is_err() {
        let (sentry, otlp) = (ids(&watched.sentry.spans(), of), ids(&watched.otlp.spans(), of));
        let differ: Vec<_> = sentry.symmetric_difference(&otlp).take(5).collect();
        panic!("Sentry has {} spans, the collector {}; among those that differ: {differ:#?}", sentry.len(), otlp.len());
    }
}

/// Stops the service, so that all that is to be told is told.
async fn end(watched: &mut Watched) {
    watched.stack.service.terminate();
    assert_eq!(watched.stack.service.exit_code().await, 0);
}

#[tokio::test]
async fn at_one_percent_all_failures_and_a_fair_share_of_the_rest_are_kept_and_the_same_in_both_places() {
    // Long enough for what goes well to be in time on a busy machine.
    let plan = Plan::block_time(0.2).set("REGISTRAR_CONFIRMATION_TIMEOUT", "8s");
    let mut watched = Watched::start_at(plan, 0.01).await;

    let good = good(&watched, 0..GOOD).await;
    watched.stack.anvil.stop_mining().await;
    let late: Vec<Refusal> = stream::iter(GOOD..GOOD + 100)
        .map(|number| watched.stack.client.register(until_late(number, CASE)))
        .buffer_unordered(100)
        .map(Result::unwrap_err)
        .collect()
        .await;
    assert!(late.iter().all(|refusal| refusal.reason == "CONFIRMATION_TIMEOUT"));
    let late: BTreeSet<String> = late.into_iter().map(|refusal| refusal.trace_id).collect();
    end(&mut watched).await;

    assert_eq!((good.len(), late.len()), (GOOD as usize, 100));
    let for_what_they_are = kept_for_what_they_are(&watched);
    for op in ["grpc.server", "blockchain.register"] {
        assert_eq!(kept(&watched, op, &late).len(), 100, "{op}: every failure is kept");
        let share = kept(&watched, op, &good).difference(&for_what_they_are).count();
        assert!(KEPT_OF_GOOD.contains(&share), "{op}: {share} of {GOOD} are kept");
    }
    let call = kept(&watched, "grpc.server", &good);
    assert_eq!(call, kept(&watched, "blockchain.register", &good), "a trace is kept whole or not at all");
    is_the_same_in_both(&watched, &good).await;
    is_the_same_in_both(&watched, &late).await;
}

#[tokio::test]
async fn at_zero_only_what_went_wrong_is_kept_with_its_own_rate() {
    let watched = Watched::start_at(Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s"), 0.0).await;
    let good = watched.stack.client.confirm(1, CASE).await;
    watched.stack.anvil.stop_mining().await;

    let late = watched.stack.client.register(until_late(2, CASE)).await.unwrap_err();

    watched.transaction("grpc.server", &late.trace_id).await;
    watched.transaction("blockchain.register", &late.trace_id).await;
    let envelopes = watched.sentry.envelopes();
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
        assert_eq!(trace["sample_rate"].as_str().unwrap().parse::<f64>().unwrap(), 1.0, "kept for what it is: {trace}");
        assert_eq!(trace["sampled"], "true");
    }
}

#[tokio::test]
async fn a_failure_takes_the_call_that_began_it_and_the_batch_that_carried_it_along() {
    let watched = Watched::start_at(Plan::on_demand().set("REGISTRAR_CONFIRMATION_TIMEOUT", "1s"), 0.0).await;
    watched.stack.anvil.stop_mining().await;

    // The call has ended well long before anything goes wrong.
    let accepted = watched.stack.client.accept(1, CASE).await;

    let call = watched.transaction("grpc.server", &accepted.trace_id).await;
    assert_eq!(call[0].status, "ok");
    let journey = watched.transaction("blockchain.register", &accepted.trace_id).await;
    assert_eq!(journey[0].status, "deadline_exceeded");
    let is_batch = |span: &Span| span.op == "blockchain.batch";
    let batch = watched.otlp.spans_where(1, "the batch", is_batch).await.remove(0);
    assert!(batch.links.iter().any(|link| link.trace == accepted.trace_id), "{batch:#?}");
    watched.is_told_to_both(&call).await;
    watched.is_told_to_both(&journey).await;
}

#[tokio::test]
async fn a_callers_decision_to_keep_a_trace_is_honoured_and_so_is_one_not_to() {
    let watched = Watched::start_at(Plan::on_demand(), 0.0).await;
    let header =
        |digit: &str, flag: &str| vec![("sentry-trace", format!("{}-{}-{flag}", digit.repeat(32), "1".repeat(16)))];
    let not_kept = with_headers(registering(1, CASE, WaitFor::Confirmed), &header("a", "0"));
    watched.stack.client.register(not_kept).await.unwrap();
    let kept = with_headers(registering(2, CASE, WaitFor::Confirmed), &header("b", "1"));

    watched.stack.client.register(kept).await.unwrap();

    let trace = "b".repeat(32);
    let call = watched.transaction("grpc.server", &trace).await;
    let journey = watched.transaction("blockchain.register", &trace).await;
    watched.is_told_to_both(&call).await;
    watched.is_told_to_both(&journey).await;
    let of_other = watched.sentry.spans().into_iter().filter(|span| span.ids.trace == "a".repeat(32)).count();
    assert_eq!(of_other, 0);
}

#[tokio::test]
async fn callers_who_want_everything_kept_get_a_bounded_share() {
    const CALLS: u64 = 2_000;
    let mut watched = Watched::start_at(Plan::block_time(0.2), 0.0).await;
    let client = &watched.stack.client;
    let calls = stream::iter(0..CALLS).map(async |number| {
        let header = [("traceparent", format!("00-{:032x}-{:016x}-01", number + 1, number + 1))];
        let request = with_headers(registering(number, CASE, WaitFor::Accepted), &header);
        client.register_traced(request).await.unwrap().trace_id
    });

    let begun = Instant::now();
    let traces: BTreeSet<_> = calls.buffer_unordered(AT_ONCE).collect().await;
    let took = begun.elapsed();
    end(&mut watched).await;

    let kept = kept(&watched, "grpc.server", &traces);
    let kept = kept.difference(&kept_for_what_they_are(&watched)).count();
    let most = usize::try_from((took.as_secs() + 2) * OF_CALLERS).unwrap();
    assert!(kept >= 1, "some are kept");
    assert!(kept <= most, "{kept} of {CALLS} calls in {took:?} are kept because the caller says so");
    is_the_same_in_both(&watched, &traces).await;
}
