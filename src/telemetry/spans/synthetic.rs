//! The spans of a registration, made when it ends. Until then it only records times and numbers; if its trace is not
//! kept, no span is ever made.

use super::{
    attributes::{BAGGAGE_ATTRIBUTE, OP_ATTRIBUTE, own_scope},
    context::{otel_span_id, otel_trace_id, remote_span_context},
    pipeline::pipeline,
    segment::Segment,
    tail_policy::KeepReason,
};
use crate::{
    registration::{SpanId, Timestamp, TraceContext, TraceId},
    telemetry::{
        metrics::{Decision, metrics},
        settings::SpanLimits,
    },
};
use opentelemetry::{
    KeyValue, Value,
    trace::{Link, SpanContext, SpanKind, Status, TraceFlags},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AttrValue {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl From<&str> for AttrValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for AttrValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for AttrValue {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u128> for AttrValue {
    fn from(number: u128) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for AttrValue {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for AttrValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct SpanRecord {
    pub(crate) op: &'static str,
    pub(crate) name: String,
    pub(crate) id: SpanId,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    /// A gRPC status in lower case, `ok` for success.
    pub(crate) status: &'static str,
    pub(crate) attributes: Vec<(&'static str, AttrValue)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpanLink {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// `batch`, `request` or `earlier`.
    pub(crate) kind: &'static str,
    pub(crate) sampled: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SpanTree {
    pub(crate) root: SpanRecord,
    /// In the order in which they began.
    pub(crate) children: Vec<SpanRecord>,
    pub(crate) links: Vec<SpanLink>,
}

/// Exports a finished registration if its trace is kept: for `reason`, by the head decision, or because another segment
/// of the trace is kept. With a `reason` of its own, the trace `also` is kept with it.
pub(crate) fn emit(
    trace: &TraceContext,
    reason: Option<KeepReason>,
    also: Option<TraceId>,
    tree: impl FnOnce() -> SpanTree,
) {
    let Some(pipeline) = pipeline().filter(|pipeline| !pipeline.export_queue.has_no_sinks()) else { return };
    let trace_id = otel_trace_id(trace.trace_id);
    let sampled = pipeline.is_sampled(trace);
    let related = || pipeline.trace_cache.is_kept(trace_id).then_some(KeepReason::Related);
    let Some(keep_reason) = sampled.then_some(KeepReason::Head).or(reason).or_else(related) else {
        return metrics().inc_telemetry_traces(Decision::Dropped);
    };
    let started = Instant::now();
    if let Some(also) = also.filter(|_| reason.is_some()) {
        pipeline.keep_trace(otel_trace_id(also));
    }
    let segment = tree().into_segment(trace, sampled, pipeline.limits);
    pipeline.export(trace_id, segment, keep_reason, reason.is_some());
    metrics().add_telemetry_processing(started.elapsed());
}

impl SpanTree {
    fn into_segment(self, trace: &TraceContext, sampled: bool, limits: SpanLimits) -> Segment {
        let root_id = self.root.id;
        let mut root = self.root.into_span_data(trace, sampled, trace.parent);
        root.parent_span_is_remote = true;
        root.links.links.extend(self.links.iter().take(limits.links as usize).map(|link| {
            let linked = remote_span_context(link.trace_id, link.span_id, link.sampled, "");
            Link::new(linked, vec![KeyValue::new("link.kind", link.kind)], 0)
        }));
        if trace.baggage.contains("sentry-") {
            root.attributes.push(KeyValue::new(BAGGAGE_ATTRIBUTE, trace.baggage.clone()));
        }
        let mut spans = Vec::with_capacity(self.children.len() + 1);
        spans.extend(self.children.into_iter().map(|child| child.into_span_data(trace, sampled, Some(root_id))));
        spans.push(root);
        Segment { root_id: otel_span_id(root_id), call: None, spans, deferred: Vec::new() }
    }
}

impl SpanRecord {
    fn into_span_data(self, trace: &TraceContext, sampled: bool, parent: Option<SpanId>) -> SpanData {
        let mut attributes = vec![KeyValue::new(OP_ATTRIBUTE, self.op), KeyValue::new("status", self.status)];
        attributes.extend(self.attributes.into_iter().map(|(key, value)| KeyValue::new(key, Value::from(value))));
        SpanData {
            span_context: SpanContext::new(
                otel_trace_id(trace.trace_id),
                otel_span_id(self.id),
                TraceFlags::default().with_sampled(sampled),
                false,
                trace.tracestate.parse().unwrap_or_default(),
            ),
            parent_span_id: parent.map_or(opentelemetry::SpanId::INVALID, otel_span_id),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: self.name.into(),
            start_time: system_time(self.began),
            end_time: system_time(self.ended.max(self.began)),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if self.status == "ok" { Status::Unset } else { Status::error(self.status) },
            instrumentation_scope: own_scope(),
        }
    }
}

impl From<AttrValue> for Value {
    fn from(value: AttrValue) -> Self {
        match value {
            AttrValue::Text(text) => text.into(),
            AttrValue::Number(number) => number.into(),
            AttrValue::Flag(flag) => flag.into(),
        }
    }
}

fn system_time(timestamp: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(timestamp.micros()).unwrap_or(0))
}
