//! What a piece of work says in passing: a verb of the store, which registration it is about. It is noted as it is, and becomes
//! spans and attributes only if it is kept, off everybody's way: of a hundred calls ninety-nine are not, and a span that nobody
//! sees costs as much as one that is seen.

use super::{OP, Segment};
use crate::{
    registration::{CaseId, DocumentHash, RegistrationId, UserId},
    telemetry::{SpanLimits, user_id},
};
use opentelemetry::{
    KeyValue, SpanId,
    trace::{Link, SpanContext, SpanKind, Status},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use std::time::SystemTime;

/// Something that a span has to say.
#[derive(Debug)]
pub(super) enum Note {
    /// A verb of the store was done for it.
    Db { verb: &'static str, began: SystemTime, ended: SystemTime },
    /// It is about this registration.
    About(Box<About>),
}

/// A registration, and the span that began it if that is another one.
#[derive(Debug)]
pub(super) struct About {
    pub(super) id: RegistrationId,
    pub(super) document_hash: DocumentHash,
    pub(super) case_id: CaseId,
    pub(super) user_id: Option<UserId>,
    pub(super) journey: Option<SpanContext>,
}

impl Segment {
    /// How many spans it has when it is written out.
    pub(super) fn len(&self) -> usize {
        self.spans.len() + self.notes.iter().filter(|(_, note)| matches!(note, Note::Db { .. })).count()
    }

    /// Makes of the notes what they stand for.
    pub(super) fn write_out(&mut self, limits: SpanLimits) {
        for (span_id, note) in std::mem::take(&mut self.notes) {
            let at = self.spans.iter().position(|span| span.span_context.span_id() == span_id);
            // The span itself was lost to a limit.
            let Some(span) = at.and_then(|at| self.spans.get_mut(at)) else { continue };
            match note {
                Note::Db { verb, began, ended } => {
                    let db = db(span, verb, (began, ended));
                    self.spans.push(db);
                }
                Note::About(about) => about.tell(span, limits),
            }
        }
    }
}

impl About {
    fn tell(self, span: &mut SpanData, limits: SpanLimits) {
        let mut attributes = vec![
            KeyValue::new("registrationId", self.id.to_string()),
            KeyValue::new("documentHash", self.document_hash.to_string()),
            KeyValue::new("caseId", self.case_id.as_str().to_owned()),
        ];
        attributes.extend(self.user_id.as_ref().map(|user| KeyValue::new("user.id", user_id(user))));
        let room = usize::try_from(limits.attributes).unwrap_or(usize::MAX).saturating_sub(span.attributes.len());
        let dropped = attributes.len().saturating_sub(room);
        span.dropped_attributes_count += u32::try_from(dropped).unwrap_or(u32::MAX);
        span.attributes.extend(attributes.into_iter().take(room));
        match self.journey {
            Some(journey) if span.links.len() < limits.links as usize => {
                let kind = vec![KeyValue::new("link.kind", "journey")];
                span.links.links.push(Link::new(journey, kind, 0));
            }
            Some(_) => span.links.dropped_count += 1,
            None => {}
        }
    }
}

fn db(parent: &SpanData, verb: &'static str, (began, ended): (SystemTime, SystemTime)) -> SpanData {
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
        attributes: vec![KeyValue::new(OP, "db"), KeyValue::new("db.operation.name", verb)],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: parent.instrumentation_scope.clone(),
    }
}
