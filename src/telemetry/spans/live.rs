//! Live spans: what happens while somebody waits for it. Their names are static, their ids are fields.

use super::{
    SpanPipeline,
    deferred::{Deferred, RegistrationAttrs},
    pipeline,
};
use crate::{
    registration::{Registration, SpanId, TraceContext, TraceId},
    telemetry::propagation,
};
use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt, TraceFlags, TraceState},
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use tracing::{Instrument, Span, debug_span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

tokio::task_local! {
    /// Whether a request of this piece of work had to be asked of another endpoint.
    static FAILOVER_SEEN: Arc<AtomicBool>;
}

/// Whether a call with this name may wait for the chain, so that it is not slow for taking long.
pub(super) fn may_wait_for_chain(name: &str) -> bool {
    name.ends_with("/RegisterDocument") || name.ends_with("/WatchRegistration")
}

/// The span of a call, below the caller's if there is one. From then on `trace` names this span: its trace, which was minted if
/// the caller named none, its id, and the head decision.
pub fn server(trace: &mut TraceContext, path: &'static str, headers: &http::HeaderMap) -> Span {
    let Some(pipeline) = pipeline() else { return Span::none() };
    let baggage = Some(trace.baggage.as_str()).filter(|baggage| baggage.contains("sentry-"));
    let name = path.trim_start_matches('/');
    let span = info_span!(
        parent: None,
        "grpc.server",
        sentry.op = super::SERVER_OP,
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = name.rsplit('/').next(),
        rpc.grpc.status_code = Empty,
        failover = Empty,
        registrar.baggage = baggage,
        caller.x_trace_id = Empty,
        caller.x_span_id = Empty,
        caller.x_parent_span_id = Empty,
    );
    propagation::record_foreign_ids(headers, &span);
    if let Some(parent) = trace.parent {
        let sampled = pipeline.head_sampler.is_caller_trace_sampled(trace);
        let parent = remote_span_context(trace.trace_id, parent, sampled, &trace.tracestate);
        // Fails only where the layer is not installed.
        let parent = Context::new().with_remote_span_context(parent);
        let _ = span.set_parent(propagation::with_forwarded_state(parent, trace));
    }
    let context = span.context();
    let own = context.span();
    let own = own.span_context();
    if let Some(trace_id) = TraceId::from_bytes(own.trace_id().to_bytes()) {
        trace.trace_id = trace_id;
        trace.parent = SpanId::from_bytes(own.span_id().to_bytes());
        trace.sampled = Some(own.is_sampled());
    }
    span
}

/// The call that goes on is about this registration. One that finds what another began is linked to the journey's trace.
pub fn annotate_registration(registration: &Registration, fresh: bool) {
    let asked = &registration.request;
    let journey = |parent| remote_span_context(asked.trace.trace_id, parent, asked.trace.sampled.unwrap_or(false), "");
    defer(|| {
        Deferred::Registration(Box::new(RegistrationAttrs {
            id: registration.id,
            pair: asked.pair.clone(),
            user_id: asked.user_id.clone(),
            registration_span: asked.trace.parent.filter(|_| !fresh).map(journey),
        }))
    });
}

/// Keeps what the span that goes on here has to say.
fn defer(note: impl FnOnce() -> Deferred) {
    if let Some(pipeline) = pipeline() {
        Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            if span.is_valid() && !span.is_remote() {
                pipeline.open_spans.defer(span, note());
            }
        });
    }
}

/// The span of what a lane does for a batch, with what was felt in it.
#[derive(Clone, Debug)]
pub struct BatchSpan {
    span: Span,
    saw_failover: Arc<AtomicBool>,
}

/// A new trace for a batch's own work; `sampled` as the journeys it carries.
pub fn batch(sampled: bool) -> BatchSpan {
    let felt = Arc::new(AtomicBool::new(false));
    let Some(_) = pipeline() else { return BatchSpan { span: Span::none(), saw_failover: felt } };
    let span = info_span!(
        parent: None,
        "blockchain.batch",
        sentry.op = super::BATCH_OP,
        otel.name = "Register Batch on Blockchain",
        registrar.sampled = sampled,
        batchSize = Empty,
        from = Empty,
        nonce = Empty,
        txHash = Empty,
        repeated = Empty,
        failover = Empty,
    );
    BatchSpan { span, saw_failover: felt }
}

