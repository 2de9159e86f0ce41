//! One pipeline for all spans, with two destinations.
//!
//! Live spans (`grpc.server`, `blockchain.batch`, `rpc.client`, `rpc.health_check`) are `tracing` spans that
//! tracing-opentelemetry hands to the [`tail`]: it collects what hangs together in this process, and decides when the last of it
//! has ended. What they say in passing, `db` spans among it, they only note ([`notes`]). A journey's spans are not live: a
//! registration may wait for hours, and of a hundred good ones ninety-nine are not kept. [`told`] makes them from what the journey remembers, when it ends, and only if they are kept. What is kept goes through
//! the [`delivery`], on a thread of its own: to an OTLP collector, to Sentry, or to both, with the same ids.
//!
//! ```text
//! head (share of traces) ─┐
//! live spans ── tail ─────┼─ keep? ── delivery ─┬─ scrub ── OTLP
//! told journeys ──────────┘     └─ memory       └─ scrub ── Sentry transactions
//! ```

mod deferred;
mod export_queue;
mod head_sampler;
mod live;
mod otlp;
mod synthetic;
mod tail_policy;
mod tail_processor;
mod trace_cache;

pub use export_queue::Sink;
pub use head_sampler::{HeadSampler, effective_sample_rate};
pub use live::{
    BatchSpan, annotate_registration, batch, client, current_trace, db, health_check, record_failover, saw_failover,
    server, with_trace,
};
pub use otlp::{DEFAULT_OTLP_QUEUE_SPANS as OTLP_QUEUE, OtlpSink};
pub use synthetic::{AttrValue, SpanLink, SpanRecord, SpanTree, emit, new_span_id};
pub use tail_policy::{KeepReason, SLOW_REGISTRATION};
pub use tail_processor::TailProcessor;

use crate::{
    registration::TraceId,
    telemetry::{
        SpanLimits,
        metrics::{Decision, metrics},
    },
};
use deferred::Deferred;
use export_queue::ExportQueue;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use trace_cache::TraceCache;

pub(super) const SERVER_OP: &str = "grpc.server";
pub(super) const REGISTRATION_OP: &str = "blockchain.register";
pub(super) const BATCH_OP: &str = "blockchain.batch";
pub(super) const HEALTH_CHECK_OP: &str = "rpc.health_check";
/// The attribute that holds a span's operation (<https://develop.sentry.dev/sdk/telemetry/traces/span-operations/>).
pub(super) const OP_ATTRIBUTE: &str = "sentry.op";
/// The attribute that says that a request had to be asked of another endpoint.
const FAILOVER_ATTRIBUTE: &str = "failover";
/// The attribute of a batch that journeys hang on.
const BATCH_SIZE_ATTRIBUTE: &str = "batchSize";
/// The attribute of a batch that met what the one before it had met.
const REPEATED_ATTRIBUTE: &str = "repeated";
/// gRPC's codes of a call that went well, and of one whose caller hung up, which is no failure.
const GRPC_OK: i64 = 0;
const GRPC_CANCELLED: i64 = 1;
/// The caller's baggage, for the dynamic sampling context; it leaves with no span.
pub(super) const BAGGAGE_ATTRIBUTE: &str = "registrar.baggage";

/// Spans that hang together in this process: a local root and what is below it.
#[derive(Debug)]
pub struct Segment {
    /// The root's id in [`Self::spans`].
    pub root_id: opentelemetry::SpanId,
    /// In the order in which they ended.
    pub spans: Vec<SpanData>,
    /// What they have to say besides, until it is written out.
    deferred: Vec<(opentelemetry::SpanId, Deferred)>,
}

impl Segment {
    /// The local root; the last to end if it was lost to a limit.
    pub fn root_span(&self) -> Option<&SpanData> {
        self.spans.iter().find(|span| span.span_context.span_id() == self.root_id).or(self.spans.last())
    }
}

/// What decides and delivers.
#[derive(Debug)]
pub struct SpanPipeline {
    head_sampler: HeadSampler,
    limits: SpanLimits,
    open_spans: tail_processor::OpenSpans,
    trace_cache: TraceCache,
    export_queue: ExportQueue,
}

static PIPELINE: OnceLock<Arc<SpanPipeline>> = OnceLock::new();

/// The process's pipeline; `None` while nothing is recorded, and then nothing costs anything.
fn pipeline() -> Option<&'static Arc<SpanPipeline>> {
    PIPELINE.get()
}

/// Everything that an ERROR was said in is kept.
pub fn keep_failed_trace(trace_id: TraceId) {
    if let Some(pipeline) = pipeline() {
        pipeline.keep_trace(opentelemetry::TraceId::from_bytes(trace_id.to_bytes()));
    }
}

