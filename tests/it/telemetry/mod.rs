//! What Sentry and a collector are told, by a service on a real node that tells both.

mod crowd;
mod endpoints;
mod events;
mod logs;
mod outage;
mod propagation;
mod restart;
mod sampling;
mod settings;
mod timeouts;
mod waterfall;

use crate::harness::{
    OtlpStore, Plan, Protocol, Registration, SentryStore, Stack, State,
    receivers::{Span, relay},
};
use serde_json::Value;
use tonic::Request;

const CASE: &str = "case-1";
const USER: &str = "user-7";

/// A service, and those whom it tells. The service goes first, so that nobody is missing to it at its end.
struct Watched {
    stack: Stack,
    sentry: SentryStore,
    otlp: OtlpStore,
}

impl Watched {
    /// A service that keeps everything.
    async fn start(plan: Plan) -> Self {
        Self::start_at(plan, 1.0).await
    }

    /// A service that keeps this share of what went well.
    async fn start_at(plan: Plan, rate: f64) -> Self {
        let (sentry, otlp) = (SentryStore::start(), OtlpStore::start());
        let stack = plan.sentry(&sentry).otlp(&otlp, Protocol::Grpc).sample_rate(rate).start().await;
        Self { stack, sentry, otlp }
    }

    /// Waits for the transactions of this operation in this trace, so many of them.
    async fn transactions(&self, op: &str, trace: &str, count: usize) -> Vec<Vec<Span>> {
        let what = format!("transaction {op} in trace {trace}");
        let all = self.sentry.transactions_where(count, &what, |seen| is(seen, op, trace)).await;
        all.iter().map(Span::of_transaction).collect()
    }

    /// Waits for the transaction of this operation in this trace; itself, and the spans below it.
    async fn transaction(&self, op: &str, trace: &str) -> Vec<Span> {
        let mut all = self.transactions(op, trace, 1).await;
        assert_eq!(all.len(), 1, "more than one {op}: {all:#?}");
        all.remove(0)
    }

    /// That the collector is told the same of these spans as Sentry.
    async fn is_told_to_both(&self, spans: &[Span]) {
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

    /// That Sentry finds nothing wrong with anything it was told.
    async fn sentry_finds_nothing(&self) {
        let (mut told, events) = (self.sentry.transactions(), self.sentry.events());
        told.extend(events);
        relay::finds_nothing(&told).await;
    }

    /// Makes one transaction of so many registrations, and waits until a node has it.
    async fn batch(&self, count: u64) -> Vec<Registration> {
        let Stack { client, anvil, .. } = &self.stack;
        let signer = crate::harness::account(1);
        anvil.set_balance(signer, 0).await;
        let accepted = futures_util::future::join_all((0..count).map(|number| client.accept(number, CASE))).await;
        let last = &accepted[accepted.len() - 1].id;
        let reason = "INSUFFICIENT_FUNDS";
        client.sees(last, reason, |registration| registration.blocked_reason == reason).await;
        anvil.stop_mining().await;
        anvil.set_balance(signer, 10_u128.pow(21)).await;
        let sent = client.reaches(last, State::Submitted).await;
        assert_eq!(u64::from(sent.transaction.unwrap().batch_size), count, "all in one transaction");
        accepted
    }
}

/// A service whose node mines nothing, and whose transactions are late after so many seconds.
async fn standstill(plan: Plan, late_after_seconds: u64) -> Watched {
    let plan = plan.set("REGISTRAR_CONFIRMATION_TIMEOUT", format!("{late_after_seconds}s"));
    let watched = Watched::start(plan).await;
    watched.stack.anvil.stop_mining().await;
    watched
}

/// Whether this is a transaction of this operation in this trace.
fn is(transaction: &Value, op: &str, trace: &str) -> bool {
    let context = &transaction["contexts"]["trace"];
    context["op"] == op && context["trace_id"] == trace
}

/// The words of an event that is no exception.
fn message(event: &Value) -> &str {
    let words = [&event["message"], &event["logentry"]["formatted"], &event["logentry"]["message"]];
    words.into_iter().find_map(Value::as_str).unwrap_or_default()
}

/// The type and the value of an event's exception.
fn exception(event: &Value) -> (&str, &str) {
    let last = event["exception"]["values"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
    (last["type"].as_str().unwrap_or_default(), last["value"].as_str().unwrap_or_default())
}

/// How bad an event is; nothing said is an error.
fn level(event: &Value) -> &str {
    event["level"].as_str().unwrap_or("error")
}

/// What happened before an event.
fn breadcrumbs(event: &Value) -> &[Value] {
    let crumbs = &event["breadcrumbs"];
    crumbs.as_array().or_else(|| crumbs["values"].as_array()).map(Vec::as_slice).unwrap_or_default()
}

/// A request with these headers.
fn with_headers<T>(message: T, headers: &[(&'static str, String)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// A span of a transaction.
fn part<'a>(spans: &'a [Span], op: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.op == op).collect();
    assert_eq!(found.len(), 1, "not one {op} in {spans:#?}");
    found[0]
}
