//! The spans of one trace in this process: a local root and its descendants.
//!
//! The span of a call, database spans and the attributes of a registration are deferred: they become spans and
//! attributes only if the segment is exported, on the export thread. Ninety-nine of a hundred calls are not exported,
//! and making a span costs as much for them.

use super::{attributes::OP_ATTRIBUTE, ended_call::EndedCall};
use crate::{
    registration::{CallerName, Pair, RegistrationId, UserId},
    telemetry::{settings::SpanLimits, user_id::exported_user_id},
};
use opentelemetry::{
    KeyValue, SpanId,
    trace::{Link, SpanContext, SpanKind, Status},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use std::time::SystemTime;

/// Ended spans, and deferred items. A call or a batch with RPC requests has about twenty.
pub(super) const MAX_SEGMENT_SPANS: usize = 512;

#[derive(Debug)]
pub(in crate::telemetry) struct Segment {
    pub(super) root_id: SpanId,
    /// The local root, until [`Self::materialize`].
    pub(super) call: Option<Box<EndedCall>>,
    /// In the order in which they ended.
    pub(in crate::telemetry) spans: Vec<SpanData>,
    /// By the span that each belongs to.
    pub(super) deferred: Vec<(SpanId, Deferred)>,
}

#[derive(Debug)]
pub(super) enum Deferred {
    DbSpan { operation: &'static str, began: SystemTime, ended: SystemTime },
    Registration(Box<RegistrationAttrs>),
}

#[derive(Debug)]
pub(super) struct RegistrationAttrs {
    pub(super) id: RegistrationId,
    pub(super) pair: Pair,
    pub(super) user_id: Option<UserId>,
    pub(super) caller: Option<CallerName>,
    /// The span that the registration was accepted in, if that is another one.
    pub(super) registration_span: Option<SpanContext>,
}

impl Segment {
    /// The local root, or the last span to end if the root was dropped at a limit.
    pub(in crate::telemetry) fn root_span(&self) -> Option<&SpanData> {
        self.spans.iter().find(|span| span.span_context.span_id() == self.root_id).or(self.spans.last())
    }

    /// Spans after [`Self::materialize`].
    pub(super) fn span_count(&self) -> usize {
        usize::from(self.call.is_some())
            + self.spans.len()
            + self.deferred.iter().filter(|(_, item)| matches!(item, Deferred::DbSpan { .. })).count()
    }

    /// Turns what was deferred into spans and attributes.
    pub(super) fn materialize(&mut self, limits: SpanLimits) {
        self.spans.extend(self.call.take().map(|call| call.into_span()));
        for (span_id, deferred) in std::mem::take(&mut self.deferred) {
            // Absent when the span was dropped at a limit.
            let Some(span) = self.spans.iter_mut().find(|span| span.span_context.span_id() == span_id) else {
                continue;
            };
            match deferred {
                Deferred::DbSpan { operation, began, ended } => {
                    let db = db_span(span, operation, began, ended);
                    self.spans.push(db);
                }
                Deferred::Registration(attributes) => attributes.apply_to(span, limits),
            }
        }
    }
}

impl RegistrationAttrs {
    fn apply_to(self, span: &mut SpanData, limits: SpanLimits) {
        span.attributes.extend([
            KeyValue::new("registrationId", self.id.to_string()),
            KeyValue::new("documentHash", self.pair.document_hash.to_string()),
            KeyValue::new("caseId", self.pair.case_id.as_str().to_owned()),
        ]);
        span.attributes.extend(self.user_id.as_ref().map(|user| KeyValue::new("user.id", exported_user_id(user))));
        span.attributes.extend(self.caller.as_ref().map(|caller| KeyValue::new("caller", caller.to_string())));
        match self.registration_span {
            Some(registration) if span.links.len() < limits.links as usize => {
                let kind = vec![KeyValue::new("link.kind", "registration")];
                span.links.links.push(Link::new(registration, kind, 0));
            }
            Some(_) => span.links.dropped_count += 1,
            None => {}
        }
    }
}

fn db_span(parent: &SpanData, operation: &'static str, began: SystemTime, ended: SystemTime) -> SpanData {
    let parent_context = &parent.span_context;
    let id = RandomIdGenerator::default().new_span_id();
    let (flags, state) = (parent_context.trace_flags(), parent_context.trace_state().clone());
    SpanData {
        span_context: SpanContext::new(parent_context.trace_id(), id, flags, false, state),
        parent_span_id: parent_context.span_id(),
        parent_span_is_remote: false,
        span_kind: SpanKind::Client,
        name: operation.into(),
        start_time: began,
        end_time: ended.max(began),
        attributes: vec![KeyValue::new(OP_ATTRIBUTE, "db"), KeyValue::new("db.operation.name", operation)],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: parent.instrumentation_scope.clone(),
    }
}

/// Spans of one trace, which is sampled.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use opentelemetry::{InstrumentationScope, TraceFlags, TraceId};
    use std::time::{Duration, UNIX_EPOCH};

    pub(in crate::telemetry::spans) fn span_context(id: u64) -> SpanContext {
        SpanContext::new(TraceId::from(7), SpanId::from(id), TraceFlags::SAMPLED, false, Default::default())
    }

    pub(in crate::telemetry::spans) fn span(id: u64, name: &'static str) -> SpanData {
        SpanData {
            span_context: span_context(id),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: name.into(),
            start_time: UNIX_EPOCH,
            end_time: UNIX_EPOCH + Duration::from_secs(9),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::attributes::text_attribute, testing::span, *};
    use crate::registration::DocumentHash;
    use opentelemetry::TraceId;
    use std::time::{Duration, UNIX_EPOCH};

    fn call() -> SpanData {
        span(1, "call")
    }

    #[test]
    fn deferred_database_spans_and_registrations_become_child_spans_and_attributes() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let registration = RegistrationAttrs {
            id: RegistrationId::from_bytes([7; 16]),
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
            user_id: UserId::parse_optional("user-1").unwrap(),
            caller: "caller-1".parse().ok(),
            registration_span: Some(call().span_context),
        };
        let accept = Deferred::DbSpan { operation: "accept", began: at(2), ended: at(3) };
        let orphan = Deferred::DbSpan { operation: "orphan", began: at(2), ended: at(3) };
        let call_id = SpanId::from(1);
        let deferred = vec![
            (call_id, accept),
            (call_id, Deferred::Registration(Box::new(registration))),
            (SpanId::from(2), orphan),
        ];
        let mut segment = Segment { root_id: call_id, call: None, spans: vec![call()], deferred };
        segment.materialize(SpanLimits::default());

        let [call, db] = segment.spans.as_slice() else { panic!("{segment:?}") };
        assert_eq!((db.parent_span_id, db.span_context.trace_id()), (call_id, TraceId::from(7)));
        assert_eq!((db.name.as_ref(), db.start_time, db.end_time), ("accept", at(2), at(3)));
        assert!(db.span_context.is_sampled());
        for (key, value) in [("caseId", "case-1"), ("user.id", "user-1"), ("caller", "caller-1")] {
            assert_eq!(text_attribute(&call.attributes, key), Some(value));
        }
        assert_eq!(call.links.len(), 1);
    }
}