impl BatchSpan {
    /// Does some of the batch's work.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        FAILOVER_SEEN.scope(self.saw_failover.clone(), work).instrument(self.span.clone()).await
    }

    /// What the batch has become.
    pub fn record_transaction(
        &self,
        from: &dyn std::fmt::Display,
        nonce: u64,
        hash: &dyn std::fmt::Display,
        size: usize,
    ) {
        if !self.span.is_disabled() {
            self.span.record("from", tracing::field::display(from));
            self.span.record("nonce", nonce.cast_signed());
            self.span.record("txHash", tracing::field::display(hash));
            self.span.record("batchSize", size as i64);
        }
    }

    /// Links it with a journey that it carries.
    pub fn link_registration(&self, trace: &TraceContext, span: SpanId) {
        if !self.span.is_disabled() {
            self.span.add_link(remote_span_context(trace.trace_id, span, trace.sampled.unwrap_or(false), ""));
        }
    }

    /// It met what the one before it had met: of those that try again and again, one is enough.
    pub fn mark_repeat(&self) {
        self.span.record(super::REPEATED_ATTRIBUTE, true);
    }

    /// Where it is, to be linked from its journeys.
    pub fn id(&self) -> Option<(TraceId, SpanId)> {
        if self.span.is_disabled() { None } else { span_ids(&self.span.context()) }
    }
}

/// Does a verb of the store, which becomes a span below the one that goes on here.
pub async fn db<T>(verb: &'static str, work: impl Future<Output = T>) -> T {
    let _ends = has_current_span().then(|| DbSpanGuard { operation: verb, began: SystemTime::now() });
    work.await
}

/// A verb that goes on. It ends when its answer is there, or when nobody waits for it any more.
struct DbSpanGuard {
    operation: &'static str,
    began: SystemTime,
}

impl Drop for DbSpanGuard {
    fn drop(&mut self) {
        defer(|| Deferred::DbSpan { operation: self.operation, began: self.began, ended: SystemTime::now() });
    }
}

/// The span of a JSON-RPC call; none where nobody has one that it would hang below, as in a poll.
pub fn client(method: &'static str, endpoint: &str, attempt: u32) -> Span {
    if !has_current_span() {
        return Span::none();
    }
    debug_span!(
        "rpc.client",
        sentry.op = "rpc.client",
        otel.name = method,
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system.name = "jsonrpc",
        endpoint,
        attempt = i64::from(attempt),
        rpc.response.status_code = Empty,
        outcome = Empty,
    )
}

/// The span of a look at an endpoint, which nobody asked for.
pub fn health_check(endpoint: &str) -> Span {
    if pipeline().is_none() {
        return Span::none();
    }
    info_span!(
        parent: None,
        "rpc.health_check",
        sentry.op = super::HEALTH_CHECK_OP,
        otel.name = format!("Check {endpoint}"),
        endpoint,
        blockNumber = Empty,
        lag = Empty,
    )
}

fn has_current_span() -> bool {
    pipeline().is_some() && !Span::current().is_none()
}

/// Whether a request of the batch that this is a part of had to be asked of another endpoint.
pub fn saw_failover() -> bool {
    FAILOVER_SEEN.try_with(|felt| felt.load(Ordering::Relaxed)).unwrap_or(false)
}

/// A call moved on to another endpoint: whoever it was for has felt it.
pub fn record_failover() {
    if pipeline().is_some() {
        Span::current().record(super::FAILOVER_ATTRIBUTE, true);
        // Outside of a batch there is nobody to be told.
        let _ = FAILOVER_SEEN.try_with(|felt| felt.store(true, Ordering::Relaxed));
    }
}

/// The trace and span that is going on here.
pub fn current_trace() -> Option<(TraceId, SpanId)> {
    span_ids(&Context::current())
}

/// Does something as a part of this trace: whatever is logged and reported in it belongs there.
pub fn with_trace<T>(trace_id: TraceId, span_id: Option<SpanId>, act: impl FnOnce() -> T) -> T {
    if pipeline().is_none() {
        return act();
    }
    let span_id = span_id.unwrap_or_else(super::new_span_id);
    let _inside = Context::new().with_remote_span_context(remote_span_context(trace_id, span_id, false, "")).attach();
    act()
}

pub(super) fn remote_span_context(trace_id: TraceId, span_id: SpanId, sampled: bool, state: &str) -> SpanContext {
    SpanContext::new(
        opentelemetry::TraceId::from_bytes(trace_id.to_bytes()),
        opentelemetry::SpanId::from_bytes(span_id.to_bytes()),
        TraceFlags::default().with_sampled(sampled),
        true,
        state.parse::<TraceState>().unwrap_or_default(),
    )
}

fn span_ids(context: &Context) -> Option<(TraceId, SpanId)> {
    let span = context.span();
    let span = span.span_context();
    Some((TraceId::from_bytes(span.trace_id().to_bytes())?, SpanId::from_bytes(span.span_id().to_bytes())?))
}

impl SpanPipeline {
    /// Whether a stored trace is kept by the head decision: the one that was made, else the one that would be.
    pub(super) fn is_sampled(&self, trace: &TraceContext) -> bool {
        trace.sampled.unwrap_or_else(|| self.head_sampler.is_sampled_by_id(trace.trace_id.to_bytes()))
    }
}
