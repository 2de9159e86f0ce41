//! Collects live spans until the last of those that hang together has ended, and has it decided then.
//!
//! Bounded three ways: spans that are open at once, spans of one segment, and, by both, all that is buffered. Beyond a bound
//! a span is decided about by itself, or lost, and counted.

use super::{Note, Pipeline, Segment, metrics};
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
const PARTS: usize = 16;
/// Spans that are open, or wait for others of their segment, at once: three for each of the 10,000 calls that may wait.
const MOST_SPANS: usize = 32_768;
/// Spans of one segment: a call that asks the chain has about twenty.
const MOST_IN_SEGMENT: usize = 512;

/// The processor.
#[derive(Debug)]
pub struct Tail {
    pipeline: Arc<Pipeline>,
}

/// What has not ended yet.
#[derive(Debug, Default)]
pub(super) struct Open {
    parts: [Mutex<Part>; PARTS],
    buffered: AtomicUsize,
}

/// Traces whose ids end alike.
#[derive(Debug, Default)]
struct Part {
    /// Each open span's local root.
    roots: HashMap<SpanId, SpanId>,
    segments: HashMap<SpanId, Growing>,
}

#[derive(Debug, Default)]
struct Growing {
    open: usize,
    ended: Vec<SpanData>,
    notes: Vec<(SpanId, Note)>,
}

impl Tail {
    /// Collects for this pipeline.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
    }
}

impl Open {
    fn part(&self, trace_id: TraceId) -> MutexGuard<'_, Part> {
        let [.., last] = trace_id.to_bytes();
        self.parts[usize::from(last) % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, trace_id: TraceId, span_id: SpanId, local_parent: Option<SpanId>) {
        if self.buffered.fetch_add(1, Ordering::Relaxed) >= MOST_SPANS {
            self.buffered.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let mut part = self.part(trace_id);
        let root = local_parent.and_then(|parent| part.roots.get(&parent).copied()).unwrap_or(span_id);
        part.roots.insert(span_id, root);
        part.segments.entry(root).or_default().open += 1;
    }

    /// Keeps what an open span has to say.
    pub(super) fn note(&self, span: &SpanContext, note: Note) {
        let mut part = self.part(span.trace_id());
        let Some(root) = part.roots.get(&span.span_id()).copied() else { return };
        let Some(segment) = part.segments.get_mut(&root) else { return };
        if segment.notes.len() < MOST_IN_SEGMENT {
            segment.notes.push((span.span_id(), note));
        } else {
            metrics().telemetry_dropped("segment", 1);
        }
    }

    /// The segment that has ended with this span.
    fn end(&self, span: SpanData) -> Option<Segment> {
        let mut part = self.part(span.span_context.trace_id());
        let Some(root) = part.roots.remove(&span.span_context.span_id()) else {
            drop(part);
            return Some(beyond(span));
        };
        let segment = part.segments.get_mut(&root)?;
        segment.open -= 1;
        let full = segment.ended.len() >= MOST_IN_SEGMENT && span.span_context.span_id() != root;
        let beyond = if full {
            Some(span)
        } else {
            // Most segments have one span, and a span is large: four, with which a vector begins, are more than malloc does quickly.
            segment.ended.reserve_exact(usize::from(segment.ended.is_empty()));
            segment.ended.push(span);
            None
        };
        let ended = (segment.open == 0).then(|| part.segments.remove(&root)).flatten();
        drop(part);
        if beyond.is_some() {
            self.buffered.fetch_sub(1, Ordering::Relaxed);
            metrics().telemetry_dropped("segment", 1);
        }
        let Growing { ended: spans, notes, .. } = ended?;
        self.buffered.fetch_sub(spans.len(), Ordering::Relaxed);
        Some(Segment { root, spans, notes })
    }
}

/// There was no room for it when it began: it is decided about by itself, for it may have failed.
fn beyond(span: SpanData) -> Segment {
    metrics().telemetry_dropped("spans", 1);
    Segment { root: span.span_context.span_id(), spans: vec![span], notes: Vec::new() }
}

impl SpanProcessor for Tail {
    fn on_start(&self, span: &mut Span, context: &Context) {
        let own = span.span_context();
        let parent = context.span();
        let parent = parent.span_context();
        let local = parent.is_valid() && !parent.is_remote();
        self.pipeline.open.begin(own.trace_id(), own.span_id(), local.then(|| parent.span_id()));
    }

    fn on_end(&self, span: SpanData) {
        if let Some(ended) = self.pipeline.open.end(span) {
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
