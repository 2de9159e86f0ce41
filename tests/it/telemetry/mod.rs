//! Telemetry of a service on a real node, as Sentry and an OpenTelemetry collector receive it.

mod batch_calls;
mod delays;
mod endpoints;
mod events;
mod large_batches;
mod logs;
mod otlp;
mod outage;
mod propagation;
mod restart;
mod sampling;
mod settings;
mod timeouts;
mod waterfall;

use crate::harness::{
    CASE, OtlpStore, Protocol, Registration, SentryStore, StackBuilder, State, TestStack,
    receivers::{Span, sentry_relay},
};
use serde_json::Value;
use tonic::Request;

const USER: &str = "user-7";

/// A service with its receivers. It is dropped before them, so that it can send until its end.
struct ObservedStack {
    stack: TestStack,
    sentry: SentryStore,
    otlp: OtlpStore,
}

impl ObservedStack {
    /// Keeps all traces.
    async fn start(builder: StackBuilder) -> Self {
        Self::start_at(builder, 1.0).await
    }

    /// Keeps this share of the traces without a failure.
    async fn start_at(builder: StackBuilder, rate: f64) -> Self {
        let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
        let stack = builder.sentry(&sentry).otlp(&otlp, Protocol::Grpc).sample_rate(rate).start().await;
        Self { stack, sentry, otlp }
    }

    /// Waits for this many Sentry transactions of this operation and trace; each is a list of its spans.
    async fn transactions(&self, op: &str, trace: &str, count: usize) -> Vec<Vec<Span>> {
        let what = format!("transaction {op} in trace {trace}");
        let all = self.sentry.transactions_where(count, &what, |seen| is(seen, op, trace)).await;
        all.iter().map(Span::of_transaction).collect()
    }

    /// Waits for the only Sentry transaction of this operation and trace; returns its spans.
    async fn transaction(&self, op: &str, trace: &str) -> Vec<Span> {
        let mut all = self.transactions(op, trace, 1).await;
        assert_eq!(all.len(), 1, "not exactly one {op}: {all:#?}");
        all.remove(0)
    }

    /// Asserts that the collector has the same spans as Sentry.
    async fn assert_in_both_receivers(&self, spans: &[Span]) {
        for span in spans {
            let other = self.otlp.span(&span.ids.trace, &span.ids.span).await;
            assert_eq!(other.ids.parent, span.ids.parent, "{span:#?}\n{other:#?}");
            assert_eq!(other.name, span.name, "{span:#?}\n{other:#?}");
            assert_eq!(other.op, span.op, "{span:#?}\n{other:#?}");
            for (key, value) in &span.data {
                assert_eq!(other.get(key), value, "{key} in {span:#?}\n{other:#?}");
            }
            for (here, there) in [(span.start, other.start), (span.end, other.end)] {
                assert!(here.abs_diff(there).as_millis() <= 1, "{span:#?}\n{other:#?}");
            }
        }
    }

    /// Asserts that Sentry would accept everything that it received.
    async fn assert_sentry_accepts(&self) {
        let (mut received, events) = (self.sentry.transactions(), self.sentry.events());
        received.extend(events);
        sentry_relay::assert_accepted(&received).await;
    }

    /// Creates one transaction with this many registrations and waits until it is submitted.
    async fn batch(&self, count: u64) -> Vec<Registration> {
        let TestStack { client, anvil, .. } = &self.stack;
        let signer = crate::harness::account(1);
        anvil.set_balance(signer, 0).await;
        let accepted = futures_util::future::join_all((0..count).map(|number| client.accept(number, CASE))).await;
        let last = &accepted[accepted.len() - 1].id;
        let reason = "INSUFFICIENT_FUNDS";
        client.wait_until(last, reason, |registration| registration.blocked_reason == reason).await;
        anvil.stop_mining().await;
        anvil.set_balance(signer, 10_u128.pow(21)).await;
        let sent = client.wait_for_state(last, State::Submitted).await;
        assert_eq!(u64::from(sent.transaction.unwrap().batch_size), count, "not all in one transaction");
        accepted
    }
}

/// A service whose node mines nothing, with this confirmation timeout.
async fn stalled_chain(builder: StackBuilder, late_after_seconds: u64) -> ObservedStack {
    let builder = builder.set("REGISTRAR_CONFIRMATION_TIMEOUT", format!("{late_after_seconds}s"));
    let observed = ObservedStack::start(builder).await;
    observed.stack.anvil.stop_mining().await;
    observed
}

/// Whether this is a Sentry transaction of this operation and trace.
fn is(transaction: &Value, op: &str, trace: &str) -> bool {
    let context = &transaction["contexts"]["trace"];
    context["op"] == op && context["trace_id"] == trace
}

/// The message of an event without an exception.
fn message(event: &Value) -> &str {
    let words = [&event["message"], &event["logentry"]["formatted"], &event["logentry"]["message"]];
    words.into_iter().find_map(Value::as_str).unwrap_or_default()
}

/// Type and value of an event's exception.
fn exception(event: &Value) -> (&str, &str) {
    let last = event["exception"]["values"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
    (last["type"].as_str().unwrap_or_default(), last["value"].as_str().unwrap_or_default())
}

/// Sentry treats a missing level as error.
fn level(event: &Value) -> &str {
    event["level"].as_str().unwrap_or("error")
}

fn breadcrumbs(event: &Value) -> &[Value] {
    let crumbs = &event["breadcrumbs"];
    crumbs.as_array().or_else(|| crumbs["values"].as_array()).map(Vec::as_slice).unwrap_or_default()
}

fn with_headers<T>(message: T, headers: &[(&'static str, String)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// The only span with this operation.
fn part<'a>(spans: &'a [Span], op: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.op == op).collect();
    assert_eq!(found.len(), 1, "not exactly one {op} in {spans:#?}");
    found[0]
}
