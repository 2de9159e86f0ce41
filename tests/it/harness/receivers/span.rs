//! A span as Sentry or a collector received it.

use serde_json::{Map, Value};
use std::time::Duration;

#[derive(Clone, PartialEq, Debug)]
pub struct Span {
    pub ids: Ids,
    /// Such as `blockchain.wait`; a collector gets it as an attribute.
    pub op: String,
    /// The description (Sentry) or name (collector).
    pub name: String,
    /// Sentry: the status name, such as `ok`. Collector: `unset`, `ok` or `error`, with the message after a colon.
    pub status: String,
    pub data: Map<String, Value>,
    pub links: Vec<Link>,
    /// Since the Unix epoch.
    pub start: Duration,
    /// Since the Unix epoch.
    pub end: Duration,
    /// Collector only, such as `server`.
    pub kind: &'static str,
    /// Collector only.
    pub events: Vec<SpanEvent>,
    /// Collector only.
    pub resource: Map<String, Value>,
}

/// Identifiers in lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ids {
    pub trace: String,
    pub span: String,
    /// The parent span, local or remote; `None` for a root.
    pub parent: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    pub trace: String,
    pub span: String,
    pub attributes: Map<String, Value>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct SpanEvent {
    pub name: String,
    pub attributes: Map<String, Value>,
}

impl Span {
    /// The spans of a Sentry transaction, the transaction itself first.
    pub fn of_transaction(transaction: &Value) -> Vec<Self> {
        let trace = &transaction["contexts"]["trace"];
        let mut root = Self::of_sentry(trace, transaction);
        root.name = text(&transaction["transaction"]);
        let children = transaction["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
        let children = children.iter().map(|span| Self::of_sentry(span, span));
        std::iter::once(root).chain(children).collect()
    }

    /// The value of this key; null without one.
    pub fn get(&self, key: &str) -> &Value {
        self.data.get(key).unwrap_or(&Value::Null)
    }

    /// Those of `keys` that are missing or an empty string.
    pub fn lacks<'a>(&self, keys: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let lacks = |key: &&str| self.get(key).is_null() || self.get(key) == "";
        keys.into_iter().filter(lacks).collect()
    }

    fn of_sentry(span: &Value, times: &Value) -> Self {
        let links = span["links"].as_array().map(Vec::as_slice).unwrap_or_default();
        let link = |link: &Value| Link {
            trace: text(&link["trace_id"]),
            span: text(&link["span_id"]),
            attributes: map(&link["attributes"]),
        };
        Self {
            ids: Ids {
                trace: text(&span["trace_id"]),
                span: text(&span["span_id"]),
                parent: span["parent_span_id"].as_str().map(str::to_owned),
            },
            op: text(&span["op"]),
            name: text(&span["description"]),
            status: text(&span["status"]),
            data: map(&span["data"]),
            links: links.iter().map(link).collect(),
            start: time(&times["start_timestamp"]),
            end: time(&times["timestamp"]),
            kind: "",
            events: Vec::new(),
            resource: Map::new(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// Sentry accepts seconds and RFC 3339.
fn time(value: &Value) -> Duration {
    match value {
        Value::Number(seconds) => Duration::from_secs_f64(seconds.as_f64().unwrap()),
        Value::String(text) => {
            let time = humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("`{text}`: {error}"));
            time.duration_since(std::time::UNIX_EPOCH).unwrap()
        }
        other => panic!("not a timestamp: {other}"),
    }
}
