//! Decides about each segment that has ended, and passes what is kept to the export queue.

use super::{
    attributes::{
        BATCH_OP, BATCH_SIZE_ATTRIBUTE, FAILOVER_ATTRIBUTE, HEALTH_CHECK_OP, REPEATED_ATTRIBUTE, bool_attribute,
        find_attribute, span_op,
    },
    context::otel_trace_id,
    ended_call::EndedCall,
    export_queue::{ExportQueue, Sink},
    head_sampler::HeadSampler,
    open_spans::OpenSpans,
    segment::{Deferred, Segment},
    tail_policy::{self, KeepReason, SegmentSummary},
    trace_cache::TraceCache,
};
use crate::{
    registration::{TraceContext, TraceId},
    telemetry::{
        metrics::{Decision, metrics},
        settings::SpanLimits,
    },
};
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

const GRPC_OK: i32 = 0;
/// The caller hung up, which is no failure.
const GRPC_CANCELLED: i32 = 1;

#[derive(Debug)]
pub(crate) struct SpanPipeline {
    pub(super) head_sampler: HeadSampler,
    pub(super) limits: SpanLimits,
    pub(super) open_spans: OpenSpans,
    pub(super) trace_cache: TraceCache,
    pub(super) export_queue: ExportQueue,
}

static PIPELINE: OnceLock<Arc<SpanPipeline>> = OnceLock::new();

/// `None` while tracing is disabled; spans are not even created then.
pub(super) fn pipeline() -> Option<&'static Arc<SpanPipeline>> {
    PIPELINE.get()
}

/// Keeps all segments of a trace in which an error was logged.
pub(in crate::telemetry) fn keep_failed_trace(trace_id: TraceId) {
    if let Some(pipeline) = pipeline() {
        pipeline.keep_trace(otel_trace_id(trace_id));
    }
}

impl SpanPipeline {
    /// Makes the pipeline of the process, or returns the one that exists.
    pub(in crate::telemetry) fn install(
        head_sampler: HeadSampler,
        limits: SpanLimits,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Arc<Self> {
        let new = || {
            Arc::new(Self {
                head_sampler,
                limits,
                open_spans: OpenSpans::default(),
                trace_cache: TraceCache::default(),
                export_queue: ExportQueue::start(sinks, limits),
            })
        };
        PIPELINE.get_or_init(new).clone()
    }

    /// The stored head decision of a trace, else the one that its id implies.
    pub(super) fn is_sampled(&self, trace: &TraceContext) -> bool {
        trace.sampled.unwrap_or_else(|| self.head_sampler.is_sampled_by_id(trace.trace_id.to_bytes()))
    }

    pub(super) fn decide(&self, segment: Segment) {
        if self.export_queue.has_no_sinks() {
            return;
        }
        let root = segment.root_span();
        let (trace_id, summary) = match (&segment.call, root) {
            (Some(call), _) => (call.start.span_context.trace_id(), summarize_call(call, &segment.spans)),
            (None, Some(root)) => (root.span_context.trace_id(), summarize(root, &segment.spans)),
            (None, None) => return,
        };
        let reason = tail_policy::keep_reason(&summary);
        if summary.background {
            // No other segment of its trace can fail later.
            metrics().inc_telemetry_traces(Decision::Background);
            return reason.map_or((), |reason| self.export_queue.enqueue(segment, reason));
        }
        if let Some(reason) = reason {
            return self.export(trace_id, segment, reason, summary.is_anomalous());
        }
        let has_registration =
            segment.deferred.iter().any(|(_, deferred)| matches!(deferred, Deferred::Registration(_)));
        let is_batch = |root: &SpanData| find_attribute(&root.attributes, BATCH_SIZE_ATTRIBUTE).is_some();
        let worth_holding = has_registration || root.is_some_and(is_batch);
        match self.trace_cache.hold(trace_id, segment, worth_holding) {
            Some(segment) => self.export(trace_id, segment, KeepReason::Related, false),
            None => metrics().inc_telemetry_traces(Decision::Dropped),
        }
    }

    /// Exports a segment; with `keep_trace` also the other segments of its trace.
    pub(super) fn export(
        &self,
        trace_id: opentelemetry::TraceId,
        segment: Segment,
        reason: KeepReason,
        keep_trace: bool,
    ) {
        metrics().inc_telemetry_traces(Decision::Kept(reason));
        if keep_trace {
            self.keep_trace(trace_id);
        }
        self.export_queue.enqueue(segment, reason);
    }

    /// Keeps the segments of this trace, held ones and future ones.
    pub(super) fn keep_trace(&self, trace_id: opentelemetry::TraceId) {
        for held in self.trace_cache.mark_kept(trace_id) {
            metrics().inc_telemetry_traces(Decision::Recalled);
            self.export_queue.enqueue(held, KeepReason::Related);
        }
    }

    /// Flushes the sinks; returns whether all of them finished in time.
    pub(in crate::telemetry) fn shutdown(&self, timeout: Duration) -> bool {
        self.export_queue.shutdown(timeout)
    }
}

fn summarize_call(call: &EndedCall, children: &[SpanData]) -> SegmentSummary {
    let is_repeated = call.facts.is_repeated;
    SegmentSummary {
        sampled: call.start.span_context.is_sampled() && !is_repeated,
        failed: ![GRPC_OK, GRPC_CANCELLED].contains(&call.end.grpc_code) || any_failed(children),
        failover: call.facts.saw_failover || any_failed_over(children),
        duration: call.duration(),
        slow_after: match may_wait_for_chain(call.start.name) {
            true => tail_policy::SLOW_REGISTRATION,
            false => tail_policy::SLOW_CALL,
        },
        background: is_repeated,
    }
}

fn summarize(root: &SpanData, spans: &[SpanData]) -> SegmentSummary {
    let op = span_op(&root.attributes);
    let repeated = bool_attribute(&root.attributes, REPEATED_ATTRIBUTE);
    SegmentSummary {
        sampled: root.span_context.is_sampled() && !repeated,
        failed: any_failed(spans),
        failover: any_failed_over(spans),
        duration: root.end_time.duration_since(root.start_time).unwrap_or_default(),
        slow_after: if op == BATCH_OP { tail_policy::SLOW_REGISTRATION } else { tail_policy::SLOW_CALL },
        background: op == HEALTH_CHECK_OP || repeated,
    }
}

fn any_failed(spans: &[SpanData]) -> bool {
    spans.iter().any(|span| matches!(span.status, Status::Error { .. }))
}

fn any_failed_over(spans: &[SpanData]) -> bool {
    spans.iter().any(|span| bool_attribute(&span.attributes, FAILOVER_ATTRIBUTE))
}

fn may_wait_for_chain(name: &str) -> bool {
    name.ends_with("/RegisterDocument") || name.ends_with("/WatchRegistration")
}
