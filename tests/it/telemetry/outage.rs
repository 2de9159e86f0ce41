//! Sentry and the collector away, silent, slow or full: nobody who calls notices, and the service ends in time.

use super::{CASE, Watched, exception, standstill};
use crate::harness::{Mood, Plan, Reply, State, until_late, wait::eventually};
use futures_util::future::join_all;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// What nobody may wait for: far beyond a registration's time on a node that mines on demand, also on a busy machine, and below any
/// time-out of an exporter, which is 10 s and more.
const AT_ONCE: Duration = Duration::from_secs(9);
const GRACE: Duration = Duration::from_secs(6);
/// What a busy machine may take to end beyond the grace. Who waited for an exporter first would be later.
const TO_END: Duration = Duration::from_secs(9);

/// Registers documents one after the other, and then some at once; says how long the slowest took.
async fn slowest(watched: &Watched, from: u64) -> Duration {
    let timed = async |number: u64| {
        let began = Instant::now();
        watched.stack.client.confirm(number, CASE).await;
        began.elapsed()
    };
    let mut all = Vec::new();
    for number in from..from + 5 {
        all.push(timed(number).await);
    }
    all.extend(join_all((from + 5..from + 45).map(timed)).await);
    all.into_iter().max().unwrap()
}

/// Sentry and the collector are in this mood from the beginning, or from the middle of the work on.
async fn costs_nobody_anything(mood: Mood) {
    let mut watched = Watched::start(Plan::on_demand().set("REGISTRAR_SHUTDOWN_GRACE", "6s")).await;
    slowest(&watched, 0).await;

    watched.sentry.is(mood.clone());
    watched.otlp.is(mood);
    let slowest = slowest(&watched, 100).await;
    watched.stack.anvil.stop_mining().await;
    watched.stack.client.accept(1000, CASE).await;
    let began = Instant::now();
    watched.stack.service.terminate();

    assert!(slowest < AT_ONCE, "a call took {slowest:?}");
    assert_eq!(watched.stack.service.exit_code().await, 0);
    assert!(began.elapsed() < GRACE + TO_END, "it took {:?} to end", began.elapsed());
    let log = watched.stack.service.log();
    let errors: Vec<_> = log.iter().filter(|line| line["level"] == "ERROR").collect();
    assert!(errors.is_empty(), "telemetry's own trouble is no error of the service: {errors:#?}");
    for receiver in ["otlp", "sentry"] {
        let told =
            log.iter().filter(|line| line["message"] == "telemetry does not arrive" && line["receiver"] == receiver);
        let count = told.count();
        assert!(count <= 1, "{receiver}: said {count} times");
    }
}

#[tokio::test]
async fn receivers_that_hang_cost_nobody_anything() {
    costs_nobody_anything(Mood::Hangs).await;
}

#[tokio::test]
async fn receivers_that_nobody_listens_on_cost_nobody_anything() {
    costs_nobody_anything(Mood::Refuses).await;
}

#[tokio::test]
async fn receivers_that_are_slow_cost_nobody_anything() {
    costs_nobody_anything(Mood::Slow(Duration::from_secs(2))).await;
}

#[tokio::test]
async fn receivers_that_fail_cost_nobody_anything() {
    costs_nobody_anything(Mood::Answers(Reply::status(503))).await;
}

#[tokio::test]
async fn what_is_made_while_sentry_is_away_does_not_keep_what_comes_later_from_it() {
    let mut watched = Watched::start(Plan::on_demand()).await;
    watched.sentry.is(Mood::Refuses);
    watched.otlp.is(Mood::Refuses);
    watched.stack.client.confirm(1, CASE).await;
    for receiver in ["otlp", "sentry"] {
        let lost = |line: &Value| line["message"] == "telemetry does not arrive" && line["receiver"] == receiver;
        watched.stack.service.logged("the loss", lost).await;
    }
    watched.sentry.is(Mood::Takes);
    watched.otlp.is(Mood::Takes);

    let later = watched.stack.client.confirm(2, CASE).await;

    let journey = watched.transaction("blockchain.register", &later.trace_id).await;
    watched.is_told_to_both(&journey).await;
    for receiver in ["otlp", "sentry"] {
        for (level, words) in [("WARN", "telemetry does not arrive"), ("INFO", "telemetry arrives again")] {
            let is_it =
                |line: &Value| line["message"] == words && line["level"] == level && line["receiver"] == receiver;
            watched.stack.service.logged(words, is_it).await;
        }
    }
    assert_eq!(watched.sentry.events(), Vec::<Value>::new(), "and it is nobody's error");
}

