//! Collects live spans until the last of those that hang together has ended, and has it decided then.
//!
//! Bounded three ways: spans that are open at once, spans of one segment, and, by both, all that is buffered. Beyond a bound
//! a span is decided about by itself, or lost, and counted.

use super::{Deferred, Segment, SpanPipeline};
use crate::telemetry::metrics::{Budget, metrics};
use opentelemetry::trace::Span as _;
use opentelemetry::{
    Context, SpanId, TraceId,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Locks are taken on one of so many parts.
const OPEN_SPAN_SHARDS: usize = 16;
/// Spans that are open, or wait for others of their segment, at once: three for each of the 10,000 calls that may wait.
const MAX_OPEN_SPANS: usize = 32_768;
/// Spans of one segment: a call that asks the chain has about twenty.
const MAX_SEGMENT_SPANS: usize = 512;

/// The processor.
#[derive(Debug)]
pub struct TailProcessor {
    pipeline: Arc<SpanPipeline>,
}

/// What has not ended yet.
#[derive(Debug, Default)]
pub(super) struct OpenSpans {
    shards: [Mutex<Shard>; OPEN_SPAN_SHARDS],
    buffered: AtomicUsize,
}

/// Traces whose ids end alike.
#[derive(Debug, Default)]
struct Shard {
    /// Each open span's local root.
    roots: HashMap<SpanId, SpanId>,
    segments: HashMap<SpanId, SegmentBuilder>,
}

#[derive(Debug, Default)]
struct SegmentBuilder {
    open_count: usize,
    ended: Vec<SpanData>,
    deferred: Vec<(SpanId, Deferred)>,
}

impl TailProcessor {
    /// Collects for this pipeline.
    pub fn new(pipeline: Arc<SpanPipeline>) -> Self {
        Self { pipeline }
    }
}

impl OpenSpans {
    fn shard(&self, trace_id: TraceId) -> MutexGuard<'_, Shard> {
        let [.., last] = trace_id.to_bytes();
        self.shards[usize::from(last) % OPEN_SPAN_SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_span(&self, trace_id: TraceId, span_id: SpanId, local_parent: Option<SpanId>) {
        if self.buffered.fetch_add(1, Ordering::Relaxed) >= MAX_OPEN_SPANS {
            self.buffered.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut part = self.shard(trace_id);
        let root = local_parent.and_then(|parent| part.roots.get(&parent).copied()).unwrap_or(span_id);
        part.roots.insert(span_id, root);
        part.segments.entry(root).or_default().open_count += 1;
    }

    /// Keeps what an open span has to say.
    pub(super) fn defer(&self, span: &SpanContext, note: Deferred) {
        let mut part = self.shard(span.trace_id());
        let Some(root) = part.roots.get(&span.span_id()).copied() else { return };
        let Some(segment) = part.segments.get_mut(&root) else { return };
        if segment.deferred.len() < MAX_SEGMENT_SPANS {
            segment.deferred.push((span.span_id(), note));
        } else {
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
    }

    /// The segment that has ended with this span.
    fn end_span(&self, span: SpanData) -> Option<Segment> {
        let mut part = self.shard(span.span_context.trace_id());
        let Some(root) = part.roots.remove(&span.span_context.span_id()) else {
            drop(part);
            return Some(single_span_segment(span));
        };
        let segment = part.segments.get_mut(&root)?;
        segment.open_count -= 1;
        let full = segment.ended.len() >= MAX_SEGMENT_SPANS && span.span_context.span_id() != root;
        let beyond = if full {
            Some(span)
        } else {
            // Most segments have one span, and a span is large: four, with which a vector begins, are more than malloc does quickly.
            segment.ended.reserve_exact(usize::from(segment.ended.is_empty()));
            segment.ended.push(span);
            None
        };
        let ended = (segment.open_count == 0).then(|| part.segments.remove(&root)).flatten();
        drop(part);
        if beyond.is_some() {
            self.buffered.fetch_sub(1, Ordering::Relaxed);
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
        let SegmentBuilder { ended: spans, deferred: notes, .. } = ended?;
        self.buffered.fetch_sub(spans.len(), Ordering::Relaxed);
        Some(Segment { root_id: root, spans, deferred: notes })
    }
}

/// There was no room for it when it began: it is decided about by itself, for it may have failed.
fn single_span_segment(span: SpanData) -> Segment {
    metrics().add_telemetry_dropped(Budget::Spans, 1);
    Segment { root_id: span.span_context.span_id(), spans: vec![span], deferred: Vec::new() }
}

impl SpanProcessor for TailProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        let own = span.span_context();
        let parent = context.span();
        let parent = parent.span_context();
        let local = parent.is_valid() && !parent.is_remote();
        self.pipeline.open_spans.start_span(own.trace_id(), own.span_id(), local.then(|| parent.span_id()));
    }

    fn on_end(&self, span: SpanData) {
        if let Some(ended) = self.pipeline.open_spans.end_span(span) {
            self.pipeline.decide(ended);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
