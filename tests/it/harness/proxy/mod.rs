//! A JSON-RPC proxy in front of a node. It keeps what passes, and on command it does to calls what the world does to them, so
//! that a test can stand between two steps of the service, or between the service and a node that is no help.

pub mod dialects;
mod fault;
mod heads;
mod node;
mod serve;

pub use fault::{Fault, HttpAnswer};

use super::door::Door;
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

/// What a URL of [`Proxy::secret_url`] holds that nobody may ever see again.
pub const SECRETS: [&str; 4] = ["us3r", "passw0rd", "k3y-in-path", "k3y-in-query"];

/// What of a proxy's URL is in this text, where none of it may be. A URL's host may stay where a node repeats it; that the service
/// never says where its endpoints are is seen by the port.
pub fn leak(text: &str) -> Option<&'static str> {
    SECRETS.into_iter().chain(["http://127.0.0.1:"]).find(|secret| text.contains(secret))
}

/// A running proxy, gone when dropped.
pub struct Proxy {
    address: String,
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// A fault that is in force until it is released or dropped.
pub struct Trap {
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

/// A call that has come.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// The call.
    pub call: Value,
    /// The HTTP headers that it came with.
    pub headers: HeaderMap,
}

struct Shared {
    node: Node,
    seen: Mutex<Vec<Seen>>,
    rules: Mutex<Vec<Arc<Rule>>>,
    /// How many rules say that nobody listens.
    refusing: watch::Sender<usize>,
}

struct Rule {
    /// `None` means every method.
    method: Option<String>,
    /// Only calls with this in their parameters; the empty text is in all of them.
    about: String,
    fault: Fault,
    turns: AtomicU64,
    caught: watch::Sender<Vec<Value>>,
    released: watch::Sender<bool>,
}

impl Proxy {
    /// Starts a proxy in front of the node with this URL.
    pub async fn before(upstream: &str) -> Self {
        let door = Door::open();
        let address = door.address.to_string();
        let shared = Arc::new(Shared {
            node: Node::at(upstream),
            seen: Mutex::default(),
            rules: Mutex::default(),
            refusing: watch::Sender::new(0),
        });
        let task = tokio::spawn(serve(door, shared.clone()));
        Self { url: format!("http://{address}"), address, shared, task }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same, with all the [`SECRETS`] that a provider's URL may hold.
    pub fn secret_url(&self) -> String {
        let [user, password, path, query] = SECRETS;
        format!("http://{user}:{password}@{}/v2/{path}?key={query}", self.address)
    }

    /// From now on, does this to calls of this method.
    pub fn trap(&self, method: &str, fault: Fault) -> Trap {
        self.add(Some(method.to_owned()), "", fault)
    }

    /// From now on, does this to calls of this method with this text in their parameters.
    pub fn trap_about(&self, method: &str, about: &str, fault: Fault) -> Trap {
        self.add(Some(method.to_owned()), about, fault)
    }

    /// From now on, does this to every call.
    pub fn trap_all(&self, fault: Fault) -> Trap {
        self.add(None, "", fault)
    }

    /// So many times, does this to every call for this long, and then nothing for as long.
    pub async fn flap(&self, fault: Fault, time: Duration, times: usize) {
        for _ in 0..times {
            self.trap_all(fault).during(time).await;
            tokio::time::sleep(time).await;
        }
    }

    /// How many calls of this method have come so far.
    pub fn count(&self, method: &str) -> u64 {
        self.calls(method).len() as u64
    }

    /// How many calls have come so far, by method.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for seen in self.shared.seen.lock().unwrap().iter() {
            *counts.entry(seen.call["method"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        counts
    }

    /// The calls of this method that have come so far, whatever was done to them.
    pub fn calls(&self, method: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.call["method"] == method).cloned().collect()
    }

    /// Every call that has come so far, whatever was done to it.
    pub fn all(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// When calls came, of whatever method.
    pub fn times(&self) -> Vec<Instant> {
        self.shared.seen.lock().unwrap().iter().map(|seen| seen.at).collect()
    }

    /// The signed transactions that were sent here, in order, whatever was done to them.
    pub fn sent(&self) -> Vec<String> {
        let bytes = |seen: Seen| seen.call["params"][0].as_str().unwrap().to_owned();
        self.calls("eth_sendRawTransaction").into_iter().map(bytes).collect()
    }

    fn add(&self, method: Option<String>, about: &str, fault: Fault) -> Trap {
        assert!(fault != Fault::Refuse || method.is_none(), "a connection is refused before its calls are known");
        let rule = Arc::new(Rule {
            method,
            about: about.to_owned(),
            fault,
            turns: AtomicU64::new(0),
            caught: watch::Sender::new(Vec::new()),
            released: watch::Sender::new(false),
        });
        self.shared.rules.lock().unwrap().push(rule.clone());
        if fault == Fault::Refuse {
            self.shared.refusing.send_modify(|rules| *rules += 1);
        }
        Trap { rule, shared: self.shared.clone() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Trap {
    /// Waits until a call is caught whose fault has taken effect: before the node for a request, after it for an answer.
    /// Returns the first one; for [`Fault::Refuse`], nothing, when nobody listens any more.
    pub async fn sprung(&self) -> Value {
        let mut caught = self.rule.caught.subscribe();
        let what = format!("a call of {} to be caught", self.rule.method.as_deref().unwrap_or("any method"));
        let calls = super::wait::within(&what, caught.wait_for(|calls| !calls.is_empty())).await.unwrap();
        calls[0].clone()
    }

    /// How many calls it has caught so far whose fault has taken effect.
    pub fn caught(&self) -> usize {
        self.rule.caught.borrow().len()
    }

    /// Leaves it in force for this long. The time is the fault itself: nothing is awaited.
    pub async fn during(self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Leaves it in force until it has caught something, however long that takes on a busy machine, and for this long after.
    pub async fn during_from_the_first(self, time: Duration) {
        self.sprung().await;
        self.during(time).await;
    }

    /// Lets what is held go on, and catches no more.
    pub fn release(self) {}
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.shared.rules.lock().unwrap().retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        if self.rule.fault == Fault::Refuse {
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

    fn note(&self, calls: &[Value]) {
        let caught = calls.iter().filter(|call| self.catches(call)).cloned();
        self.caught.send_modify(|all| all.extend(caught));
    }

    /// The number of this request among those that were caught, from 1.
    fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn release(&self) {
        // The sender lives as long as this rule.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}

impl Shared {
    fn see(&self, calls: &[Value], headers: &HeaderMap) {
        let at = Instant::now();
        let seen = calls.iter().map(|call| Seen { at, call: call.clone(), headers: headers.clone() });
        self.seen.lock().unwrap().extend(seen);
    }

    fn rule_for(&self, calls: &[Value]) -> Option<Arc<Rule>> {
        let rules = self.rules.lock().unwrap();
        rules.iter().find(|rule| calls.iter().any(|call| rule.catches(call))).cloned()
    }

    /// Nobody listens any more.
    fn refused(&self) {
        let rules = self.rules.lock().unwrap();
        for rule in rules.iter().filter(|rule| rule.fault == Fault::Refuse) {
            rule.caught.send_modify(|all| all.push(Value::Null));
        }
    }
}
