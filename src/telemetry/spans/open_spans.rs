//! Live spans that have not been decided yet, grouped by segment.
//!
//! The number of open spans and the size of a segment are limited, and with both the memory used. A span that starts
//! beyond the first limit becomes a segment of its own; one that ends beyond the second is dropped. Both are counted.

use super::{
    segment::{Deferred, Segment},
    sharded::Sharded,
};
use crate::telemetry::metrics::{Budget, metrics};
use opentelemetry::{SpanId, TraceId, trace::SpanContext};
use opentelemetry_sdk::trace::SpanData;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Six spans for each of the 5,000 calls that may wait at once.
const MAX_OPEN_SPANS: usize = 32_768;
/// A call with RPC requests has about twenty spans.
const MAX_SEGMENT_SPANS: usize = 512;

#[derive(Debug, Default)]
pub(super) struct OpenSpans {
    shards: Sharded<Shard>,
    buffered: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    /// From each open span to its local root.
    roots: HashMap<SpanId, SpanId>,
    segments: HashMap<SpanId, SegmentBuilder>,
}

#[derive(Debug, Default)]
struct SegmentBuilder {
    open_count: usize,
    ended: Vec<SpanData>,
    deferred: Vec<(SpanId, Deferred)>,
}

impl OpenSpans {
    pub(super) fn start_span(&self, trace_id: TraceId, span_id: SpanId, local_parent: Option<SpanId>) {
        if self.buffered.fetch_add(1, Ordering::Relaxed) >= MAX_OPEN_SPANS {
            self.buffered.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut shard = self.shards.lock(trace_id);
        let root = local_parent.and_then(|parent| shard.roots.get(&parent).copied()).unwrap_or(span_id);
        shard.roots.insert(span_id, root);
        shard.segments.entry(root).or_default().open_count += 1;
    }

    pub(super) fn defer(&self, span: &SpanContext, deferred: Deferred) {
        let mut shard = self.shards.lock(span.trace_id());
        let Some(root) = shard.roots.get(&span.span_id()).copied() else { return };
        let Some(segment) = shard.segments.get_mut(&root) else { return };
        if segment.deferred.len() < MAX_SEGMENT_SPANS {
            segment.deferred.push((span.span_id(), deferred));
        } else {
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
    }

    /// Returns the segment if this was its last open span.
    pub(super) fn end_span(&self, span: SpanData) -> Option<Segment> {
        let mut shard = self.shards.lock(span.span_context.trace_id());
        let Some(root) = shard.roots.remove(&span.span_context.span_id()) else {
            drop(shard);
            return Some(single_span_segment(span));
        };
        let segment = shard.segments.get_mut(&root)?;
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
        let SegmentBuilder { ended: spans, deferred, .. } = complete?;
        self.buffered.fetch_sub(spans.len(), Ordering::Relaxed);
        Some(Segment { root_id: root, spans, deferred })
    }
}

/// For a span that started beyond the limit. It is decided by itself, because it may have failed.
fn single_span_segment(span: SpanData) -> Segment {
    metrics().add_telemetry_dropped(Budget::Spans, 1);
    Segment { root_id: span.span_context.span_id(), spans: vec![span], deferred: Vec::new() }
}