impl SpanPipeline {
    /// Makes the process's pipeline.
    pub fn install(head: HeadSampler, limits: SpanLimits, sinks: Vec<Box<dyn Sink>>) -> Arc<Self> {
        let made = || {
            let delivery = ExportQueue::start(sinks, limits);
            Arc::new(Self {
                head_sampler: head,
                limits,
                open_spans: tail_processor::OpenSpans::default(),
                trace_cache: TraceCache::default(),
                export_queue: delivery,
            })
        };
        PIPELINE.get_or_init(made).clone()
    }

    /// Some spans have ended.
    fn decide(&self, segment: Segment) {
        let Some(root) = segment.root_span().filter(|_| !self.export_queue.has_no_sinks()) else { return };
        let trace_id = root.span_context.trace_id();
        let seen = summarize(root, &segment.spans);
        let why = tail_policy::keep_reason(&seen);
        if seen.background {
            // It has nobody who could fail later.
            metrics().inc_telemetry_traces(Decision::Background);
            return why.map_or((), |reason| self.export_queue.enqueue(segment, reason));
        }
        if let Some(reason) = why {
            return self.export(trace_id, segment, reason, seen.is_anomalous());
        }
        // Only what a journey hangs on is worth holding.
        let about = segment.deferred.iter().any(|(_, note)| matches!(note, Deferred::Registration(_)));
        let journeys = about || find_attribute(&root.attributes, BATCH_SIZE_ATTRIBUTE).is_some();
        match self.trace_cache.hold(trace_id, segment, journeys) {
            Some(kept) => self.export(trace_id, kept, KeepReason::Related, false),
            None => metrics().inc_telemetry_traces(Decision::Dropped),
        }
    }

    /// It is kept; whatever else belongs to its trace too, if it `went_wrong`.
    fn export(&self, trace_id: opentelemetry::TraceId, segment: Segment, reason: KeepReason, went_wrong: bool) {
        metrics().inc_telemetry_traces(Decision::Kept(reason));
        if went_wrong {
            self.keep_trace(trace_id);
        }
        self.export_queue.enqueue(segment, reason);
    }

    /// Whatever belongs to this trace is kept, now and later.
    fn keep_trace(&self, trace_id: opentelemetry::TraceId) {
        for held in self.trace_cache.mark_kept(trace_id) {
            metrics().inc_telemetry_traces(Decision::Recalled);
            self.export_queue.enqueue(held, KeepReason::Related);
        }
    }

    /// Sends what is still on its way, as far as that works in time.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        self.export_queue.shutdown(timeout)
    }
}

fn summarize(root: &SpanData, spans: &[SpanData]) -> tail_policy::SegmentSummary {
    let op = span_op(&root.attributes);
    let status = int_attribute(&root.attributes, "rpc.grpc.status_code").unwrap_or(0);
    let errors = |span: &SpanData| matches!(span.status, opentelemetry::trace::Status::Error { .. });
    let failover = |span: &SpanData| bool_attribute(&span.attributes, FAILOVER_ATTRIBUTE);
    tail_policy::SegmentSummary {
        sampled: root.span_context.is_sampled() && !bool_attribute(&root.attributes, REPEATED_ATTRIBUTE),
        failed: ![GRPC_OK, GRPC_CANCELLED].contains(&status) || spans.iter().any(errors),
        failover: spans.iter().any(failover),
        duration: root.end_time.duration_since(root.start_time).unwrap_or_default(),
        slow_after: if live::may_wait_for_chain(&root.name) || op == BATCH_OP {
            tail_policy::SLOW_REGISTRATION
        } else {
            tail_policy::SLOW_CALL
        },
        background: op == HEALTH_CHECK_OP || bool_attribute(&root.attributes, REPEATED_ATTRIBUTE),
    }
}

fn find_attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    // What is recorded again comes later.
    attributes.iter().rev().find(|attribute| attribute.key.as_str() == key).map(|attribute| &attribute.value)
}

/// The text of an attribute.
pub(super) fn text_attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    if let Value::String(text) = find_attribute(attributes, key)? { Some(text.as_str()) } else { None }
}

/// The number of an attribute.
pub(super) fn int_attribute(attributes: &[KeyValue], key: &str) -> Option<i64> {
    if let Value::I64(number) = find_attribute(attributes, key)? { Some(*number) } else { None }
}

fn bool_attribute(attributes: &[KeyValue], key: &str) -> bool {
    matches!(find_attribute(attributes, key), Some(Value::Bool(true)))
}

/// A span's operation.
pub(super) fn span_op(attributes: &[KeyValue]) -> &str {
    text_attribute(attributes, OP_ATTRIBUTE).unwrap_or("default")
}
