//! Fifty concurrent registrations, a fault that starts while they run, and checks of what the service logs and counts.

use super::{
    client::{CASE, document, register_request},
    proxy::{Proxy, leak},
    registry::registered_pairs,
    stack::{StackBuilder, TestStack},
    wait::{TEST_TIMEOUT, eventually},
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

/// The service's names for endpoints that share a host.
pub const ENDPOINT_1: &str = "127.0.0.1#1";
pub const ENDPOINT_2: &str = "127.0.0.1#2";
pub const ENDPOINT_3: &str = "127.0.0.1#3";
/// The service's name for an endpoint whose host no other has.
pub const SINGLE_ENDPOINT: &str = "127.0.0.1";

const REGISTRATIONS: u64 = 50;

pub struct LoadScenario {
    pub stack: TestStack,
    registered: Mutex<BTreeSet<u64>>,
}

/// An expected log line: level, message and some of its fields.
#[derive(Clone, Debug)]
pub struct LogLine {
    level: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

/// An endpoint's state became worse.
pub fn unhealthy(endpoint: &str) -> LogLine {
    LogLine::new("WARN", &format!("RPC endpoint {endpoint} unhealthy")).with("endpoint", endpoint)
}

pub fn healthy(endpoint: &str) -> LogLine {
    LogLine::new("INFO", &format!("RPC endpoint {endpoint} healthy"))
}

/// The primary changed to a less preferred endpoint.
pub fn failover(from: &str, to: &str) -> LogLine {
    LogLine::new("WARN", "RPC failover").with("from", from).with("to", to)
}

/// The primary changed back to a more preferred endpoint.
pub fn failback(to: &str) -> LogLine {
    LogLine::new("INFO", "RPC failover").with("to", to)
}

pub fn all_endpoints_unavailable() -> LogLine {
    LogLine::new("ERROR", "All RPC endpoints unavailable")
}

pub fn endpoints_available_again() -> LogLine {
    LogLine::new("INFO", "RPC endpoints available again")
}

impl LogLine {
    pub fn new(level: &'static str, message: &str) -> Self {
        Self { level, message: message.to_owned(), fields: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    fn matches(&self, line: &Value) -> bool {
        let fields = self.fields.iter().all(|(name, value)| line[*name] == *value);
        line["level"] == self.level && line["message"] == self.message.as_str() && fields
    }
}

impl LoadScenario {
    pub fn new(stack: TestStack) -> Self {
        Self { stack, registered: Mutex::default() }
    }

    /// Starts the stack and registers fifty documents concurrently. Once the first transactions have been sent to the
    /// primary, `inject` starts a fault and the second half of the callers follows. Every call has to return a
    /// confirmed registration. What `inject` returns, such as an injected fault, lives until then.
    pub async fn run_with_load<T>(builder: StackBuilder, inject: impl AsyncFnOnce(&Self) -> T) -> (Self, T) {
        let scenario = Self::new(builder.start().await);
        let injected = scenario.register_during(inject).await;
        (scenario, injected)
    }

    /// As [`Self::run_with_load`], on a stack that is already running.
    pub async fn register_during<T>(&self, inject: impl AsyncFnOnce(&Self) -> T) -> T {
        let any_sent = || self.stack.proxies().iter().any(|proxy| !proxy.sent().is_empty());
        let second_half = async {
            eventually("a transaction to be sent", async || any_sent().then_some(())).await;
            // `inject` is polled first, so the fault is active before the second half starts.
            tokio::join!(inject(self), self.register(REGISTRATIONS / 2..REGISTRATIONS)).0
        };
        let ((), injected) = tokio::join!(self.register(0..REGISTRATIONS / 2), second_half);
        self.assert_registered_once().await;
        injected
    }

    /// The proxy of the preferred endpoint.
    pub fn primary(&self) -> &Proxy {
        self.stack.proxy()
    }

    /// The proxy of the second endpoint.
    pub fn backup(&self) -> &Proxy {
        &self.stack.proxies()[1]
    }

    /// Registers these documents concurrently; each has to be confirmed.
    pub async fn register(&self, numbers: Range<u64>) {
        self.registered.lock().unwrap().extend(numbers.clone());
        let calls = numbers.map(async |number| {
            let answer = self.stack.client.register(register_request(number, CASE, WaitFor::Confirmed)).await;
            let registration = answer.unwrap_or_else(|error| panic!("document {number}: {error:?}"));
            assert_eq!(registration.state(), State::Confirmed, "document {number}");
            registration.transaction.unwrap()
        });
        for transaction in join_all(calls).await {
            let (block, reported) = (transaction.block_number.unwrap(), transaction.confirmations.unwrap_or_default());
            let head = self.stack.anvil.head().await;
            assert!(block + reported <= head + 1, "block {block} has {reported} confirmations at head {head}");
        }
    }

    /// Asserts that the chain has exactly what was registered here, each once.
    pub async fn assert_registered_once(&self) {
        let registered = self.registered.lock().unwrap().clone();
        let pairs = registered.into_iter().map(|number| (document(number), CASE.into()));
        self.stack.registry.assert_registered_exactly(pairs).await;
    }

    /// Waits until the log has these lines in this order; other lines may be between them.
    pub async fn expect_log(&self, lines: impl IntoIterator<Item = LogLine>) {
        let lines: Vec<LogLine> = lines.into_iter().collect();
        let mut matched = 0;
        let all_matched = async {
            eventually("the next line", async || {
                matched = matched_in_order(&lines, &self.stack.service.log());
                (matched == lines.len()).then_some(())
            })
            .await;
        };
        if tokio::time::timeout(TEST_TIMEOUT / 2, all_matched).await.is_err() {
            panic!("{:?} is missing in:\n{}", lines[matched], self.relevant_log());
        }
    }

    pub fn count(&self, line: &LogLine) -> usize {
        self.stack.service.log().iter().filter(|logged| line.matches(logged)).count()
    }

    pub fn assert_no_warning_for(&self, endpoint: &str) {
        assert_eq!(self.count(&unhealthy(endpoint)), 0, "{}", self.relevant_log());
    }

    /// How many calls failed over from one endpoint to another for this reason; `""` is any reason.
    pub async fn failover_count(&self, from: &str, to: &str, reason: &str) -> f64 {
        let labels = [("from", from), ("to", to), ("reason", reason)];
        let labels = if reason.is_empty() { &labels[..2] } else { &labels[..] };
        self.stack.service.metrics().await.value("registrar_rpc_failovers_total", labels)
    }

    /// Asserts that at least one call of this endpoint had this outcome: the fault was effective.
    pub async fn expect_call_outcome(&self, endpoint: &str, outcome: &str) {
        let labels = [("endpoint", endpoint), ("outcome", outcome)];
        let metrics = self.stack.service.metrics().await;
        let calls = metrics.value("registrar_rpc_request_duration_seconds_count", &labels);
        assert!(calls >= 1.0, "no call of {endpoint} has the outcome {outcome}");
    }

    /// An endpoint's state according to the metrics.
    pub async fn state(&self, endpoint: &str) -> String {
        let metrics = self.stack.service.metrics().await;
        let labels = [("endpoint", endpoint)];
        let current = metrics.all("registrar_rpc_endpoint_state", &labels).filter(|sample| sample.value == 1.0);
        let states: Vec<_> = current.map(|sample| sample.labels["state"].clone()).collect();
        assert_eq!(states.len(), 1, "{endpoint} has to be in exactly one state: {metrics:?}");
        states.into_iter().next().unwrap()
    }

    /// Waits until the metrics have an endpoint in this state.
    pub async fn wait_for_state(&self, endpoint: &str, state: &str) {
        let what = format!("{endpoint} to be {state}");
        eventually(&what, async || (self.state(endpoint).await == state).then_some(())).await;
    }

    /// The invariants that hold after every scenario: each document is registered once, no nonce is used for two
    /// transactions, the log is consistent, and the metrics expose no secret.
    pub async fn assert_invariants(self) {
        self.assert_registered_once().await;
        self.assert_nonces_not_reused();
        self.assert_log_consistent();
        let (_, metrics) = self.stack.service.http("/metrics").await;
        assert_eq!(leak(&metrics), None, "{metrics}");
    }

    /// Asserts that of two transactions that the service's one signer sent with the same nonce, one registers the first
    /// part of what the other one does: a replacement has the same documents, or a batch that no block included is cut.
    fn assert_nonces_not_reused(&self) {
        let mut sent: Vec<(u64, Vec<_>)> = Vec::new();
        for raw in self.stack.proxies().iter().flat_map(Proxy::sent) {
            let bytes: Bytes = raw.parse().unwrap();
            let transaction = TxEnvelope::decode_2718_exact(&bytes).unwrap();
            sent.push((transaction.nonce(), registered_pairs(transaction.input())));
        }
        sent.sort_by_key(|(nonce, pairs)| (*nonce, pairs.len()));
        for (shorter, longer) in sent.iter().zip(&sent[1..]).filter(|(a, b)| a.0 == b.0) {
            let is_part = longer.1.starts_with(&shorter.1) && shorter.1.is_empty() == longer.1.is_empty();
            assert!(is_part, "nonce {} is used for {:?} and for {:?}", shorter.0, shorter.1, longer.1);
        }
    }

    /// Asserts that the log is consistent: an endpoint is unhealthy before it is healthy again, each state is logged
    /// once, each failover starts at the endpoint where the previous one ended, and an outage ends before the next one
    /// starts.
    fn assert_log_consistent(&self) {
        let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let (mut primary, mut all_down) = (None, false);
        for line in self.stack.service.log() {
            let message = line["message"].as_str().unwrap_or_default();
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            if let Some(endpoint) = endpoint_in_message(message, "unhealthy") {
                let logged = states.entry(endpoint).or_default();
                let state = text("state");
                assert!(
                    ["suspect", "degraded", "throttled", "down", "quarantined"].contains(&state.as_str()),
                    "{line}"
                );
                assert!(logged.last() != Some(&state), "{line} is repeated:\n{}", self.relevant_log());
                for field in ["reason", "error"] {
                    assert!(!line[field].is_null(), "`{field}` is missing: {line}");
                }
                logged.push(state);
            } else if let Some(endpoint) = endpoint_in_message(message, "healthy") {
                let logged = states.remove(&endpoint).unwrap_or_default();
                assert!(!logged.is_empty(), "{line} without an unhealthy line before:\n{}", self.relevant_log());
                assert!(logged.contains(&text("from")), "{line} from a state it was not in:\n{}", self.relevant_log());
            } else if message == "RPC failover" {
                let from = primary.replace(text("to"));
                assert!(from.is_none_or(|from| from == text("from")), "{line}:\n{}", self.relevant_log());
                assert!(!text("reason").is_empty(), "no reason: {line}");
            } else if message == all_endpoints_unavailable().message || message == endpoints_available_again().message {
                let was_down = std::mem::replace(&mut all_down, message == all_endpoints_unavailable().message);
                assert_ne!(was_down, all_down, "{line} is repeated:\n{}", self.relevant_log());
            }
        }
    }

    /// The log lines about endpoints and the chain, and everything above INFO.
    fn relevant_log(&self) -> String {
        let relevant = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            (message.contains("RPC") || message.contains("chain") || line["level"] != "INFO").then(|| line.to_string())
        };
        self.stack.service.log().iter().filter_map(relevant).collect::<Vec<_>>().join("\n")
    }
}

/// How many of these lines the log has, in order.
fn matched_in_order(lines: &[LogLine], log: &[Value]) -> usize {
    let mut log = log.iter();
    lines.iter().take_while(|line| log.any(|logged| line.matches(logged))).count()
}

/// `healthy` does not match "unhealthy", because a space has to precede it.
fn endpoint_in_message(message: &str, state: &str) -> Option<String> {
    message.strip_prefix("RPC endpoint ")?.strip_suffix(state)?.strip_suffix(' ').map(str::to_owned)
}
