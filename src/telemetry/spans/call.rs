//! The span of a gRPC call. Ninety-nine of a hundred calls are not exported, and a live span costs as much for them as
//! for the others; so a call is [recorded](CallRecord) as plain values, and becomes a span when it is exported.

use super::{
    call_record::CallRecord,
    context::{otel_span_id, otel_trace_id},
    ended_call::{CallEnd, CallFacts, CallStart},
    pipeline::pipeline,
};
use crate::{
    registration::{CallerName, TraceContext, UserId},
    telemetry::{event_fields::EventFields, event_listener::EventListener, ids::new_span_id, propagation},
};
use futures_util::future::Either;
use opentelemetry::{
    Context, ContextGuard, KeyValue,
    trace::{Event, FutureExt, SpanContext, TraceFlags},
};
use std::{sync::Arc, time::SystemTime};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, layer, registry::LookupSpan};

/// The span of a call that lasts; none while tracing is disabled. Dropped without [`Self::end`], nothing is exported.
#[derive(Debug, Default)]
pub(crate) struct CallSpan(Option<Recorded>);

#[derive(Debug)]
struct Recorded {
    record: Arc<CallRecord>,
    /// In which the call runs.
    context: Context,
}

/// Begins the span of a call, in the caller's trace and as a child of its span, if there are any. Sets `trace` to the
/// ids and the head decision of the new span.
pub(crate) fn server(trace: &mut TraceContext, path: &'static str, headers: &http::HeaderMap) -> CallSpan {
    let Some(pipeline) = pipeline() else { return CallSpan::default() };
    // A trace without both is a new one.
    let sampled = match trace.parent.is_some() || trace.sampled.is_some() {
        true => pipeline.head_sampler.is_caller_trace_sampled(trace),
        false => pipeline.head_sampler.is_sampled_by_id(trace.trace_id.to_bytes()),
    };
    let id = new_span_id();
    let flags = TraceFlags::default().with_sampled(sampled);
    let state = trace.tracestate.parse().unwrap_or_default();
    let record = CallRecord::new(CallStart {
        span_context: SpanContext::new(otel_trace_id(trace.trace_id), otel_span_id(id), flags, false, state),
        parent: trace.parent,
        name: path.trim_start_matches('/'),
        at: SystemTime::now(),
        baggage: trace.baggage.contains("sentry-").then(|| trace.baggage.clone()),
        foreign_ids: propagation::foreign_ids(headers),
    });
    let context = propagation::with_forwarded_state(record.context(), trace);
    trace.parent = Some(id);
    trace.sampled = Some(sampled);
    CallSpan(Some(Recorded { record, context }))
}

impl CallSpan {
    /// No `async fn`, which would have room for the work twice.
    pub(crate) fn run<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        match &self.0 {
            Some(recorded) => Either::Left(work.with_context(recorded.context.clone())),
            None => Either::Right(work),
        }
    }

    /// Until the guard is dropped, what happens on this thread belongs to the call.
    pub(crate) fn enter(&self) -> Option<ContextGuard> {
        self.0.as_ref().map(|recorded| recorded.context.clone().attach())
    }

    /// The call is over. Its children may last longer.
    pub(crate) fn end(&mut self, grpc_code: i32, is_error: bool) {
        let (Some(Recorded { record, .. }), Some(pipeline)) = (self.0.take(), pipeline()) else { return };
        if let Some(segment) = record.end(CallEnd { at: SystemTime::now(), grpc_code, is_error }) {
            pipeline.decide(segment);
        }
    }
}

/// Changes what is known of the call in whose context this runs.
fn change_current(change: impl FnOnce(&mut CallFacts)) {
    Context::map_current(|context| {
        if let Some(call) = CallRecord::of(context) {
            call.change(change);
        }
    });
}

/// Adds to the current call's span how many documents it has named, and how many of them were queued by it.
pub(crate) fn annotate_batch_call(documents: usize, new: usize, user: Option<&UserId>) {
    change_current(|facts| {
        facts.documents = Some((documents, new));
        facts.user = user.cloned();
    });
}

/// Adds the caller to the current call's span.
pub(in crate::telemetry) fn annotate_caller(caller: &CallerName) {
    change_current(|facts| facts.caller = Some(caller.clone()));
}

/// Marks the current call as one that fails like an earlier one, which is exported: this one is not.
pub(crate) fn mark_repeated_call() {
    change_current(|facts| facts.is_repeated = true);
}

pub(super) fn mark_call_with_failover() {
    change_current(|facts| facts.saw_failover = true);
}

/// Warnings and errors of a call become events of its span, unless they are of one of its live children.
pub(in crate::telemetry) fn listener<S>() -> EventListener<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let is_relevant =
        |metadata: &Metadata<'_>| *metadata.level() <= Level::WARN && metadata.target().starts_with("registrar");
    (is_relevant, CallEvents.boxed())
}

struct CallEvents;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for CallEvents {
    fn on_event(&self, event: &tracing::Event<'_>, _context: layer::Context<'_, S>) {
        let Some(pipeline) = pipeline() else { return };
        Context::map_current(|context| {
            if let Some(call) = CallRecord::of(context).filter(|call| call.is_current(context)) {
                call.add_event(span_event(event), pipeline.limits.events as usize);
            }
        });
    }
}

fn span_event(event: &tracing::Event<'_>) -> Event {
    let EventFields { message, fields } = EventFields::of(event);
    let mut attributes = vec![KeyValue::new("level", event.metadata().level().as_str())];
    attributes.extend(fields.into_iter().map(|(name, value)| match (value.as_str(), value.as_bool()) {
        (Some(text), _) => KeyValue::new(name, text.to_owned()),
        (None, Some(flag)) => KeyValue::new(name, flag),
        (None, None) => KeyValue::new(name, value.as_i64().unwrap_or(i64::MAX)),
    }));
    Event::new(message, SystemTime::now(), attributes, 0)
}
