//! Faults between the service and a node.

use super::{node_errors::NodeError, shapes::Shape};
use serde_json::Value;
use std::time::Duration;

/// What happens to matched calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The node gets the call only after the fault is released.
    HoldRequest,
    /// The node gets the call at once; the caller gets the answer only after the fault is released.
    HoldResponse,
    /// The node does not get the call, and the connection closes.
    LoseRequest,
    /// The node gets the call, and the connection closes without an answer.
    LoseResponse,
    /// The node gets the call, and its answer is cut off in the middle.
    TruncateResponse,
    /// The node gets every call; every second answer is lost, starting with the second.
    LoseEverySecondResponse,
    /// Open connections end and new ones are refused. Applies to all calls.
    RefuseConnections,
    /// The node does not get the call, and the connection is reset.
    Reset,
    /// The node does not get the call, and the connection stays open without an answer.
    Hang,
    /// The node gets the call at once; the answer is delayed.
    Slow(Duration),
    /// The node gets the call twice; the caller gets the second answer.
    Duplicate,
    /// The node does not get the call; this HTTP response is returned.
    Http(HttpAnswer),
    /// The node does not get the call; this JSON-RPC error is returned.
    Error(NodeError),
    /// The node does not get the call; this JSON is returned as its result.
    Result(&'static str),
    /// The first call gets this JSON as its result, the node the others.
    FirstResult(&'static str),
    /// The node's answer in another form, or none.
    Shaped(Shape),
    /// Each call gets the answer to the previous one, with its id.
    PreviousAnswer,
    /// `eth_getLogs` of more blocks than this gets the error.
    LogRange(u64, NodeError),
    /// The node does not get sends of more than this many bytes, and they are answered as accepted: a block builder that
    /// throttles by data size.
    NeverIncludeAbove(usize),
    /// Receipts and their logs name a block hash that no node has.
    WrongBlockHash,
    /// Calls above this rate get this answer, and the node does not get them.
    RateLimit { per_second: usize, answer: HttpAnswer },
    /// This member of the result has this value, as JSON.
    Member(&'static str, &'static str),
    /// Answers like a node that knows no block after this one.
    FrozenAt(u64),
    /// Answers like a node that is always this many blocks behind.
    Behind(u64),
    /// Answers like a load balancer: every second call reaches a node that is this many blocks behind.
    AlternatelyBehind(u64),
    /// The newest block is an invented one, ahead of the node's newest block.
    Ahead {
        blocks: u64,
        /// Difference of the block times.
        seconds: u64,
    },
}

impl Fault {
    pub const NULL: Self = Self::Result("null");
    /// For `eth_chainId`: a chain id that no test uses.
    pub const OTHER_CHAIN: Self = Self::Result("\"0xa4b1\"");
    /// For `eth_syncing`: a sync that is far from finished.
    pub const SYNCING: Self =
        Self::Result(r#"{"startingBlock":"0x0","currentBlock":"0x1","highestBlock":"0xffffff","stages":[]}"#);

    /// An HTTP status without a body.
    pub const fn status(status: u16) -> Self {
        Self::Http(HttpAnswer::status(status))
    }
}

/// A response of a gateway, or of a node that wraps its errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpAnswer {
    status: u16,
    /// In seconds.
    retry_after: Option<u64>,
    body: Body,
    location: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Body {
    Empty,
    Html,
    Error(NodeError),
}

/// A gateway's HTML page, which repeats the URL with its secrets.
const HTML: &str = "<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1>\
    http://us3r:passw0rd@127.0.0.1/v2/k3y-in-path?key=k3y-in-query</body></html>";

impl HttpAnswer {
    pub const fn status(status: u16) -> Self {
        Self { status, retry_after: None, body: Body::Empty, location: None }
    }

    /// Redirects to this URL.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self { location: Some(location.to_owned().leak()), ..Self::status(status) }
    }

    /// Adds `Retry-After`, in seconds.
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds an HTML body.
    pub const fn html(mut self) -> Self {
        self.body = Body::Html;
        self
    }

    /// Adds a JSON-RPC error as body.
    pub const fn with_error(mut self, error: NodeError) -> Self {
        self.body = Body::Error(error);
        self
    }

    pub(super) fn head(&self) -> hyper::http::response::Builder {
        let content_type = match self.body {
            Body::Empty => "text/plain",
            Body::Html => "text/html; charset=utf-8",
            Body::Error(_) => "application/json",
        };
        let response = hyper::Response::builder().status(self.status).header("content-type", content_type);
        let response = match self.retry_after {
            Some(seconds) => response.header("retry-after", seconds),
            None => response,
        };
        match self.location {
            Some(location) => response.header("location", location),
            None => response,
        }
    }

    pub(super) fn body(&self, call: &Value) -> String {
        match self.body {
            Body::Empty => String::new(),
            Body::Html => HTML.to_owned(),
            Body::Error(error) => error.answer(call).to_string(),
        }
    }
}
