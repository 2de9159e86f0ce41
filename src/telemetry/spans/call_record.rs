//! A call that lasts, and the live spans below it.

use super::{
    ended_call::{CallEnd, CallFacts, CallStart, EndedCall},
    segment::{Deferred, MAX_SEGMENT_SPANS, Segment},
};
use crate::telemetry::metrics::{Budget, metrics};
use opentelemetry::{
    Context, SpanId,
    trace::{Event, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use std::sync::Arc;

/// In the context of everything that a call does.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) start: CallStart,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    phase: Phase,
    facts: CallFacts,
    /// Child spans that have not ended.
    open_spans: usize,
    ended_spans: Vec<SpanData>,
    deferred: Vec<(SpanId, Deferred)>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Running,
    /// Its children may last longer.
    Ended(CallEnd),
    /// Its segment was returned.
    Complete,
}

/// How a context holds the call.
struct InCall(Arc<CallRecord>);

impl CallRecord {
    pub(super) fn new(start: CallStart) -> Arc<Self> {
        Arc::new(Self { start, progress: Mutex::default() })
    }

    /// A context in which the call's span is the current one.
    pub(super) fn context(self: &Arc<Self>) -> Context {
        // Not that of a remote span, in spite of the name: its ids are not marked so.
        Context::new().with_remote_span_context(self.start.span_context.clone()).with_value(InCall(self.clone()))
    }

    /// The call in whose context this runs.
    pub(super) fn of(context: &Context) -> Option<&Arc<Self>> {
        context.get::<InCall>().map(|InCall(record)| record)
    }

    /// Whether the current span is that of the call, and not of a child.
    pub(super) fn is_current(&self, context: &Context) -> bool {
        context.span().span_context().span_id() == self.start.span_context.span_id()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut CallFacts)) {
        change(&mut self.progress.lock().facts);
    }

    pub(super) fn add_event(&self, event: Event, max: usize) {
        self.change(|facts| {
            if facts.events.events.len() < max {
                facts.events.events.push(event);
            } else {
                facts.events.dropped_count += 1;
            }
        });
    }

    /// Whether a child span that starts now belongs to the call, which may be over.
    pub(super) fn start_child(&self) -> bool {
        let mut progress = self.progress.lock();
        let is_running = matches!(progress.phase, Phase::Running);
        progress.open_spans += usize::from(is_running);
        is_running
    }

    /// Returns the segment if this was what it waited for.
    pub(super) fn end_child(&self, span: SpanData) -> Option<Segment> {
        let mut progress = self.progress.lock();
        progress.open_spans -= 1;
        if progress.ended_spans.len() < MAX_SEGMENT_SPANS {
            progress.ended_spans.push(span);
        } else {
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
        self.complete(&mut progress)
    }

    /// Returns the segment if no child is open.
    pub(super) fn end(&self, end: CallEnd) -> Option<Segment> {
        let mut progress = self.progress.lock();
        progress.phase = Phase::Ended(end);
        self.complete(&mut progress)
    }

    pub(super) fn defer(&self, span_id: SpanId, deferred: Deferred) {
        let mut progress = self.progress.lock();
        if progress.deferred.len() < MAX_SEGMENT_SPANS {
            progress.deferred.push((span_id, deferred));
        } else {
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
    }

    fn complete(&self, progress: &mut Progress) -> Option<Segment> {
        let Phase::Ended(end) = progress.phase else { return None };
        if progress.open_spans > 0 {
            return None;
        }
        let complete = Progress { phase: Phase::Complete, ..Progress::default() };
        let Progress { facts, ended_spans, deferred, .. } = std::mem::replace(progress, complete);
        let call = EndedCall { start: self.start.clone(), facts, end };
        let root_id = self.start.span_context.span_id();
        Some(Segment { root_id, call: Some(Box::new(call)), spans: ended_spans, deferred })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::segment::testing::{span, span_context},
        *,
    };
    use opentelemetry::trace::Status;
    use std::time::{Duration, UNIX_EPOCH};

    fn running_call() -> Arc<CallRecord> {
        let start = CallStart {
            span_context: span_context(1),
            parent: None,
            name: "package.Service/Method",
            at: UNIX_EPOCH,
            baggage: None,
            foreign_ids: Vec::new(),
        };
        CallRecord::new(start)
    }

    fn end() -> CallEnd {
        CallEnd { at: UNIX_EPOCH + Duration::from_secs(1), grpc_code: 13, is_error: true }
    }

    #[test]
    fn a_call_and_its_children_are_one_segment_whichever_ends_last() {
        for call_is_last in [true, false] {
            let call = running_call();
            assert!(call.start_child());
            let (first, last) = if call_is_last {
                (call.end_child(span(2, "child")), call.end(end()))
            } else {
                (call.end(end()), call.end_child(span(2, "child")))
            };
            assert!(first.is_none(), "not complete");
            let mut segment = last.unwrap();
            segment.materialize(Default::default());
            let names: Vec<_> = segment.spans.iter().map(|span| span.name.as_ref()).collect();
            assert_eq!(names, ["child", "package.Service/Method"]);
            assert_eq!(segment.root_span().unwrap().status, Status::error(""));
            assert!(!call.start_child(), "the call is over");
        }
    }

    #[test]
    fn events_and_deferred_spans_are_limited() {
        let call = running_call();
        for _ in 0..3 {
            call.add_event(Event::with_name("warning"), 2);
        }
        for _ in 0..MAX_SEGMENT_SPANS + 1 {
            let deferred = Deferred::DbSpan { operation: "read", began: UNIX_EPOCH, ended: UNIX_EPOCH };
            call.defer(SpanId::from(1), deferred);
        }
        let mut segment = call.end(end()).unwrap();
        assert_eq!(segment.deferred.len(), MAX_SEGMENT_SPANS);
        segment.materialize(Default::default());
        let events = &segment.root_span().unwrap().events;
        assert_eq!((events.events.len(), events.dropped_count), (2, 1));
    }
}
