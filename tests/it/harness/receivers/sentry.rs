//! A Sentry server that records the envelopes it receives.

use super::{
    behavior::{Behavior, Discarded, Receiver},
    encoding::Encoding,
    envelope::{self, Envelope, Item},
    received::Received,
    span::Span,
};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    routing::post,
};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use std::sync::Arc;

/// The public key of every DSN in the tests.
pub const DSN_KEY: &str = "5ec2e7a11b22c33d44e55f6600d5a0be";

pub struct SentryStore {
    receiver: Receiver,
    recorded: Arc<Recorded>,
}

#[derive(Default)]
struct Recorded {
    accepted: Received<Envelope>,
    discarded: Received<Envelope>,
    invalid: Received<String>,
}

impl SentryStore {
    pub fn start() -> Self {
        let recorded = Arc::<Recorded>::default();
        let router = Router::new().route("/api/{project}/envelope/", post(take)).layer(DefaultBodyLimit::disable());
        Self { receiver: Receiver::start(router.with_state(recorded.clone())), recorded }
    }

    pub fn dsn(&self) -> String {
        format!("http://{DSN_KEY}@{}/1", self.receiver.address)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.receiver.address
    }

    pub fn set_behavior(&self, behavior: Behavior) {
        self.receiver.set_behavior(behavior);
    }

    /// Accepted envelopes.
    pub fn envelopes(&self) -> Vec<Envelope> {
        self.assert_all_valid();
        self.recorded.accepted.inspect(<[_]>::to_vec)
    }

    /// Envelopes that arrived while the receiver accepted nothing.
    pub fn discarded(&self) -> Vec<Envelope> {
        self.assert_all_valid();
        self.recorded.discarded.inspect(<[_]>::to_vec)
    }

    /// Violations of the envelope specification. Every read of this store fails when there is one.
    pub fn invalid(&self) -> Vec<String> {
        self.recorded.invalid.inspect(<[_]>::to_vec)
    }

    pub fn transactions(&self) -> Vec<Value> {
        self.payloads("transaction")
    }

    /// Errors and messages.
    pub fn events(&self) -> Vec<Value> {
        self.payloads("event")
    }

    pub fn logs(&self) -> Vec<Value> {
        self.payloads("log").iter().flat_map(listed).collect()
    }

    /// Application metrics.
    pub fn metrics(&self) -> Vec<Value> {
        self.payloads("trace_metric").iter().flat_map(listed).collect()
    }

    /// The spans of all accepted transactions, including the transactions themselves.
    pub fn spans(&self) -> Vec<Span> {
        self.transactions().iter().flat_map(Span::of_transaction).collect()
    }

    /// Payloads of the accepted items of this kind.
    pub fn payloads(&self, kind: &str) -> Vec<Value> {
        self.assert_all_valid();
        self.recorded.accepted.inspect(|envelopes| of_kind(envelopes, kind).map(|item| item.payload.clone()).collect())
    }

    /// Waits for at least `count` matching transactions and returns all of them.
    pub async fn transactions_where(&self, count: usize, what: &str, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.payloads_where("transaction", count, what, is_it).await
    }

    /// Waits for the transaction with this operation and trace.
    pub async fn transaction(&self, op: &str, trace: &str) -> Value {
        let is_it = |seen: &Value| {
            let context = &seen["contexts"]["trace"];
            context["op"] == op && context["trace_id"] == trace
        };
        self.transactions_where(1, &format!("transaction {op} in trace {trace}"), is_it).await.remove(0)
    }

    /// Waits for at least `count` matching events and returns all of them.
    pub async fn events_where(&self, count: usize, what: &str, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.payloads_where("event", count, what, is_it).await
    }

    pub async fn event(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.events_where(1, what, is_it).await.remove(0)
    }

    pub async fn log(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.listed_where("log", what, is_it).await
    }

    pub async fn metric(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.listed_where("trace_metric", what, is_it).await
    }

    /// Waits until `check` finds something in the accepted envelopes.
    pub async fn until<R>(&self, what: &str, check: impl Fn(&[Envelope]) -> Option<R>) -> R {
        let seen = self.recorded.accepted.until(what, check).await;
        self.assert_all_valid();
        seen
    }

    /// Waits until `check` finds something in the envelopes that were not accepted.
    pub async fn until_discarded<R>(&self, what: &str, check: impl Fn(&[Envelope]) -> Option<R>) -> R {
        self.recorded.discarded.until(what, check).await
    }

    async fn payloads_where(&self, kind: &str, count: usize, what: &str, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let what = format!("{count} in Sentry of: {what}");
        self.until(&what, |envelopes| {
            let payloads = of_kind(envelopes, kind).map(|item| &item.payload);
            let all: Vec<_> = payloads.filter(|payload| is_it(payload)).cloned().collect();
            (all.len() >= count).then_some(all)
        })
        .await
    }

    async fn listed_where(&self, kind: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let find =
            |envelopes: &[Envelope]| of_kind(envelopes, kind).flat_map(|item| listed(&item.payload)).find(&is_it);
        self.until(&format!("a {kind} in Sentry: {what}"), find).await
    }

    fn assert_all_valid(&self) {
        let invalid = self.invalid();
        assert!(invalid.is_empty(), "violates the envelope specification: {invalid:?}");
    }
}

fn of_kind<'a>(envelopes: &'a [Envelope], kind: &'a str) -> impl Iterator<Item = &'a Item> {
    envelopes.iter().flat_map(|envelope| &envelope.items).filter(move |item| item.kind() == kind)
}

/// The entries of an item that is a list.
fn listed(payload: &Value) -> Vec<Value> {
    payload["items"].as_array().cloned().unwrap_or_default()
}

async fn take(
    State(recorded): State<Arc<Recorded>>,
    Path(project): Path<String>,
    discarded: Option<Extension<Discarded>>,
    http: HeaderMap,
    body: Bytes,
) -> StatusCode {
    match read(project, http, &body).await {
        Ok(envelope) => {
            let list = if discarded.is_some() { &recorded.discarded } else { &recorded.accepted };
            list.add([envelope]);
            StatusCode::OK
        }
        Err(problem) => {
            recorded.invalid.add([problem]);
            StatusCode::BAD_REQUEST
        }
    }
}

async fn read(project: String, http: HeaderMap, body: &[u8]) -> Result<Envelope, String> {
    let encoding = http.get("content-encoding").and_then(|value| value.to_str().ok());
    let encoding = Encoding::named(encoding).map_err(|name| format!("an encoding that is none: {name}"))?;
    let body = encoding.decode(body).await.map_err(|error| format!("not {}: {error}", encoding.name()))?;
    let auth = http.get("x-sentry-auth").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !auth.contains(&format!("sentry_key={DSN_KEY}")) {
        return Err(format!("no key in `X-Sentry-Auth: {auth}`"));
    }
    let (header, items) = envelope::parse(&body)?;
    Ok(Envelope { header, items, http, project })
}
