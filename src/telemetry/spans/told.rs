//! Spans that are told when they have ended: a journey's. Until then they are nothing but a few times and numbers, and of a
//! journey that is not kept they never become more.

use super::{BAGGAGE, OP, Reason, Segment, live::remote, pipeline};
use crate::{
    registration::{SpanId, Timestamp, TraceContext, TraceId},
    telemetry::{SpanLimits, metrics},
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
pub enum Data {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Data {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Data {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Data {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u128> for Data {
    fn from(number: u128) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Data {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Data {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// One span of a story.
#[derive(Clone, Debug)]
pub struct Stage {
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
    pub data: Vec<(&'static str, Data)>,
}

/// Another span that this one has to do with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
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
pub struct Story {
    /// The span above the others.
    pub root: Stage,
    /// Those below it, in the order in which they began.
    pub stages: Vec<Stage>,
    /// What the root has to do with.
    pub links: Vec<Link>,
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
pub fn tell(trace: &TraceContext, why: Option<Reason>, also: Option<TraceId>, story: impl FnOnce() -> Story) {
    let Some(pipeline) = pipeline().filter(|pipeline| !pipeline.delivery.is_idle()) else { return };
    let trace_id = opentelemetry::TraceId::from_bytes(trace.trace_id.to_bytes());
    let sampled = pipeline.is_sampled(trace);
    let related = || pipeline.memory.is_kept(trace_id).then_some(Reason::Related);
    let Some(reason) = sampled.then_some(Reason::Head).or(why).or_else(related) else {
        return metrics().telemetry_trace("dropped");
    };
    let begun = Instant::now();
    if let Some(also) = also.filter(|_| why.is_some()) {
        pipeline.keep(opentelemetry::TraceId::from_bytes(also.to_bytes()));
    }
    pipeline.deliver(trace_id, story().segment(trace, sampled, pipeline.limits), reason, why.is_some());
    metrics().telemetry_processing(begun.elapsed());
}

impl Story {
    fn segment(self, trace: &TraceContext, sampled: bool, limits: SpanLimits) -> Segment {
        let root_id = self.root.id;
        let mut root = self.root.span(trace, sampled, trace.parent, limits);
        root.parent_span_is_remote = true;
        root.links.links.extend(self.links.iter().take(limits.links as usize).map(|link| {
            let kind = KeyValue::new("link.kind", link.kind);
            opentelemetry::trace::Link::new(remote(link.trace_id, link.span_id, link.sampled, ""), vec![kind], 0)
        }));
        if trace.baggage.contains("sentry-") {
            root.attributes.push(KeyValue::new(BAGGAGE, trace.baggage.clone()));
        }
        let mut spans = Vec::with_capacity(self.stages.len() + 1);
        spans.extend(self.stages.into_iter().map(|stage| stage.span(trace, sampled, Some(root_id), limits)));
        spans.push(root);
        Segment { root: opentelemetry::SpanId::from_bytes(root_id.to_bytes()), spans, notes: Vec::new() }
    }
}

impl Stage {
    fn span(self, trace: &TraceContext, sampled: bool, parent: Option<SpanId>, limits: SpanLimits) -> SpanData {
        static SCOPE: LazyLock<InstrumentationScope> =
            LazyLock::new(|| InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build());
        let id = |id: SpanId| opentelemetry::SpanId::from_bytes(id.to_bytes());
        let mut attributes = vec![KeyValue::new(OP, self.op), KeyValue::new("status", self.status)];
        attributes.extend(self.data.into_iter().map(|(key, value)| KeyValue::new(key, Value::from(value))));
        let most = usize::try_from(limits.attributes).unwrap_or(usize::MAX);
        let dropped = attributes.len().saturating_sub(most);
        attributes.truncate(most);
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
            start_time: time(self.began),
            end_time: time(self.ended.max(self.began)),
            attributes,
            dropped_attributes_count: u32::try_from(dropped).unwrap_or(u32::MAX),
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if self.status == "ok" { Status::Unset } else { Status::error(self.status) },
            instrumentation_scope: SCOPE.clone(),
        }
    }
}

impl From<Data> for Value {
    fn from(data: Data) -> Self {
        match data {
            Data::Text(text) => text.into(),
            Data::Number(number) => number.into(),
            Data::Flag(flag) => flag.into(),
        }
    }
}

fn time(timestamp: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(timestamp.micros()).unwrap_or(0))
}
