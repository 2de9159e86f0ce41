//! Encodes a segment as a Sentry transaction in an envelope.
//!
//! With a structure of our own: the SDK's has no `transaction_info`, and writes the end as text and the beginning as a
//! number, so that readers that round one of them show negative durations. Sources:
//! <https://develop.sentry.dev/sdk/data-model/event-payloads/transaction/>,
//! <https://develop.sentry.dev/sdk/data-model/envelopes/>,
//! <https://develop.sentry.dev/sdk/telemetry/traces/dynamic-sampling-context/>.

use crate::registration::GrpcCode;
use crate::telemetry::{
    propagation::{self, ServiceIdentity},
    settings::Rate,
    spans::{
        BAGGAGE_ATTRIBUTE, KeepReason, OP_ATTRIBUTE, REGISTRATION_OP, SAMPLED_ATTRIBUTE, SERVER_OP, Segment,
        effective_sample_rate, int_attribute, span_op, text_attribute,
    },
};
use opentelemetry::{Array, KeyValue, SpanId, Value, trace::Status};
use opentelemetry_sdk::trace::SpanData;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};
use uuid::Uuid;

/// Not written as data of a span.
const INTERNAL_ATTRIBUTES: [&str; 4] = [OP_ATTRIBUTE, BAGGAGE_ATTRIBUTE, SAMPLED_ATTRIBUTE, "user.id"];
/// Written as tags too, because Sentry indexes tags for search.
const TAG_ATTRIBUTES: [&str; 10] = [
    "registrationId",
    "documentHash",
    "caseId",
    "txHash",
    "network",
    "cause",
    "caller",
    "from",
    "rpc.method",
    "endpoint",
];

/// A batch may have hundreds, and Sentry truncates an item that is too large. The collector gets all of them.
const MAX_LINKS: usize = 64;
/// The call that the trace of a registration begins with.
const REGISTER_DOCUMENT_ROUTE: &str = "registrar.v1.RegistrarService/RegisterDocument";

#[derive(Clone, Debug)]
pub(super) struct SentryIdentity {
    pub(super) service: ServiceIdentity,
    pub(super) server_name: String,
    pub(super) sample_rate: Rate,
    pub(super) sdk: Sdk,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Sdk {
    pub(super) name: String,
    pub(super) version: String,
}

#[derive(Serialize)]
struct EnvelopeHeader<'a> {
    event_id: String,
    sdk: &'a Sdk,
    trace: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Transaction<'a> {
    r#type: &'static str,
    event_id: String,
    transaction: &'a str,
    transaction_info: TransactionInfo,
    platform: &'static str,
    start_timestamp: f64,
    timestamp: f64,
    release: &'a str,
    environment: &'a str,
    server_name: &'a str,
    sdk: &'a Sdk,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<User<'a>>,
    tags: BTreeMap<&'static str, String>,
    contexts: Contexts<'a>,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
struct TransactionInfo {
    source: &'static str,
}

#[derive(Serialize)]
struct User<'a> {
    id: &'a str,
}

#[derive(Serialize)]
struct Contexts<'a> {
    trace: Trace<'a>,
}

#[derive(Serialize)]
struct Trace<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    op: &'a str,
    status: &'static str,
    origin: &'static str,
    data: DataMap<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
}

#[derive(Serialize)]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    op: &'a str,
    description: &'a str,
    start_timestamp: f64,
    timestamp: f64,
    status: &'static str,
    origin: &'static str,
    data: DataMap<'a>,
}

/// <https://develop.sentry.dev/sdk/telemetry/traces/span-links/>
#[derive(Serialize)]
struct Link {
    trace_id: String,
    span_id: String,
    sampled: bool,
    attributes: BTreeMap<&'static str, String>,
}

struct DataMap<'a>(&'a [KeyValue]);

impl Serialize for DataMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (position, KeyValue { key, value, .. }) in self.0.iter().enumerate() {
            // The last value counts, because recording a field again appends it.
            let is_overwritten = self.0[position + 1..].iter().any(|later| later.key == *key);
            if is_overwritten || INTERNAL_ATTRIBUTES.contains(&key.as_str()) {
                continue;
            }
            if let Value::Array(Array::String(all)) = value {
                let all: Vec<_> = all.iter().map(|text| text.as_str()).collect();
                map.serialize_entry(key.as_str(), &all)?;
            } else if let Value::Bool(flag) = value {
                map.serialize_entry(key.as_str(), flag)?;
            } else if let Value::I64(number) = value {
                map.serialize_entry(key.as_str(), number)?;
            } else if let Value::F64(number) = value {
                map.serialize_entry(key.as_str(), number)?;
            } else {
                map.serialize_entry(key.as_str(), &value.as_str())?;
            }
        }
        map.end()
    }
}

/// `None` for a segment without spans.
pub(super) fn encode_envelope(segment: &Segment, reason: KeepReason, identity: &SentryIdentity) -> Option<Vec<u8>> {
    let root = segment.root_span()?;
    let event_id = Uuid::new_v4().simple().to_string();
    let header = EnvelopeHeader {
        event_id: event_id.clone(),
        sdk: &identity.sdk,
        trace: sampling_context(root, reason, identity),
    };
    let item = serde_json::to_vec(&transaction(segment, root, event_id, identity)).ok()?;
    let mut bytes = serde_json::to_vec(&header).ok()?;
    bytes.extend_from_slice(format!("\n{{\"type\":\"transaction\",\"length\":{}}}\n", item.len()).as_bytes());
    bytes.extend_from_slice(&item);
    bytes.push(b'\n');
    Some(bytes)
}

