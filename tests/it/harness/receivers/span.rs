//! A span as its receiver reads it, whether Sentry or a collector.

use serde_json::{Map, Value};
use std::time::Duration;

/// A span.
#[derive(Clone, PartialEq, Debug)]
pub struct Span {
    /// Who it is.
    pub ids: Ids,
    /// Its operation, such as `blockchain.wait`; a collector has it among the attributes.
    pub op: String,
    /// What people read.
    pub name: String,
    /// Sentry: the status' name, such as `ok`. Collector: `unset`, `ok` or `error`, with its message after a colon.
    pub status: String,
    /// What is known of it.
    pub data: Map<String, Value>,
    /// Other spans that have to do with it.
    pub links: Vec<Link>,
    /// When it began, since the Unix epoch.
    pub start: Duration,
    /// When it ended, since the Unix epoch.
    pub end: Duration,
    /// Collector only: such as `server`.
    pub kind: &'static str,
    /// Collector only: what happened in it.
    pub events: Vec<Noted>,
    /// Collector only: what made it.
    pub resource: Map<String, Value>,
}

/// Which span it is, below which, in which trace; in lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ids {
    /// The trace.
    pub trace: String,
    /// The span.
    pub span: String,
    /// The span above it, here or at the caller; `None` for a root.
    pub parent: Option<String>,
}

/// A link to a span.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// Its trace.
    pub trace: String,
    /// Its id.
    pub span: String,
    /// What it has to do with this one.
    pub attributes: Map<String, Value>,
}

/// Something that happened in a span.
#[derive(Clone, PartialEq, Debug)]
pub struct Noted {
    /// What.
    pub name: String,
    /// The particulars.
    pub attributes: Map<String, Value>,
}

impl Span {
    /// The spans of a Sentry transaction: itself first.
    pub fn of_transaction(transaction: &Value) -> Vec<Self> {
        let trace = &transaction["contexts"]["trace"];
        let mut root = Self::of_sentry(trace, transaction);
        root.name = text(&transaction["transaction"]);
        let children = transaction["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
        let children = children.iter().map(|span| Self::of_sentry(span, span));
        std::iter::once(root).chain(children).collect()
    }

    /// A piece of data; null when there is none.
    pub fn get(&self, key: &str) -> &Value {
        self.data.get(key).unwrap_or(&Value::Null)
    }

    /// The names of these keys that it has no data for, or only an empty text.
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

/// Sentry takes seconds and RFC 3339 alike.
fn time(value: &Value) -> Duration {
    match value {
        Value::Number(seconds) => Duration::from_secs_f64(seconds.as_f64().unwrap()),
        Value::String(text) => {
            let time = humantime::parse_rfc3339(text).unwrap_or_else(|error| panic!("`{text}`: {error}"));
            time.duration_since(std::time::UNIX_EPOCH).unwrap()
        }
        other => panic!("no time: {other}"),
    }
}
