//! One pipeline for all spans, with two destinations.
//!
//! Live spans (`grpc.server`, `blockchain.batch`, `rpc.client`, `rpc.health_check`) are `tracing` spans that
//! tracing-opentelemetry hands to the [`tail`]: it collects what hangs together in this process, and decides when the last of it
//! has ended. What they say in passing, `db` spans among it, they only note ([`notes`]). A journey's spans are not live: a registration may wait for hours, and of a hundred good ones ninety-nine are not
//! kept. [`told`] makes them from what the journey remembers, when it ends, and only if they are kept. What is kept goes through
//! the [`delivery`], on a thread of its own: to an OTLP collector, to Sentry, or to both, with the same ids.
//!
//! ```text
//! head (share of traces) ─┐
//! live spans ── tail ─────┼─ keep? ── delivery ─┬─ scrub ── OTLP
//! told journeys ──────────┘     └─ memory       └─ scrub ── Sentry transactions
//! ```

mod delivery;
mod head;
mod keep;
mod live;
mod memory;
mod notes;
mod otlp;
mod tail;
mod told;

pub use delivery::Sink;
pub use head::{Head, rate_that_kept};
pub use keep::{Reason, SLOW_JOURNEY};
pub use live::{
    BatchSpan, batch, client, current_trace, db, failed_over, felt_failover, found, health_check, server, with_trace,
};
pub use otlp::{Otlp, QUEUE as OTLP_QUEUE};
pub use tail::Tail;
pub use told::{Data, Link, Stage, Story, new_span_id, tell};

use crate::{
    registration::TraceId,
    telemetry::{SpanLimits, metrics},
};
use delivery::Delivery;
use memory::Memory;
use notes::Note;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

pub(super) const SERVER: &str = "grpc.server";
pub(super) const JOURNEY: &str = "blockchain.register";
pub(super) const BATCH: &str = "blockchain.batch";
pub(super) const HEALTH_CHECK: &str = "rpc.health_check";
/// The attribute that holds a span's operation (<https://develop.sentry.dev/sdk/telemetry/traces/span-operations/>).
pub(super) const OP: &str = "sentry.op";
/// The attribute that says that a request had to be asked of another endpoint.
const FAILOVER: &str = "failover";
/// The attribute of a batch that journeys hang on.
const OF_BATCHES: &str = "batchSize";
/// The attribute of a batch that met what the one before it had met.
const REPEATED: &str = "repeated";
/// gRPC's codes of a call that went well, and of one whose caller hung up, which is no failure.
const OK: i64 = 0;
const CANCELLED: i64 = 1;
/// The caller's baggage, for the dynamic sampling context; it leaves with no span.
pub(super) const BAGGAGE: &str = "registrar.baggage";

/// Spans that hang together in this process: a local root and what is below it.
#[derive(Debug)]
pub struct Segment {
    /// The root's id in [`Self::spans`].
    pub root: opentelemetry::SpanId,
    /// In the order in which they ended.
    pub spans: Vec<SpanData>,
    /// What they have to say besides, until it is written out.
    notes: Vec<(opentelemetry::SpanId, Note)>,
}

impl Segment {
    /// The local root; the last to end if it was lost to a limit.
    pub fn root(&self) -> Option<&SpanData> {
        self.spans.iter().find(|span| span.span_context.span_id() == self.root).or(self.spans.last())
    }
}

/// What decides and delivers.
#[derive(Debug)]
pub struct Pipeline {
    head: Head,
    limits: SpanLimits,
    open: tail::Open,
    memory: Memory,
    delivery: Delivery,
}

static PIPELINE: OnceLock<Arc<Pipeline>> = OnceLock::new();

/// The process's pipeline; `None` while nothing is recorded, and then nothing costs anything.
fn pipeline() -> Option<&'static Arc<Pipeline>> {
    PIPELINE.get()
}

/// Everything that an ERROR was said in is kept.
pub fn keep_failed(trace_id: TraceId) {
    if let Some(pipeline) = pipeline() {
        pipeline.keep(opentelemetry::TraceId::from_bytes(trace_id.to_bytes()));
    }
}

