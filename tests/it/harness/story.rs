//! Fifty registrations at once, something that goes wrong in their middle, and what the service tells of it.

use super::{
    client::{document, registering},
    proxy::{Proxy, leak},
    stack::{Plan, Stack},
    wait::eventually,
};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::Decodable2718,
    primitives::Bytes,
};
use futures_util::future::join_all;
use registrar::api::proto::{State, WaitFor};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Mutex,
};

/// What the service calls its endpoints, when they share a host.
pub const FIRST: &str = "127.0.0.1#1";
/// The second of them.
pub const SECOND: &str = "127.0.0.1#2";
/// The third of them.
pub const THIRD: &str = "127.0.0.1#3";
/// What it calls the only one.
pub const ONLY: &str = "127.0.0.1";

/// The case of every registration here.
pub const CASE: &str = "case-1";

/// How many registrations.
const COUNT: u64 = 50;

/// A stack, and what it has told so far.
pub struct Story {
    /// The stack.
    pub stack: Stack,
    registered: Mutex<BTreeSet<u64>>,
}

/// A line of the log, by what is looked for in it.
#[derive(Clone, Debug)]
pub struct Line {
    level: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

/// An endpoint is in a worse state than before.
pub fn unhealthy(endpoint: &str) -> Line {
    Line::new("WARN", &format!("RPC endpoint {endpoint} unhealthy")).with("endpoint", endpoint)
}

/// An endpoint is as it should be again.
pub fn healthy(endpoint: &str) -> Line {
    Line::new("INFO", &format!("RPC endpoint {endpoint} healthy"))
}

/// Another endpoint than before is asked first, a less preferred one.
pub fn failover(from: &str, to: &str) -> Line {
    Line::new("WARN", "RPC failover").with("from", from).with("to", to)
}

/// A preferred endpoint is asked first again.
pub fn return_to(to: &str) -> Line {
    Line::new("INFO", "RPC failover").with("to", to)
}

/// No endpoint is usable.
pub fn all_unavailable() -> Line {
    Line::new("ERROR", "All RPC endpoints unavailable")
}

/// One is, again.
pub fn available_again() -> Line {
    Line::new("INFO", "RPC endpoints available again")
}

impl Line {
    /// A line of this level with this message.
    pub fn new(level: &'static str, message: &str) -> Self {
        Self { level, message: message.to_owned(), fields: Vec::new() }
    }

    /// With this field.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    fn is(&self, line: &Value) -> bool {
        let fields = self.fields.iter().all(|(name, value)| line[*name] == *value);
        line["level"] == self.level && line["message"] == self.message.as_str() && fields
    }
}

impl Story {
    /// A story about a stack that runs.
    pub fn on(stack: Stack) -> Self {
        Self { stack, registered: Mutex::default() }
    }

    /// Starts the stack and registers fifty documents at once. When the first of them have gone to the primary, `trouble`
    /// begins, and the second half of the callers comes. Each has to be confirmed, and no call may fail. What `trouble`
    /// returns, such as a trap, is kept until then.
    pub async fn of<T>(plan: Plan, trouble: impl AsyncFnOnce(&Self) -> T) -> (Self, T) {
        let story = Self::on(plan.start().await);
        let kept = story.fifty(trouble).await;
        (story, kept)
    }

    /// The same, of a story that has begun.
    pub async fn fifty<T>(&self, trouble: impl AsyncFnOnce(&Self) -> T) -> T {
        let sent = || self.stack.proxies().iter().any(|proxy| !proxy.sent().is_empty());
        let middle = async {
            eventually("something to be sent", async || sent().then_some(())).await;
            // The trouble is looked at first: it has begun when the others come.
            tokio::join!(trouble(self), self.register(COUNT / 2..COUNT)).0
        };
        let ((), kept) = tokio::join!(self.register(0..COUNT / 2), middle);
        self.nothing_is_lost_or_there_twice().await;
        kept
    }

    /// What stands between the service and the node that is asked first.
    pub fn primary(&self) -> &Proxy {
        self.stack.proxy()
    }

    /// What stands between the service and the node that is asked when the first is no help.
    pub fn backup(&self) -> &Proxy {
        &self.stack.proxies()[1]
    }

    /// Registers these documents at once, each of which has to be confirmed.
    pub async fn register(&self, numbers: Range<u64>) {
        self.registered.lock().unwrap().extend(numbers.clone());
        let calls = numbers.map(async |number| {
            let answer = self.stack.client.register(registering(number, CASE, WaitFor::Confirmed)).await;
            let registration = answer.unwrap_or_else(|refusal| panic!("document {number}: {refusal:?}"));
            assert_eq!(registration.state(), State::Confirmed, "document {number}");
            registration.transaction.unwrap()
        });
        for transaction in join_all(calls).await {
            let (block, claimed) = (transaction.block_number.unwrap(), transaction.confirmations.unwrap_or_default());
            let head = self.stack.anvil.head().await;
            assert!(block + claimed <= head + 1, "block {block} is {claimed} deep, and the head is {head}");
        }
    }

    /// That the chain has what was registered here, and each once.
    pub async fn nothing_is_lost_or_there_twice(&self) {
        let registered = self.registered.lock().unwrap().clone();
        self.stack.registry.holds_exactly(registered.into_iter().map(|number| (document(number), CASE.into()))).await;
    }

    /// Waits until the log has these lines, in this order and maybe with others between.
    pub async fn tells(&self, lines: impl IntoIterator<Item = Line>) {
        let lines: Vec<Line> = lines.into_iter().collect();
        let mut told = 0;
        let what = async {
            eventually("the next line", async || {
                told = told_in_order(&lines, &self.stack.service.log());
                (told == lines.len()).then_some(())
            })
            .await;
        };
        if tokio::time::timeout(super::wait::PATIENCE / 2, what).await.is_err() {
            panic!("{:?} is missing in:\n{}", lines[told], self.chapter());
        }
    }