fn transaction<'a>(
    segment: &'a Segment,
    root: &'a SpanData,
    event_id: String,
    identity: &'a SentryIdentity,
) -> Transaction<'a> {
    let op = span_op(&root.attributes);
    let (start_timestamp, timestamp) = timestamps(root);
    let tags = TAG_ATTRIBUTES.iter().filter_map(|key| Some((*key, text_attribute(&root.attributes, key)?.to_owned())));
    let children = segment.spans.iter().filter(|span| span.span_context.span_id() != root.span_context.span_id());
    let mut spans: Vec<_> = children.map(span).collect();
    spans.sort_by(|one, other| one.start_timestamp.total_cmp(&other.start_timestamp));
    Transaction {
        r#type: "transaction",
        event_id,
        transaction: &root.name,
        transaction_info: TransactionInfo { source: if op == SERVER_OP { "route" } else { "task" } },
        platform: "native",
        start_timestamp,
        timestamp,
        release: &identity.service.release,
        environment: &identity.service.environment,
        server_name: &identity.server_name,
        sdk: &identity.sdk,
        user: text_attribute(&root.attributes, "user.id").map(|id| User { id }),
        tags: tags.collect(),
        contexts: Contexts {
            trace: Trace {
                trace_id: root.span_context.trace_id().to_string(),
                span_id: root.span_context.span_id().to_string(),
                parent_span_id: (root.parent_span_id != SpanId::INVALID).then(|| root.parent_span_id.to_string()),
                op,
                status: status(root),
                origin: "auto",
                data: DataMap(&root.attributes),
                links: root.links.iter().take(MAX_LINKS).map(link).collect(),
            },
        },
        spans,
    }
}

fn span(span: &SpanData) -> Span<'_> {
    let (start_timestamp, timestamp) = timestamps(span);
    Span {
        trace_id: span.span_context.trace_id().to_string(),
        span_id: span.span_context.span_id().to_string(),
        parent_span_id: span.parent_span_id.to_string(),
        op: span_op(&span.attributes),
        description: &span.name,
        start_timestamp,
        timestamp,
        status: status(span),
        origin: "auto",
        data: DataMap(&span.attributes),
    }
}

fn link(link: &opentelemetry::trace::Link) -> Link {
    let kind = text_attribute(&link.attributes, "link.kind").map(|kind| ("sentry.link.type", kind.to_owned()));
    Link {
        trace_id: link.span_context.trace_id().to_string(),
        span_id: link.span_context.span_id().to_string(),
        sampled: link.span_context.is_sampled(),
        attributes: kind.into_iter().collect(),
    }
}

/// Start and end in seconds with microseconds; the end is never before the start.
fn timestamps(span: &SpanData) -> (f64, f64) {
    let micros = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let (began, ended) = (micros(span.start_time), micros(span.end_time));
    (began as f64 / 1e6, ended.max(began) as f64 / 1e6)
}

/// Sentry's names, which are those of gRPC with two exceptions
/// (<https://develop.sentry.dev/sdk/telemetry/traces/span-status/>).
fn status(span: &SpanData) -> &'static str {
    if let Some(code) = int_attribute(&span.attributes, "rpc.grpc.status_code") {
        return status_from_code(code);
    }
    match (text_attribute(&span.attributes, "status").and_then(status_from_name), &span.status) {
        (Some(status), _) => status,
        (None, Status::Error { .. }) => "internal_error",
        (None, Status::Ok | Status::Unset) => "ok",
    }
}

fn status_from_code(code: i64) -> &'static str {
    sentry_status(GrpcCode::from_number(code))
}

fn sentry_status(code: GrpcCode) -> &'static str {
    if code == GrpcCode::Unknown {
        "unknown_error"
    } else if code == GrpcCode::Internal {
        "internal_error"
    } else {
        code.label()
    }
}

fn status_from_name(name: &str) -> Option<&'static str> {
    GrpcCode::all().map(sentry_status).find(|status| *status == name)
}

/// The caller's dynamic sampling context, unchanged, else our own. Its rate is 1 for what was not kept by the head
/// decision, because it represents no other traces.
fn sampling_context(root: &SpanData, reason: KeepReason, identity: &SentryIdentity) -> BTreeMap<String, String> {
    let trace_id = root.span_context.trace_id().to_string();
    let frozen = text_attribute(&root.attributes, BAGGAGE_ATTRIBUTE).and_then(propagation::dynamic_sampling_context);
    if let Some(frozen) = frozen.filter(|frozen| frozen.get("trace_id") == Some(&trace_id)) {
        return frozen;
    }
    let rate = if reason == KeepReason::Head { effective_sample_rate(root, identity.sample_rate) } else { 1.0 };
    // All transactions of a trace have the same context, that of its first one.
    let first = if span_op(&root.attributes) == REGISTRATION_OP { REGISTER_DOCUMENT_ROUTE } else { &root.name };
    let ours = identity.service.sampling_members(root.span_context.trace_id(), rate, true);
    ours.chain([("transaction", first.to_owned())]).map(|(key, value)| (key.to_owned(), value)).collect()
}
