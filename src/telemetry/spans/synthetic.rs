//! Spans that are told when they have ended: a journey's. Until then they are nothing but a few times and numbers, and of a
//! journey that is not kept they never become more.

use super::{BAGGAGE_ATTRIBUTE, KeepReason, OP_ATTRIBUTE, Segment, live::remote_span_context, pipeline};
use crate::{
    registration::{SpanId, Timestamp, TraceContext, TraceId},
    telemetry::{
        SpanLimits,
        metrics::{Decision, metrics},
    },
};
use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{SpanContext, SpanKind, Status, TraceFlags},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;

/// A value of a span's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttrValue {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
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

/// One span of a story.
#[derive(Clone, Debug)]
pub struct SpanRecord {
    /// Its operation.
    pub op: &'static str,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: SpanId,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its status as gRPC names it, `ok` when nothing went wrong.
    pub status: &'static str,
    /// What people search by.
    pub attributes: Vec<(&'static str, AttrValue)>,
}

/// Another span that this one has to do with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanLink {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// What it is to this one: `batch`, `request`, `earlier`.
    pub kind: &'static str,
    /// Whether it is kept by the head decision.
    pub sampled: bool,
}

/// A span with those below it.
#[derive(Clone, Debug)]
pub struct SpanTree {
    /// The span above the others.
    pub root: SpanRecord,
    /// Those below it, in the order in which they began.
    pub children: Vec<SpanRecord>,
    /// What the root has to do with.
    pub links: Vec<SpanLink>,
}

/// A span id that nothing has.
pub fn new_span_id() -> SpanId {
    loop {
        if let Some(id) = SpanId::from_bytes(RandomIdGenerator::default().new_span_id().to_bytes()) {
            return id;
        }
    }
}

/// Tells a story that has ended, if it is kept: for a reason of its own, by the head decision, or because another part of its
/// trace is kept. `also` is a trace that then is kept with it.
pub fn emit(trace: &TraceContext, why: Option<KeepReason>, also: Option<TraceId>, story: impl FnOnce() -> SpanTree) {
    let Some(pipeline) = pipeline().filter(|pipeline| !pipeline.export_queue.has_no_sinks()) else { return };
    let trace_id = opentelemetry::TraceId::from_bytes(trace.trace_id.to_bytes());
    let sampled = pipeline.is_sampled(trace);
    let related = || pipeline.trace_cache.is_kept(trace_id).then_some(KeepReason::Related);
    let Some(reason) = sampled.then_some(KeepReason::Head).or(why).or_else(related) else {
        return metrics().inc_telemetry_traces(Decision::Dropped);
    };
    let begun = Instant::now();
    if let Some(also) = also.filter(|_| why.is_some()) {
        pipeline.keep_trace(opentelemetry::TraceId::from_bytes(also.to_bytes()));
    }
    pipeline.export(trace_id, story().into_segment(trace, sampled, pipeline.limits), reason, why.is_some());
    metrics().add_telemetry_processing(begun.elapsed());
}

impl SpanTree {
    fn into_segment(self, trace: &TraceContext, sampled: bool, limits: SpanLimits) -> Segment {
        let root_id = self.root.id;
        let mut root = self.root.into_span_data(trace, sampled, trace.parent);
        root.parent_span_is_remote = true;
        root.links.links.extend(self.links.iter().take(limits.links as usize).map(|link| {
            let kind = KeyValue::new("link.kind", link.kind);
            opentelemetry::trace::Link::new(
                remote_span_context(link.trace_id, link.span_id, link.sampled, ""),
                vec![kind],
                0,
            )
        }));
        if trace.baggage.contains("sentry-") {
            root.attributes.push(KeyValue::new(BAGGAGE_ATTRIBUTE, trace.baggage.clone()));
        }
        let mut spans = Vec::with_capacity(self.children.len() + 1);
        spans.extend(self.children.into_iter().map(|stage| stage.into_span_data(trace, sampled, Some(root_id))));
        spans.push(root);
        Segment { root_id: opentelemetry::SpanId::from_bytes(root_id.to_bytes()), spans, deferred: Vec::new() }
    }
}

impl SpanRecord {
    fn into_span_data(self, trace: &TraceContext, sampled: bool, parent: Option<SpanId>) -> SpanData {
        static SCOPE: LazyLock<InstrumentationScope> =
            LazyLock::new(|| InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build());
        let id = |id: SpanId| opentelemetry::SpanId::from_bytes(id.to_bytes());
        let mut attributes = vec![KeyValue::new(OP_ATTRIBUTE, self.op), KeyValue::new("status", self.status)];
        attributes.extend(self.attributes.into_iter().map(|(key, value)| KeyValue::new(key, Value::from(value))));
        SpanData {
            span_context: SpanContext::new(
                opentelemetry::TraceId::from_bytes(trace.trace_id.to_bytes()),
                id(self.id),
                TraceFlags::default().with_sampled(sampled),
                false,
                trace.tracestate.parse().unwrap_or_default(),
            ),
            parent_span_id: parent.map_or(opentelemetry::SpanId::INVALID, id),
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
            instrumentation_scope: SCOPE.clone(),
        }
    }
}

impl From<AttrValue> for Value {
    fn from(data: AttrValue) -> Self {
        match data {
            AttrValue::Text(text) => text.into(),
            AttrValue::Number(number) => number.into(),
            AttrValue::Flag(flag) => flag.into(),
        }
    }
}

fn system_time(timestamp: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(timestamp.micros()).unwrap_or(0))
}
