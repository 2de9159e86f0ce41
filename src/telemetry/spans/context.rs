//! Conversions between our trace ids and OpenTelemetry's contexts.

use crate::registration::{SpanId, TraceId};
use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt, TraceFlags, TraceState},
};

pub(super) fn remote_span_context(trace_id: TraceId, span_id: SpanId, sampled: bool, state: &str) -> SpanContext {
    SpanContext::new(
        otel_trace_id(trace_id),
        otel_span_id(span_id),
        TraceFlags::default().with_sampled(sampled),
        true,
        state.parse::<TraceState>().unwrap_or_default(),
    )
}

pub(super) fn otel_trace_id(id: TraceId) -> opentelemetry::TraceId {
    opentelemetry::TraceId::from_bytes(id.to_bytes())
}

pub(super) fn otel_span_id(id: SpanId) -> opentelemetry::SpanId {
    opentelemetry::SpanId::from_bytes(id.to_bytes())
}

/// Whether the span is one of this process.
pub(super) fn is_local(span: &SpanContext) -> bool {
    span.is_valid() && !span.is_remote()
}

/// `None` outside of a span.
pub(super) fn span_ids(context: &Context) -> Option<(TraceId, SpanId)> {
    let span = context.span();
    let span = span.span_context();
    Some((TraceId::from_bytes(span.trace_id().to_bytes())?, SpanId::from_bytes(span.span_id().to_bytes())?))
}
