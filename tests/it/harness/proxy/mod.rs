//! A JSON-RPC proxy in front of a node. It records calls and injects faults, so that a test can act between two steps
//! of the service.

mod fault;
mod heads;
mod node;
pub mod node_errors;
mod serve;
mod shapes;

pub use fault::{Fault, HttpAnswer};
pub use shapes::Shape;

use super::listener::PausableListener;
use hyper::HeaderMap;
use node::Node;
use serde_json::Value;
use serve::serve;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

/// Secret parts of [`Proxy::secret_url`], which must never be exposed.
pub const SECRETS: [&str; 4] = ["us3r", "passw0rd", "k3y-in-path", "k3y-in-query"];

/// The part of a proxy's URL that `text` exposes. The bare host is not a secret, because node error messages repeat it;
/// the scheme and host together show that an endpoint's URL was exposed.
pub fn leak(text: &str) -> Option<&'static str> {
    SECRETS.into_iter().chain(["http://127.0.0.1:"]).find(|secret| text.contains(secret))
}

pub struct Proxy {
    address: String,
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// A fault that is active until it is released or dropped.
pub struct InjectedFault {
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
pub struct RecordedCall {
    pub at: Instant,
    pub call: Value,
    pub headers: HeaderMap,
}

struct Shared {
    node: Node,
    calls: Mutex<Vec<RecordedCall>>,
    rules: Mutex<Vec<Arc<Rule>>>,
    /// Number of active rules that refuse connections.
    refusing: watch::Sender<usize>,
}

struct Rule {
    /// `None` matches every method.
    method: Option<String>,
    /// Matches calls with this text in their parameters; the empty text matches all.
    about: String,
    fault: Fault,
    requests: AtomicU64,
    hits: watch::Sender<Vec<Value>>,
    released: watch::Sender<bool>,
    /// For [`Fault::PreviousAnswer`].
    previous: Mutex<Option<Value>>,
}

impl Proxy {
    /// Starts a proxy in front of the node at `upstream`.
    pub async fn before(upstream: &str) -> Self {
        let listener = PausableListener::bind();
        let address = listener.address.to_string();
        let shared = Arc::new(Shared {
            node: Node::at(upstream),
            calls: Mutex::default(),
            rules: Mutex::default(),
            refusing: watch::Sender::new(0),
        });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Self { url: format!("http://{address}"), address, shared, task }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL with all [`SECRETS`] that a provider's URL may contain.
    pub fn secret_url(&self) -> String {
        let [user, password, path, query] = SECRETS;
        format!("http://{user}:{password}@{}/v2/{path}?key={query}", self.address)
    }

    /// Injects a fault into calls of this method.
    pub fn inject(&self, method: &str, fault: Fault) -> InjectedFault {
        self.add(Some(method.to_owned()), "", fault)
    }

    /// Injects a fault into calls of this method whose parameters contain this text.
    pub fn inject_matching(&self, method: &str, about: &str, fault: Fault) -> InjectedFault {
        self.add(Some(method.to_owned()), about, fault)
    }

    /// Injects a fault into every call.
    pub fn inject_all(&self, fault: Fault) -> InjectedFault {
        self.add(None, "", fault)
    }

    /// Repeats: a fault in every call for `time`, then none for `time`.
    pub async fn flap(&self, fault: Fault, time: Duration, times: usize) {
        for _ in 0..times {
            self.inject_all(fault).hold_for(time).await;
            tokio::time::sleep(time).await;
        }
    }

    pub fn count(&self, method: &str) -> u64 {
        self.calls(method).len() as u64
    }

    /// Number of calls by method.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for seen in self.shared.calls.lock().unwrap().iter() {
            *counts.entry(seen.call["method"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Calls of this method, including those with a fault.
    pub fn calls(&self, method: &str) -> Vec<RecordedCall> {
        let seen = self.shared.calls.lock().unwrap();
        seen.iter().filter(|seen| seen.call["method"] == method).cloned().collect()
    }

    /// All calls, including those with a fault.
    pub fn all(&self) -> Vec<RecordedCall> {
        self.shared.calls.lock().unwrap().clone()
    }

    pub fn times(&self) -> Vec<Instant> {
        self.shared.calls.lock().unwrap().iter().map(|seen| seen.at).collect()
    }

    /// Signed transactions that were sent here, in order, including those with a fault.
    pub fn sent(&self) -> Vec<String> {
        let bytes = |seen: RecordedCall| seen.call["params"][0].as_str().unwrap().to_owned();
        self.calls("eth_sendRawTransaction").into_iter().map(bytes).collect()
    }

    fn add(&self, method: Option<String>, about: &str, fault: Fault) -> InjectedFault {
        assert!(
            fault != Fault::RefuseConnections || method.is_none(),
            "a connection is refused before its calls are known"
        );
        let rule = Arc::new(Rule {
            method,
            about: about.to_owned(),
            fault,
            requests: AtomicU64::new(0),
            hits: watch::Sender::new(Vec::new()),
            released: watch::Sender::new(false),
            previous: Mutex::default(),
        });
        self.shared.rules.lock().unwrap().push(rule.clone());
        if fault == Fault::RefuseConnections {
            self.shared.refusing.send_modify(|rules| *rules += 1);
        }
        InjectedFault { rule, shared: self.shared.clone() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl InjectedFault {
    /// Waits for the first call whose fault has taken effect: before the node for a request, after it for an answer.
    /// For [`Fault::RefuseConnections`] it returns null once connections are refused.
    pub async fn until_hit(&self) -> Value {
        let mut caught = self.rule.hits.subscribe();
        let what = format!("a call of {} to be caught", self.rule.method.as_deref().unwrap_or("any method"));
        let calls = super::wait::within(&what, caught.wait_for(|calls| !calls.is_empty())).await.unwrap();
        calls[0].clone()
    }

    /// Number of calls whose fault has taken effect.
    pub fn hits(&self) -> usize {
        self.rule.hits.borrow().len()
    }

    /// Keeps the fault active for `time`. The duration is part of the fault, not a wait for something.
    pub async fn hold_for(self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Keeps the fault active until its first hit and for `time` after it.
    pub async fn hold_after_first_hit(self, time: Duration) {
        self.until_hit().await;
        self.hold_for(time).await;
    }

    /// Ends the fault and lets held calls continue.
    pub fn release(self) {}
}

impl Drop for InjectedFault {
    fn drop(&mut self) {
        self.shared.rules.lock().unwrap().retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        if self.rule.fault == Fault::RefuseConnections {
            self.shared.refusing.send_modify(|rules| *rules -= 1);
        }
        self.rule.released.send_replace(true);
    }
}

impl Rule {
    fn catches(&self, call: &Value) -> bool {
        let method = self.method.as_deref().is_none_or(|method| call["method"] == method);
        method && call["params"].to_string().contains(&self.about)
    }

    fn record_hit(&self, calls: &[Value]) {
        let caught = calls.iter().filter(|call| self.catches(call)).cloned();
        self.hits.send_modify(|all| all.extend(caught));
    }

    /// The number of this request among the matched ones, from 1.
    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn release(&self) {
        // The sender lives as long as this rule.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}

impl Shared {
    fn record(&self, calls: &[Value], headers: &HeaderMap) {
        let at = Instant::now();
        let seen = calls.iter().map(|call| RecordedCall { at, call: call.clone(), headers: headers.clone() });
        self.calls.lock().unwrap().extend(seen);
    }

    fn calls_of_the_last_second(&self) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().rev().take_while(|seen| seen.at.elapsed() < Duration::from_secs(1)).count()
    }

    fn rule_for(&self, calls: &[Value]) -> Option<Arc<Rule>> {
        let rules = self.rules.lock().unwrap();
        rules.iter().find(|rule| calls.iter().any(|call| rule.catches(call))).cloned()
    }

    fn on_connections_refused(&self) {
        let rules = self.rules.lock().unwrap();
        for rule in rules.iter().filter(|rule| rule.fault == Fault::RefuseConnections) {
            rule.hits.send_modify(|all| all.push(Value::Null));
        }
    }
}
