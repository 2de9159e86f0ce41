//! Live spans that have not been decided yet, grouped by segment.
//!
//! The number of open spans and the size of a segment are limited, and with both the memory used. A span that starts
//! beyond the first limit becomes a segment of its own; one that ends beyond the second is dropped. Both are counted.

use super::{
    call_record::CallRecord,
    segment::{Deferred, MAX_SEGMENT_SPANS, Segment},
    sharded::Sharded,
};
use crate::telemetry::metrics::{Budget, metrics};
use opentelemetry::{SpanId, TraceId, trace::SpanContext};
use opentelemetry_sdk::trace::SpanData;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Six spans below each of the 5,000 calls that may wait at once.
const MAX_OPEN_SPANS: usize = 32_768;

#[derive(Debug, Default)]
pub(super) struct OpenSpans {
    shards: Sharded<Shard>,
    buffered: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    roots: HashMap<SpanId, Root>,
    segments: HashMap<SpanId, SegmentBuilder>,
}

#[derive(Debug, Default)]
struct SegmentBuilder {
    open_count: usize,
    ended: Vec<SpanData>,
    deferred: Vec<(SpanId, Deferred)>,
}

/// The local root of an open span.
#[derive(Clone, Debug)]
enum Root {
    Span(SpanId),
    Call(Arc<CallRecord>),
}

/// What the end of a span means for its segment.
#[derive(Debug)]
pub(super) enum Ended {
    /// Others are open.
    Open,
    Complete(Segment),
    /// The call collects its own.
    OfCall(Arc<CallRecord>, Box<SpanData>),
}

impl OpenSpans {
    /// `call` is the one in whose context the span starts.
    pub(super) fn start_span(
        &self,
        trace_id: TraceId,
        span_id: SpanId,
        local_parent: Option<SpanId>,
        call: Option<&Arc<CallRecord>>,
    ) {
        if self.buffered.fetch_add(1, Ordering::Relaxed) >= MAX_OPEN_SPANS {
            self.buffered.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut shard = self.shards.lock(trace_id);
        if let Some(call) = call.filter(|call| call.start_child()) {
            shard.roots.insert(span_id, Root::Call(call.clone()));
            return;
        }
        let root = match local_parent.and_then(|parent| shard.roots.get(&parent)) {
            Some(Root::Span(root)) => *root,
            Some(Root::Call(_)) | None => span_id,
        };
        shard.roots.insert(span_id, Root::Span(root));
        shard.segments.entry(root).or_default().open_count += 1;
    }

    pub(super) fn defer(&self, span: &SpanContext, deferred: Deferred) {
        let mut shard = self.shards.lock(span.trace_id());
        let root = match shard.roots.get(&span.span_id()) {
            Some(Root::Span(root)) => *root,
            Some(Root::Call(call)) => return call.defer(span.span_id(), deferred),
            None => return,
        };
        let Some(segment) = shard.segments.get_mut(&root) else { return };
        if segment.deferred.len() < MAX_SEGMENT_SPANS {
            segment.deferred.push((span.span_id(), deferred));
        } else {
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
    }

    pub(super) fn end_span(&self, span: SpanData) -> Ended {
        let mut shard = self.shards.lock(span.span_context.trace_id());
        let root = match shard.roots.remove(&span.span_context.span_id()) {
            Some(Root::Span(root)) => root,
            Some(Root::Call(call)) => {
                self.buffered.fetch_sub(1, Ordering::Relaxed);
                return Ended::OfCall(call, Box::new(span));
            }
            None => {
                drop(shard);
                return Ended::Complete(single_span_segment(span));
            }
        };
        let Some(segment) = shard.segments.get_mut(&root) else { return Ended::Open };
        segment.open_count -= 1;
        let is_full = segment.ended.len() >= MAX_SEGMENT_SPANS && span.span_context.span_id() != root;
        // Freed after the lock is released.
        let dropped = if is_full {
            Some(span)
        } else {
            // Most segments have one span, and a span is large: the four that a vector allocates first are beyond the
            // sizes that malloc serves quickly.
            segment.ended.reserve_exact(usize::from(segment.ended.is_empty()));
            segment.ended.push(span);
            None
        };
        let complete = (segment.open_count == 0).then(|| shard.segments.remove(&root)).flatten();
        drop(shard);
        if dropped.is_some() {
            self.buffered.fetch_sub(1, Ordering::Relaxed);
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
        let Some(SegmentBuilder { ended: spans, deferred, .. }) = complete else { return Ended::Open };
        self.buffered.fetch_sub(spans.len(), Ordering::Relaxed);
        Ended::Complete(Segment { root_id: root, call: None, spans, deferred })
    }
}

/// For a span that started beyond the limit. It is decided by itself, because it may have failed.
fn single_span_segment(span: SpanData) -> Segment {
    metrics().add_telemetry_dropped(Budget::Spans, 1);
    Segment { root_id: span.span_context.span_id(), call: None, spans: vec![span], deferred: Vec::new() }
}