    /// How often the log has this line.
    pub fn count(&self, line: &Line) -> usize {
        self.stack.service.log().iter().filter(|seen| line.is(seen)).count()
    }

    /// That the log says nothing bad of this endpoint.
    pub fn nothing_bad_of(&self, endpoint: &str) {
        assert_eq!(self.count(&unhealthy(endpoint)), 0, "{}", self.chapter());
    }

    /// How many calls moved on from one endpoint to another, for this reason; `""` is any.
    pub async fn moved(&self, from: &str, to: &str, reason: &str) -> f64 {
        let labels = [("from", from), ("to", to), ("reason", reason)];
        let labels = if reason.is_empty() { &labels[..2] } else { &labels[..] };
        self.stack.service.metrics().await.value("registrar_rpc_failovers_total", labels)
    }

    /// That calls ended like this: the trouble was felt.
    pub async fn felt(&self, endpoint: &str, outcome: &str) {
        let labels = [("endpoint", endpoint), ("outcome", outcome)];
        let metrics = self.stack.service.metrics().await;
        let calls = metrics.value("registrar_rpc_request_duration_seconds_count", &labels);
        assert!(calls >= 1.0, "no call of {endpoint} ended with {outcome}");
    }

    /// The state of an endpoint, as the metrics have it.
    pub async fn state(&self, endpoint: &str) -> String {
        let metrics = self.stack.service.metrics().await;
        let labels = [("endpoint", endpoint)];
        let current = metrics.all("registrar_rpc_endpoint_state", &labels).filter(|sample| sample.value == 1.0);
        let states: Vec<_> = current.map(|sample| sample.labels["state"].clone()).collect();
        assert_eq!(states.len(), 1, "{endpoint} is in one state: {metrics:?}");
        states.into_iter().next().unwrap()
    }

    /// Waits until the metrics have an endpoint in this state.
    pub async fn becomes(&self, endpoint: &str, state: &str) {
        let what = format!("{endpoint} to be {state}");
        eventually(&what, async || (self.state(endpoint).await == state).then_some(())).await;
    }

    /// The end of every story: nothing is lost or there twice, what is told was told in order, and no secret was told.
    pub async fn ends(self) {
        self.nothing_is_lost_or_there_twice().await;
        self.no_nonce_is_used_twice();
        self.is_orderly();
        let (_, metrics) = self.stack.service.http("/metrics").await;
        assert_eq!(leak(&metrics), None, "{metrics}");
    }

    /// That all bytes that left the service for the same nonce of its one signer do the same.
    fn no_nonce_is_used_twice(&self) {
        let mut done = BTreeMap::new();
        for raw in self.stack.proxies().iter().flat_map(Proxy::sent) {
            let bytes: Bytes = raw.parse().unwrap();
            let sent = TxEnvelope::decode_2718_exact(&bytes).unwrap();
            let first = done.entry(sent.nonce()).or_insert_with(|| sent.input().clone());
            assert_eq!(first, sent.input(), "nonce {} is used for two different things", sent.nonce());
        }
    }

    /// That what the log says fits together: an endpoint is unwell before it is well again, and each state is said once; what is
    /// asked first is what was moved to before; and it is over with what was said once before it is said again.
    fn is_orderly(&self) {
        let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let (mut first, mut dark) = (None, false);
        for line in self.stack.service.log() {
            let message = line["message"].as_str().unwrap_or_default();
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            if let Some(endpoint) = told_of(message, "unhealthy") {
                let seen = states.entry(endpoint).or_default();
                let state = text("state");
                assert!(["suspect", "degraded", "down", "quarantined"].contains(&state.as_str()), "{line}");
                assert!(seen.last() != Some(&state), "{line} again:\n{}", self.chapter());
                for field in ["reason", "error"] {
                    assert!(!line[field].is_null(), "`{field}` is missing: {line}");
                }
                seen.push(state);
            } else if let Some(endpoint) = told_of(message, "healthy") {
                let seen = states.remove(&endpoint).unwrap_or_default();
                assert!(!seen.is_empty(), "{line} was not bad before:\n{}", self.chapter());
                assert!(seen.contains(&text("from")), "{line} was never in that state:\n{}", self.chapter());
            } else if message == "RPC failover" {
                let from = first.replace(text("to"));
                assert!(from.is_none_or(|from| from == text("from")), "{line}:\n{}", self.chapter());
                assert!(!text("reason").is_empty(), "no reason: {line}");
            } else if message == all_unavailable().message || message == available_again().message {
                let was = std::mem::replace(&mut dark, message == all_unavailable().message);
                assert_ne!(was, dark, "{line} again:\n{}", self.chapter());
            }
        }
    }

    /// What the log says of the endpoints and the chain.
    fn chapter(&self) -> String {
        let about = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            (message.contains("RPC") || message.contains("chain") || line["level"] != "INFO").then(|| line.to_string())
        };
        self.stack.service.log().iter().filter_map(about).collect::<Vec<_>>().join("\n")
    }
}

/// How many of these lines the log has, in order.
fn told_in_order(lines: &[Line], log: &[Value]) -> usize {
    let mut log = log.iter();
    lines.iter().take_while(|line| log.any(|seen| line.is(seen))).count()
}

fn told_of(message: &str, state: &str) -> Option<String> {
    message.strip_prefix("RPC endpoint ")?.strip_suffix(state)?.strip_suffix(' ').map(str::to_owned)
}
