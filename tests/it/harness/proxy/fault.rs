//! What can go wrong between the service and a node.

use super::dialects::NodeError;
use serde_json::Value;
use std::time::Duration;

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
    /// The node gets the call, and its answer breaks off before the end.
    BreakOffAnswer,
    /// The node gets every call; every second answer is lost, the first one is not.
    LoseEverySecondAnswer,
    /// Nobody listens: open connections end, and new ones are refused. Catches every call or none.
    Refuse,
    /// The node does not get the call, and the caller's connection is reset.
    Reset,
    /// The node does not get the call, and the caller's connection stays open without an answer, for ever.
    Hang,
    /// The node gets the call at once; the caller gets the answer so much later.
    Slow(Duration),
    /// The node gets the call twice, one after the other; the caller gets the second answer.
    Twice,
    /// The node does not get the call; this is the answer.
    Http(HttpAnswer),
    /// The node does not get the call; this is its error.
    Error(NodeError),
    /// The node does not get the call; this JSON is its result.
    Result(&'static str),
    /// As a node answers that knows no block after this one.
    FrozenAt(u64),
    /// As a node answers that is always so many blocks behind.
    Behind(u64),
    /// As a load balancer answers: each second call reaches a node that is always so many blocks behind.
    BehindEverySecondTime(u64),
    /// The newest block is one that nobody has: so many blocks and seconds ahead of the node's.
    Ahead {
        /// How many blocks.
        blocks: u64,
        /// How many seconds its time is ahead of the node's newest block's.
        seconds: u64,
    },
}

impl Fault {
    /// There is none, says the node.
    pub const NULL: Self = Self::Result("null");
    /// For `eth_chainId`: a chain that no test runs.
    pub const OTHER_CHAIN: Self = Self::Result("\"0xa4b1\"");
    /// For `eth_syncing`: far from done.
    pub const SYNCING: Self =
        Self::Result(r#"{"startingBlock":"0x0","currentBlock":"0x1","highestBlock":"0xffffff","stages":[]}"#);

    /// One HTTP status without a word.
    pub const fn status(status: u16) -> Self {
        Self::Http(HttpAnswer::status(status))
    }
}

/// An answer of something on the way, or of a node that wraps its errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpAnswer {
    status: u16,
    /// In seconds.
    retry_after: Option<u64>,
    body: Body,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Body {
    Empty,
    Html,
    Error(NodeError),
}

/// What a gateway says in HTML. It repeats the URL, with all that is secret in it.
const HTML: &str = "<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1>\
    http://us3r:passw0rd@127.0.0.1/v2/k3y-in-path?key=k3y-in-query</body></html>";

impl HttpAnswer {
    /// This status, and nothing else.
    pub const fn status(status: u16) -> Self {
        Self { status, retry_after: None, body: Body::Empty }
    }

    /// With `Retry-After`, in seconds.
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// With a page for people.
    pub const fn html(mut self) -> Self {
        self.body = Body::Html;
        self
    }

    /// With this JSON-RPC error.
    pub const fn saying(mut self, error: NodeError) -> Self {
        self.body = Body::Error(error);
        self
    }

    /// The status line and the headers.
    pub(super) fn head(&self) -> hyper::http::response::Builder {
        let content_type = match self.body {
            Body::Empty => "text/plain",
            Body::Html => "text/html; charset=utf-8",
            Body::Error(_) => "application/json",
        };
        let response = hyper::Response::builder().status(self.status).header("content-type", content_type);
        match self.retry_after {
            Some(seconds) => response.header("retry-after", seconds),
            None => response,
        }
    }

    /// The body, as an answer to this call.
    pub(super) fn body(&self, call: &Value) -> String {
        match self.body {
            Body::Empty => String::new(),
            Body::Html => HTML.to_owned(),
            Body::Error(error) => error.answer(call).to_string(),
        }
    }
}
