//! The span of a gRPC call, kept as plain values. Ninety-nine of a hundred calls are not exported, and a live span costs
//! as much for them as for the others; so this one becomes a span only when its segment is exported.

use super::{
    attributes::{BAGGAGE_ATTRIBUTE, FAILOVER_ATTRIBUTE, OP_ATTRIBUTE, REPEATED_ATTRIBUTE, SERVER_OP},
    context::{otel_span_id, otel_trace_id},
    pipeline::{SpanPipeline, pipeline},
    segment::{Deferred, Segment},
};
use crate::{
    registration::{CallerName, SpanId, TraceContext, UserId},
    telemetry::{
        event_listener::EventListener,
        ids::new_span_id,
        metrics::{Budget, metrics},
        propagation,
        user_id::exported_user_id,
    },
};
use futures_util::future::Either;
use opentelemetry::{
    Context, ContextGuard, InstrumentationScope, KeyValue,
    trace::{Event, FutureExt, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::SystemTime,
};
use tracing::{Level, Metadata, Subscriber, field};
use tracing_subscriber::{Layer, layer, registry::LookupSpan};

/// A call with RPC requests has about twenty spans.
const MAX_CALL_SPANS: usize = 512;

/// The span of a call that lasts. Dropped without [`Self::end`], nothing is exported.
#[derive(Debug, Default)]
pub(crate) struct CallSpan(Option<Open>);

#[derive(Debug)]
struct Open {
    record: Arc<CallRecord>,
    /// In which the call runs: with the ids of its span, and its record.
    context: Context,
}

/// Of the call in whose context something runs.
struct InCall(Arc<CallRecord>);

#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) span_context: SpanContext,
    parent: Option<SpanId>,
    /// `package.Service/Method`.
    name: &'static str,
    began: SystemTime,
    /// With members of Sentry's.
    baggage: Option<String>,
    /// Of other tracing systems, with their attributes.
    foreign_ids: Vec<(&'static str, String)>,
    progress: Mutex<Progress>,
}

/// What happens during a call.
#[derive(Debug, Default)]
struct Progress {
    facts: CallFacts,
    /// Child spans that have not ended.
    open_spans: usize,
    ended_spans: Vec<SpanData>,
    deferred: Vec<(opentelemetry::SpanId, Deferred)>,
    end: Option<CallEnd>,
}

#[derive(Debug, Default)]
struct CallFacts {
    caller: Option<CallerName>,
    /// Named by the call, and queued by it.
    documents: Option<(usize, usize)>,
    user: Option<UserId>,
    saw_failover: bool,
    is_repeated: bool,
    events: SpanEvents,
}

#[derive(Clone, Copy, Debug)]
struct CallEnd {
    at: SystemTime,
    grpc_code: i32,
    is_error: bool,
}

/// A call that has ended, to become a span.
#[derive(Debug)]
pub(super) struct EndedCall {
    record: Arc<CallRecord>,
    facts: CallFacts,
    end: CallEnd,
}

/// Begins the span of a call, in the caller's trace and as a child of its span, if there are any. Sets `trace` to the ids and the head
/// decision of the new span. None while tracing is disabled.
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
    let span_context = SpanContext::new(otel_trace_id(trace.trace_id), otel_span_id(id), flags, false, state);
    let record = Arc::new(CallRecord {
        span_context: span_context.clone(),
        parent: trace.parent,
        name: path.trim_start_matches('/'),
        began: SystemTime::now(),
        baggage: trace.baggage.contains("sentry-").then(|| trace.baggage.clone()),
        foreign_ids: propagation::foreign_ids(headers),
        progress: Mutex::default(),
    });
    // Not of a remote span: the flag is that of the ids.
    let context = Context::new().with_remote_span_context(span_context).with_value(InCall(record.clone()));
    let context = propagation::with_forwarded_state(context, trace);
    trace.parent = Some(id);
    trace.sampled = Some(sampled);
    CallSpan(Some(Open { record, context }))
}