#[tokio::test]
async fn a_limit_on_transactions_keeps_them_back_and_lets_errors_pass() {
    let watched = standstill(Plan::on_demand(), 2).await;
    watched.stack.anvil.mine_on_demand().await;
    watched.sentry.is(Mood::Answers(Reply::rate_limits("60:transaction:key")));
    watched.stack.client.confirm(1, CASE).await;
    let has = |kind: &'static str| {
        move |all: &[crate::harness::receivers::Envelope]| {
            all.iter().flat_map(|envelope| &envelope.items).find(|item| item.kind() == kind).map(|_| ())
        }
    };
    watched.sentry.until_not_taken("a transaction that is refused", has("transaction")).await;
    // The call, the journey and the batch: several are on their way at once.
    let limited = [("target", "sentry"), ("outcome", "rate_limited")];
    let all = async || {
        let metrics = watched.stack.service.metrics().await;
        (metrics.value("registrar_telemetry_export_total", &limited) >= 3.0).then_some(())
    };
    eventually("all are refused or held back", all).await;
    watched.sentry.is(Mood::Takes);

    watched.stack.anvil.stop_mining().await;
    let late = watched.stack.client.register(until_late(2, CASE)).await.unwrap_err();

    let is_it = |event: &Value| exception(event).0 == "TransactionTimeoutError";
    let event = watched.sentry.event("the error", is_it).await;
    assert_eq!(event["contexts"]["trace"]["trace_id"], late.registration().trace_id);
    watched.otlp.spans_where(1, "the call", |span| span.ids.trace == late.trace_id && span.op == "grpc.server").await;
    assert_eq!(watched.sentry.transactions(), Vec::<Value>::new(), "Sentry said it wants none for a minute");
}

#[tokio::test]
async fn a_limit_on_everything_is_honoured_and_ends() {
    let watched = Watched::start(Plan::on_demand()).await;
    watched.sentry.is(Mood::Answers(Reply::retry_after(2)));
    // Before the answer from which the limit counts, for when that comes nobody but the service sees.
    let begun = Instant::now();
    watched.stack.client.confirm(1, CASE).await;
    watched.sentry.until_not_taken("something that is refused", |all| (!all.is_empty()).then_some(())).await;
    watched.sentry.is(Mood::Takes);

    let mut numbers = 2..;
    let mut traces = Vec::new();
    let first = eventually("a journey that Sentry takes", async || {
        traces.push(watched.stack.client.confirm(numbers.next()?, CASE).await.trace_id);
        let of_ours = |seen: &Value| traces.iter().any(|trace| super::is(seen, "blockchain.register", trace));
        watched.sentry.transactions().into_iter().find(of_ours)
    })
    .await;

    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "it came {:?} after the limit was first told, or before that: {first}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn work_that_is_under_way_when_the_service_ends_is_told_as_far_as_it_came() {
    let mut watched = Watched::start(Plan::on_demand()).await;
    let confirmed = watched.stack.client.confirm(1, CASE).await;
    watched.stack.anvil.stop_mining().await;
    let waiting = watched.stack.client.accept(2, CASE).await;
    watched.stack.client.reaches(&waiting.id, State::Submitted).await;

    watched.stack.service.terminate();
    assert_eq!(watched.stack.service.exit_code().await, 0);

    // What is not here now will never come.
    for (op, trace) in [
        ("grpc.server", &confirmed.trace_id),
        ("blockchain.register", &confirmed.trace_id),
        ("grpc.server", &waiting.trace_id),
    ] {
        let here = watched.sentry.transactions().iter().any(|seen| super::is(seen, op, trace));
        let there = watched.otlp.spans().iter().any(|span| span.op == op && span.ids.trace == *trace);
        assert!(here && there, "{op} of {trace}: Sentry {here}, collector {there}");
    }
}
