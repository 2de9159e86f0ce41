//! What a piece of work says in passing: a verb of the store, which registration it is about. It is noted as it is, and becomes
//! spans and attributes only if it is kept, off everybody's way: of a hundred calls ninety-nine are not, and a span that nobody
//! sees costs as much as one that is seen.

use super::{OP_ATTRIBUTE, Segment};
use crate::{
    registration::{Pair, RegistrationId, UserId},
    telemetry::{SpanLimits, exported_user_id},
};
use opentelemetry::{
    KeyValue, SpanId,
    trace::{Link, SpanContext, SpanKind, Status},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use std::time::SystemTime;

/// Something that a span has to say.
#[derive(Debug)]
pub(super) enum Deferred {
    /// A verb of the store was done for it.
    DbSpan { operation: &'static str, began: SystemTime, ended: SystemTime },
    /// It is about this registration.
    Registration(Box<RegistrationAttrs>),
}

/// A registration, and the span that began it if that is another one.
#[derive(Debug)]
pub(super) struct RegistrationAttrs {
    pub(super) id: RegistrationId,
    pub(super) pair: Pair,
    pub(super) user_id: Option<UserId>,
    pub(super) registration_span: Option<SpanContext>,
}

impl Segment {
    /// How many spans it has when it is written out.
    pub(super) fn span_count(&self) -> usize {
        self.spans.len() + self.deferred.iter().filter(|(_, note)| matches!(note, Deferred::DbSpan { .. })).count()
    }

    /// Makes of the notes what they stand for.
    pub(super) fn materialize(&mut self, limits: SpanLimits) {
        for (span_id, note) in std::mem::take(&mut self.deferred) {
            let at = self.spans.iter().position(|span| span.span_context.span_id() == span_id);
            // The span itself was lost to a limit.
            let Some(span) = at.and_then(|at| self.spans.get_mut(at)) else { continue };
            match note {
                Deferred::DbSpan { operation: verb, began, ended } => {
                    let db = db_span(span, verb, (began, ended));
                    self.spans.push(db);
                }
                Deferred::Registration(about) => about.apply_to(span, limits),
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
        match self.registration_span {
            Some(journey) if span.links.len() < limits.links as usize => {
                let kind = vec![KeyValue::new("link.kind", "journey")];
                span.links.links.push(Link::new(journey, kind, 0));
            }
            Some(_) => span.links.dropped_count += 1,
            None => {}
        }
    }
}

fn db_span(parent: &SpanData, verb: &'static str, (began, ended): (SystemTime, SystemTime)) -> SpanData {
    let above = &parent.span_context;
    let id: SpanId = RandomIdGenerator::default().new_span_id();
    let (flags, state) = (above.trace_flags(), above.trace_state().clone());
    SpanData {
        span_context: SpanContext::new(above.trace_id(), id, flags, false, state),
        parent_span_id: above.span_id(),
        parent_span_is_remote: false,
        span_kind: SpanKind::Client,
        name: verb.into(),
        start_time: began,
        end_time: ended.max(began),
        attributes: vec![KeyValue::new(OP_ATTRIBUTE, "db"), KeyValue::new("db.operation.name", verb)],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: parent.instrumentation_scope.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::DocumentHash;
    use opentelemetry::{InstrumentationScope, TraceFlags, TraceId};
    use std::time::{Duration, UNIX_EPOCH};

    fn call() -> SpanData {
        let flags = TraceFlags::SAMPLED;
        SpanData {
            span_context: SpanContext::new(TraceId::from(7), SpanId::from(1), flags, false, Default::default()),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Server,
            name: "call".into(),
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

    #[test]
    fn what_a_call_noted_is_a_span_below_it_and_data_on_it() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let about = RegistrationAttrs {
            id: RegistrationId::from_bytes([7; 16]),
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() },
            user_id: UserId::parse_optional("user-1").unwrap(),
            registration_span: Some(call().span_context),
        };
        let verb = Deferred::DbSpan { operation: "accept", began: at(2), ended: at(3) };
        let lost = Deferred::DbSpan { operation: "lost", began: at(2), ended: at(3) };
        let of_call = SpanId::from(1);
        let notes = vec![(of_call, verb), (of_call, Deferred::Registration(Box::new(about))), (SpanId::from(2), lost)];
        let mut segment = Segment { root_id: of_call, spans: vec![call()], deferred: notes };
        segment.materialize(SpanLimits::default());

        let [call, db] = segment.spans.as_slice() else { panic!("{segment:?}") };
        assert_eq!((db.parent_span_id, db.span_context.trace_id()), (of_call, TraceId::from(7)));
        assert_eq!((db.name.as_ref(), db.start_time, db.end_time), ("accept", at(2), at(3)));
        assert!(db.span_context.is_sampled());
        for (key, value) in [("caseId", "case-1"), ("user.id", "user-1")] {
            assert_eq!(super::super::text_attribute(&call.attributes, key), Some(value));
        }
        assert_eq!(call.links.len(), 1);
    }
}