impl CallSpan {
    /// No `async fn`, which would have room for the work twice.
    pub(crate) fn run<W: Future>(&self, work: W) -> impl Future<Output = W::Output> + use<W> {
        match &self.0 {
            Some(open) => Either::Left(work.with_context(open.context.clone())),
            None => Either::Right(work),
        }
    }

    /// Until the guard is dropped, what happens on this thread belongs to the call.
    pub(crate) fn enter(&self) -> Option<ContextGuard> {
        self.0.as_ref().map(|open| open.context.clone().attach())
    }

    /// The call is over. Its children may last longer.
    pub(crate) fn end(&mut self, grpc_code: i32, is_error: bool) {
        let (Some(Open { record, .. }), Some(pipeline)) = (self.0.take(), pipeline()) else { return };
        let end = CallEnd { at: SystemTime::now(), grpc_code, is_error };
        record.progress.lock().end = Some(end);
        record.decide_if_complete(pipeline);
    }
}

impl CallRecord {
    /// The call in whose context this runs.
    pub(super) fn of(context: &Context) -> Option<&Arc<Self>> {
        context.get::<InCall>().map(|InCall(record)| record)
    }

    fn span_id(&self) -> opentelemetry::SpanId {
        self.span_context.span_id()
    }

    /// Whether no child span of it is the current one.
    pub(super) fn is_current(&self, context: &Context) -> bool {
        context.span().span_context().span_id() == self.span_id()
    }

    fn add_event(&self, event: &tracing::Event<'_>) {
        let level = KeyValue::new("level", event.metadata().level().as_str());
        let mut fields = EventFields { message: String::new(), attributes: vec![level] };
        event.record(&mut fields);
        let max = pipeline().map_or(0, |pipeline| pipeline.limits.events) as usize;
        let events = &mut self.progress.lock().facts.events;
        if events.events.len() < max {
            events.events.push(Event::new(fields.message, SystemTime::now(), fields.attributes, 0));
        } else {
            events.dropped_count += 1;
        }
    }

    /// Whether a child span that starts now belongs to the call: it is over otherwise.
    pub(super) fn start_child(&self) -> bool {
        let mut progress = self.progress.lock();
        let is_open = progress.end.is_none();
        progress.open_spans += usize::from(is_open);
        is_open
    }

    pub(super) fn end_child(self: &Arc<Self>, span: SpanData, pipeline: &SpanPipeline) {
        let mut progress = self.progress.lock();
        progress.open_spans -= 1;
        let is_full = progress.ended_spans.len() >= MAX_CALL_SPANS;
        if !is_full {
            progress.ended_spans.push(span);
        }
        drop(progress);
        if is_full {
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
        self.decide_if_complete(pipeline);
    }

    pub(super) fn defer(&self, span_id: opentelemetry::SpanId, deferred: Deferred) {
        let mut progress = self.progress.lock();
        if progress.deferred.len() < MAX_CALL_SPANS {
            progress.deferred.push((span_id, deferred));
        } else {
            drop(progress);
            metrics().add_telemetry_dropped(Budget::Segment, 1);
        }
    }

    fn decide_if_complete(self: &Arc<Self>, pipeline: &SpanPipeline) {
        let mut progress = self.progress.lock();
        let Some(end) = progress.end.filter(|_| progress.open_spans == 0) else { return };
        let Progress { facts, ended_spans, deferred, .. } = std::mem::take(&mut *progress);
        progress.end = Some(end);
        drop(progress);
        let call = EndedCall { record: self.clone(), facts, end };
        pipeline.decide(Segment { root_id: self.span_id(), call: Some(Box::new(call)), spans: ended_spans, deferred });
    }
}

/// Changes what is known of the call in whose context this runs.
fn with_facts(change: impl FnOnce(&mut CallFacts)) {
    Context::map_current(|context| {
        if let Some(record) = CallRecord::of(context) {
            change(&mut record.progress.lock().facts);
        }
    });
}

/// Adds to the current call's span how many documents it has named, and how many of them were queued by it.
pub(crate) fn annotate_batch_call(documents: usize, new: usize, user: Option<&UserId>) {
    with_facts(|facts| {
        facts.documents = Some((documents, new));
        facts.user = user.cloned();
    });
}

/// Adds the caller to the current call's span.
pub(in crate::telemetry) fn annotate_caller(caller: &CallerName) {
    with_facts(|facts| facts.caller = Some(caller.clone()));
}

/// Marks the current call as one that fails like an earlier one, which is exported: this one is not.
pub(crate) fn mark_repeated_call() {
    with_facts(|facts| facts.is_repeated = true);
}

pub(super) fn mark_call_with_failover() {
    with_facts(|facts| facts.saw_failover = true);
}

impl EndedCall {
    pub(super) fn span_context(&self) -> &SpanContext {
        &self.record.span_context
    }