impl Pipeline {
    /// Makes the process's pipeline.
    pub fn install(head: Head, limits: SpanLimits, sinks: Vec<Box<dyn Sink>>) -> Arc<Self> {
        let made = || {
            let delivery = Delivery::start(sinks, limits);
            Arc::new(Self { head, limits, open: tail::Open::default(), memory: Memory::default(), delivery })
        };
        PIPELINE.get_or_init(made).clone()
    }

    /// Some spans have ended.
    fn decide(&self, segment: Segment) {
        let Some(root) = segment.root().filter(|_| !self.delivery.is_idle()) else { return };
        let trace_id = root.span_context.trace_id();
        let seen = seen(root, &segment.spans);
        let why = keep::reason(&seen);
        if seen.background {
            // It has nobody who could fail later.
            metrics().telemetry_trace("background");
            return why.map_or((), |reason| self.delivery.deliver(segment, reason));
        }
        if let Some(reason) = why {
            return self.deliver(trace_id, segment, reason, seen.went_wrong());
        }
        // Only what a journey hangs on is worth holding.
        let about = segment.notes.iter().any(|(_, note)| matches!(note, Note::About(_)));
        let journeys = about || find(&root.attributes, OF_BATCHES).is_some();
        match self.memory.hold(trace_id, segment, journeys) {
            Some(kept) => self.deliver(trace_id, kept, Reason::Related, false),
            None => metrics().telemetry_trace("dropped"),
        }
    }

    /// It is kept; whatever else belongs to its trace too, if it `went_wrong`.
    fn deliver(&self, trace_id: opentelemetry::TraceId, segment: Segment, reason: Reason, went_wrong: bool) {
        metrics().telemetry_trace(reason.code());
        if went_wrong {
            self.keep(trace_id);
        }
        self.delivery.deliver(segment, reason);
    }

    /// Whatever belongs to this trace is kept, now and later.
    fn keep(&self, trace_id: opentelemetry::TraceId) {
        for held in self.memory.keep(trace_id) {
            metrics().telemetry_trace("recalled");
            self.delivery.deliver(held, Reason::Related);
        }
    }

    /// Sends what is still on its way, as far as that works in time.
    pub fn end(&self, timeout: Duration) -> bool {
        self.delivery.end(timeout)
    }
}

fn seen(root: &SpanData, spans: &[SpanData]) -> keep::Seen {
    let op = op_of(&root.attributes);
    let status = number(&root.attributes, "rpc.grpc.status_code").unwrap_or(0);
    let errors = |span: &SpanData| matches!(span.status, opentelemetry::trace::Status::Error { .. });
    let failover = |span: &SpanData| flag(&span.attributes, FAILOVER);
    keep::Seen {
        sampled: root.span_context.is_sampled() && !flag(&root.attributes, REPEATED),
        failed: ![OK, CANCELLED].contains(&status) || spans.iter().any(errors),
        failover: spans.iter().any(failover),
        took: root.end_time.duration_since(root.start_time).unwrap_or_default(),
        slow: if live::waits(&root.name) || op == BATCH { keep::SLOW_JOURNEY } else { keep::SLOW_CALL },
        background: op == HEALTH_CHECK || flag(&root.attributes, REPEATED),
    }
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    // What is recorded again comes later.
    attributes.iter().rev().find(|attribute| attribute.key.as_str() == key).map(|attribute| &attribute.value)
}

/// The text of an attribute.
pub(super) fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    if let Value::String(text) = find(attributes, key)? { Some(text.as_str()) } else { None }
}

/// The number of an attribute.
pub(super) fn number(attributes: &[KeyValue], key: &str) -> Option<i64> {
    if let Value::I64(number) = find(attributes, key)? { Some(*number) } else { None }
}

fn flag(attributes: &[KeyValue], key: &str) -> bool {
    matches!(find(attributes, key), Some(Value::Bool(true)))
}

/// A span's operation.
pub(super) fn op_of(attributes: &[KeyValue]) -> &str {
    text(attributes, OP).unwrap_or("default")
}
