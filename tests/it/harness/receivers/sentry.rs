//! Sentry, as far as it takes envelopes in: everything that comes is kept and can be awaited.

use super::{
    encoding::Encoding,
    envelope::{self, Envelope, Item},
    mood::{Mood, NotTaken, Receiver},
    seen::Seen,
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

/// The public key in every DSN here. Nobody may see it but Sentry.
pub const DSN_KEY: &str = "5ec2e7a11b22c33d44e55f6600d5a0be";

/// A running store.
pub struct SentryStore {
    receiver: Receiver,
    kept: Arc<Kept>,
}

#[derive(Default)]
struct Kept {
    taken: Seen<Envelope>,
    not_taken: Seen<Envelope>,
    wrong: Seen<String>,
}

impl SentryStore {
    /// Starts one that takes everything.
    pub fn start() -> Self {
        let kept = Arc::<Kept>::default();
        let router = Router::new().route("/api/{project}/envelope/", post(take)).layer(DefaultBodyLimit::disable());
        Self { receiver: Receiver::start(router.with_state(kept.clone())), kept }
    }

    /// Where the service is to send to.
    pub fn dsn(&self) -> String {
        format!("http://{DSN_KEY}@{}/1", self.receiver.address)
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.receiver.address
    }

    /// From now on it is in this mood.
    pub fn is(&self, mood: Mood) {
        self.receiver.is(mood);
    }

    /// What it has taken.
    pub fn envelopes(&self) -> Vec<Envelope> {
        self.nothing_is_wrong();
        self.kept.taken.look(<[_]>::to_vec)
    }

    /// What came while it took nothing.
    pub fn not_taken(&self) -> Vec<Envelope> {
        self.nothing_is_wrong();
        self.kept.not_taken.look(<[_]>::to_vec)
    }

    /// What is against the specification of envelopes among what came. Every look at this store fails for it.
    pub fn wrong(&self) -> Vec<String> {
        self.kept.wrong.look(<[_]>::to_vec)
    }

    /// The transactions it has taken.
    pub fn transactions(&self) -> Vec<Value> {
        self.payloads("transaction")
    }

    /// The events it has taken: errors and messages.
    pub fn events(&self) -> Vec<Value> {
        self.payloads("event")
    }

    /// The log lines it has taken.
    pub fn logs(&self) -> Vec<Value> {
        self.payloads("log").iter().flat_map(listed).collect()
    }

    /// The application metrics it has taken.
    pub fn metrics(&self) -> Vec<Value> {
        self.payloads("trace_metric").iter().flat_map(listed).collect()
    }

    /// The spans of every transaction it has taken, the transactions themselves among them.
    pub fn spans(&self) -> Vec<Span> {
        self.transactions().iter().flat_map(Span::of_transaction).collect()
    }

    /// The payloads of what it has taken of this kind.
    pub fn payloads(&self, kind: &str) -> Vec<Value> {
        self.nothing_is_wrong();
        self.kept.taken.look(|envelopes| of_kind(envelopes, kind).map(|item| item.payload.clone()).collect())
    }

    /// Waits for this many transactions of which this is true, and returns them all.
    pub async fn transactions_where(&self, count: usize, what: &str, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.payloads_where("transaction", count, what, is_it).await
    }

    /// Waits for the transaction with this operation in this trace.
    pub async fn transaction(&self, op: &str, trace: &str) -> Value {
        let is_it = |seen: &Value| {
            let context = &seen["contexts"]["trace"];
            context["op"] == op && context["trace_id"] == trace
        };
        self.transactions_where(1, &format!("transaction {op} in trace {trace}"), is_it).await.remove(0)
    }

    /// Waits for this many events of which this is true, and returns them all.
    pub async fn events_where(&self, count: usize, what: &str, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.payloads_where("event", count, what, is_it).await
    }

    /// Waits for an event of which this is true.
    pub async fn event(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.events_where(1, what, is_it).await.remove(0)
    }

    /// Waits for a log line of which this is true.
    pub async fn log(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.listed_where("log", what, is_it).await
    }

    /// Waits for an application metric of which this is true.
    pub async fn metric(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.listed_where("trace_metric", what, is_it).await
    }

    /// Waits until there is something to see among the envelopes it has taken.
    pub async fn until<R>(&self, what: &str, look: impl Fn(&[Envelope]) -> Option<R>) -> R {
        let seen = self.kept.taken.until(what, look).await;
        self.nothing_is_wrong();
        seen
    }

    /// Waits until there is something to see among the envelopes that it did not take.
    pub async fn until_not_taken<R>(&self, what: &str, look: impl Fn(&[Envelope]) -> Option<R>) -> R {
        self.kept.not_taken.until(what, look).await
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

    fn nothing_is_wrong(&self) {
        let wrong = self.wrong();
        assert!(wrong.is_empty(), "not as the specification has it: {wrong:?}");
    }
}

/// The items of this kind.
fn of_kind<'a>(envelopes: &'a [Envelope], kind: &'a str) -> impl Iterator<Item = &'a Item> {
    envelopes.iter().flat_map(|envelope| &envelope.items).filter(move |item| item.kind() == kind)
}

/// What an item lists that holds many of a kind.
fn listed(payload: &Value) -> Vec<Value> {
    payload["items"].as_array().cloned().unwrap_or_default()
}

async fn take(
    State(kept): State<Arc<Kept>>,
    Path(project): Path<String>,
    not_taken: Option<Extension<NotTaken>>,
    http: HeaderMap,
    body: Bytes,
) -> StatusCode {
    match read(project, http, &body).await {
        Ok(envelope) => {
            let list = if not_taken.is_some() { &kept.not_taken } else { &kept.taken };
            list.add([envelope]);
            StatusCode::OK
        }
        Err(problem) => {
            kept.wrong.add([problem]);
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