    pub(super) fn name(&self) -> &'static str {
        self.record.name
    }

    pub(super) fn duration(&self) -> std::time::Duration {
        self.end.at.duration_since(self.record.began).unwrap_or_default()
    }

    pub(super) fn grpc_code(&self) -> i32 {
        self.end.grpc_code
    }

    pub(super) fn is_error(&self) -> bool {
        self.end.is_error
    }

    pub(super) fn saw_failover(&self) -> bool {
        self.facts.saw_failover
    }

    pub(super) fn is_repeated(&self) -> bool {
        self.facts.is_repeated
    }

    pub(super) fn into_span(self) -> SpanData {
        static SCOPE: LazyLock<InstrumentationScope> =
            LazyLock::new(|| InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build());
        let Self { record, facts, end } = self;
        let mut attributes = vec![
            KeyValue::new(OP_ATTRIBUTE, SERVER_OP),
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", record.name.rsplit('/').next().unwrap_or_default()),
            KeyValue::new("rpc.grpc.status_code", i64::from(end.grpc_code)),
        ];
        let mut add = |key, value: opentelemetry::Value| attributes.push(KeyValue::new(key, value));
        // A u64 becomes a text in the export.
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        if let Some(caller) = facts.caller {
            add("caller", caller.to_string().into());
        }
        if let Some((documents, new)) = facts.documents {
            add("documents", count(documents).into());
            add("newDocuments", count(new).into());
        }
        if let Some(user) = &facts.user {
            add("user.id", exported_user_id(user).into());
        }
        for (key, is_set) in [(FAILOVER_ATTRIBUTE, facts.saw_failover), (REPEATED_ATTRIBUTE, facts.is_repeated)] {
            if is_set {
                add(key, true.into());
            }
        }
        if let Some(baggage) = &record.baggage {
            add(BAGGAGE_ATTRIBUTE, baggage.clone().into());
        }
        for (key, id) in &record.foreign_ids {
            add(key, id.clone().into());
        }
        SpanData {
            span_context: record.span_context.clone(),
            parent_span_id: record.parent.map_or(opentelemetry::SpanId::INVALID, otel_span_id),
            parent_span_is_remote: record.parent.is_some(),
            span_kind: SpanKind::Server,
            name: record.name.into(),
            start_time: record.began,
            end_time: end.at.max(record.began),
            attributes,
            dropped_attributes_count: 0,
            events: facts.events,
            links: SpanLinks::default(),
            status: if end.is_error { Status::error("") } else { Status::Unset },
            instrumentation_scope: SCOPE.clone(),
        }
    }
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
        Context::map_current(|context| {
            if let Some(call) = CallRecord::of(context).filter(|call| call.is_current(context)) {
                call.add_event(event);
            }
        });
    }
}

struct EventFields {
    message: String,
    attributes: Vec<KeyValue>,
}

impl EventFields {
    fn add(&mut self, field: &field::Field, value: impl Into<opentelemetry::Value>) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }
}

impl field::Visit for EventFields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, text);
        }
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.add(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.add(field, value);
    }
}
