//! Spans of work that a call or a batch waits for. Names are static, ids are fields.

use super::{
    attributes::{BATCH_OP, FAILOVER_ATTRIBUTE, HEALTH_CHECK_OP, REPEATED_ATTRIBUTE},
    call::mark_call_with_failover,
    call_record::CallRecord,
    context::{is_local, remote_span_context, span_ids},
    pipeline::pipeline,
    segment::{Deferred, RegistrationAttrs},
};
use crate::{
    registration::{Registration, SpanId, TraceContext, TraceId},
    telemetry::ids::new_span_id,
};
use opentelemetry::{Context, trace::TraceContextExt};
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
    /// Whether an RPC request of this batch failed over to another endpoint.
    static FAILOVER_SEEN: Arc<AtomicBool>;
}

/// Adds the registration to the current call's span. A call that found an existing registration is linked to its trace.
pub(crate) fn annotate_registration(registration: &Registration, is_new: bool) {
    let request = &registration.request;
    let trace = &request.trace;
    let span_context = |span_id| remote_span_context(trace.trace_id, span_id, trace.sampled.unwrap_or(false), "");
    defer(|| {
        Deferred::Registration(Box::new(RegistrationAttrs {
            id: registration.id,
            pair: request.pair.clone(),
            user_id: request.user_id.clone(),
            caller: request.caller.clone(),
            registration_span: trace.parent.filter(|_| !is_new).map(span_context),
        }))
    });
}

fn defer(deferred: impl FnOnce() -> Deferred) {
    if let Some(pipeline) = pipeline() {
        Context::map_current(|context| {
            let span = context.span();
            let span = span.span_context();
            if let Some(call) = CallRecord::of(context).filter(|call| call.is_current(context)) {
                call.defer(span.span_id(), deferred());
            } else if is_local(span) {
                pipeline.open_spans.defer(span, deferred());
            }
        });
    }
}

/// The span of a batch. It outlives single calls, so failovers are collected beside it.
#[derive(Clone, Debug)]
pub(crate) struct BatchSpan {
    span: Span,
    saw_failover: Arc<AtomicBool>,
}

/// Starts a trace for a batch, `sampled` if one of its registrations is.
pub(crate) fn batch(sampled: bool) -> BatchSpan {
    let saw_failover = Arc::new(AtomicBool::new(false));
    if pipeline().is_none() {
        return BatchSpan { span: Span::none(), saw_failover };
    }
    let span = info_span!(
        parent: None,
        "blockchain.batch",
        sentry.op = BATCH_OP,
        otel.name = "Register Batch on Blockchain",
        registrar.sampled = sampled,
        batchSize = Empty,
        from = Empty,
        nonce = Empty,
        txHash = Empty,
        repeated = Empty,
        failover = Empty,
    );
    BatchSpan { span, saw_failover }
}

impl BatchSpan {
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        FAILOVER_SEEN.scope(self.saw_failover.clone(), work).instrument(self.span.clone()).await
    }

    pub(crate) fn record_transaction(
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

    pub(crate) fn link_registration(&self, trace: &TraceContext, span: SpanId) {
        if !self.span.is_disabled() {
            self.span.add_link(remote_span_context(trace.trace_id, span, trace.sampled.unwrap_or(false), ""));
        }
    }

    /// Marks a batch that failed like the previous one: of those only a share is exported.
    pub(crate) fn mark_repeat(&self) {
        self.span.record(REPEATED_ATTRIBUTE, true);
    }

    /// For the links from its registrations.
    pub(crate) fn id(&self) -> Option<(TraceId, SpanId)> {
        if self.span.is_disabled() { None } else { span_ids(&self.span.context()) }
    }
}

/// Runs a database operation as a child span of the current one.
pub(crate) async fn db<T>(operation: &'static str, work: impl Future<Output = T>) -> T {
    let _guard = has_current_span().then(|| DbSpanGuard { operation, began: SystemTime::now() });
    work.await
}

/// Ends the span also when the future is dropped.
struct DbSpanGuard {
    operation: &'static str,
    began: SystemTime,
}

impl Drop for DbSpanGuard {
    fn drop(&mut self) {
        defer(|| Deferred::DbSpan { operation: self.operation, began: self.began, ended: SystemTime::now() });
    }
}

/// The span of a JSON-RPC request; none outside of a span, as in polling.
pub(crate) fn client(method: &'static str, endpoint: &str, attempt: u32) -> Span {
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

/// The span of a signature with all its tries; none outside of a span.
pub(crate) fn sign(signer: &dyn std::fmt::Display, backend: &'static str) -> Span {
    if !has_current_span() {
        return Span::none();
    }
    debug_span!(
        "blockchain.sign",
        sentry.op = "blockchain.sign",
        otel.name = "Sign Transaction",
        otel.kind = "client",
        otel.status_code = Empty,
        signer = %signer,
        backend,
        outcome = Empty,
    )
}

pub(crate) fn health_check(endpoint: &str) -> Span {
    if pipeline().is_none() {
        return Span::none();
    }
    info_span!(
        parent: None,
        "rpc.health_check",
        sentry.op = HEALTH_CHECK_OP,
        otel.name = format!("Check {endpoint}"),
        endpoint,
        blockNumber = Empty,
        lag = Empty,
    )
}

fn has_current_span() -> bool {
    pipeline().is_some() && Context::map_current(|context| is_local(context.span().span_context()))
}

/// Whether an RPC request of the current batch failed over to another endpoint.
pub(crate) fn saw_failover() -> bool {
    FAILOVER_SEEN.try_with(|seen| seen.load(Ordering::Relaxed)).unwrap_or(false)
}

pub(crate) fn record_failover() {
    if pipeline().is_some() {
        let span = Span::current();
        if span.is_none() {
            mark_call_with_failover();
        } else {
            span.record(FAILOVER_ATTRIBUTE, true);
        }
        // Fails outside of a batch.
        let _ = FAILOVER_SEEN.try_with(|seen| seen.store(true, Ordering::Relaxed));
    }
}

pub(crate) fn current_trace() -> Option<(TraceId, SpanId)> {
    span_ids(&Context::current())
}

/// Runs `act` inside this trace, so that its log lines and reports carry the trace id.
pub(in crate::telemetry) fn with_trace<T>(trace_id: TraceId, span_id: Option<SpanId>, act: impl FnOnce() -> T) -> T {
    if pipeline().is_none() {
        return act();
    }
    let span_id = span_id.unwrap_or_else(new_span_id);
    let _guard = Context::new().with_remote_span_context(remote_span_context(trace_id, span_id, false, "")).attach();
    act()
}
