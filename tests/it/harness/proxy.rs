//! A JSON-RPC proxy in front of a node. It counts what passes, and on command it holds back or loses a method's requests or
//! answers, so that a test can stand between two steps of the service.

use super::rpc::http_client;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// A running proxy, gone when dropped.
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What happens to calls that are caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The node gets the call when the trap is released, and not before.
    HoldRequest,
    /// The node gets the call at once; the caller gets the answer when the trap is released, and not before.
    HoldAnswer,
    /// The node does not get the call, and the caller's connection breaks.
    LoseRequest,
    /// The node gets the call, and the caller's connection breaks instead of an answer.
    LoseAnswer,
}

/// A fault that is in force until it is released or dropped.
pub struct Trap {
    rule: Arc<Rule>,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    counts: Mutex<BTreeMap<String, u64>>,
    rules: Mutex<Vec<Arc<Rule>>>,
}

struct Rule {
    /// `None` means every method.
    method: Option<String>,
    /// Only calls with this in their parameters; the empty text is in all of them.
    about: String,
    fault: Fault,
    caught: watch::Sender<Vec<Value>>,
    released: watch::Sender<bool>,
}

/// The connection breaks without an answer.
#[derive(Debug, thiserror::Error)]
#[error("lost on purpose")]
struct Lost;

impl Proxy {
    /// Starts a proxy in front of the node with this URL.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            http: http_client(),
            counts: Mutex::default(),
            rules: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Self { url, shared, task }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
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

    /// How many calls of this method have come so far.
    pub fn count(&self, method: &str) -> u64 {
        self.shared.counts.lock().unwrap().get(method).copied().unwrap_or(0)
    }

    /// How many calls have come so far, by method.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.shared.counts.lock().unwrap().clone()
    }

    fn add(&self, method: Option<String>, about: &str, fault: Fault) -> Trap {
        let rule = Arc::new(Rule {
            method,
            about: about.to_owned(),
            fault,
            caught: watch::Sender::new(Vec::new()),
            released: watch::Sender::new(false),
        });
        self.shared.rules.lock().unwrap().push(rule.clone());
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
    /// Returns the first one.
    pub async fn sprung(&self) -> Value {
        let mut caught = self.rule.caught.subscribe();
        let what = format!("a call of {} to be caught", self.rule.method.as_deref().unwrap_or("any method"));
        let calls = super::wait::within(&what, caught.wait_for(|calls| !calls.is_empty())).await.unwrap();
        calls[0].clone()
    }

    /// Lets what is held go on, and catches no more.
    pub fn release(self) {}
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.shared.rules.lock().unwrap().retain(|rule| !Arc::ptr_eq(rule, &self.rule));
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

    async fn release(&self) {
        // The sender lives as long as this rule.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }
}

impl Shared {
    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
        let body = request.into_body().collect().await.map_err(|_| Lost)?.to_bytes();
        let calls = match serde_json::from_slice(&body) {
            Ok(Value::Array(batch)) => batch,
            Ok(call) => vec![call],
            Err(error) => panic!("the service sends what is no JSON: {error}"),
        };
        self.tally(&calls);
        let rule = self.rule_for(&calls);
        let Some(rule) = rule else { return self.forward(body).await };
        match rule.fault {
            Fault::HoldRequest => {
                rule.note(&calls);
                rule.release().await;
                self.forward(body).await
            }
            Fault::HoldAnswer => {
                let answer = self.forward(body).await;
                rule.note(&calls);
                rule.release().await;
                answer
            }
            Fault::LoseRequest => {
                rule.note(&calls);
                Err(Lost)
            }
            Fault::LoseAnswer => {
                self.forward(body).await?;
                rule.note(&calls);
                Err(Lost)
            }
        }
    }

    fn tally(&self, calls: &[Value]) {
        let mut counts = self.counts.lock().unwrap();
        for call in calls {
            *counts.entry(call["method"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }

    fn rule_for(&self, calls: &[Value]) -> Option<Arc<Rule>> {
        let rules = self.rules.lock().unwrap();
        rules.iter().find(|rule| calls.iter().any(|call| rule.catches(call))).cloned()
    }

    async fn forward(&self, body: Bytes) -> Result<Response<Full<Bytes>>, Lost> {
        let request = self.http.post(&self.upstream).header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(|_| Lost)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|_| Lost)?;
        let response = Response::builder().status(status).header("content-type", "application/json");
        response.body(Full::new(body)).map_err(|_| Lost)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| shared.handle(request));
    // A connection that ends in an error is one that was lost on purpose, or whose caller was killed.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
