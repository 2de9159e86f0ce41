//! A call that is over, as plain values; exported, it becomes a span.

use super::{
    attributes::{BAGGAGE_ATTRIBUTE, FAILOVER_ATTRIBUTE, OP_ATTRIBUTE, REPEATED_ATTRIBUTE, SERVER_OP, own_scope},
    context::otel_span_id,
};
use crate::{
    registration::{CallerName, SpanId, UserId},
    telemetry::user_id::exported_user_id,
};
use opentelemetry::{
    KeyValue, Value,
    trace::{SpanContext, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::time::{Duration, SystemTime};

/// What is known of a call when it begins.
#[derive(Clone, Debug)]
pub(super) struct CallStart {
    pub(super) span_context: SpanContext,
    pub(super) parent: Option<SpanId>,
    /// `package.Service/Method`.
    pub(super) name: &'static str,
    pub(super) at: SystemTime,
    /// With members of Sentry's.
    pub(super) baggage: Option<String>,
    /// Of other tracing systems, with their attributes.
    pub(super) foreign_ids: Vec<(&'static str, String)>,
}

/// What happens during a call.
#[derive(Debug, Default)]
pub(super) struct CallFacts {
    pub(super) caller: Option<CallerName>,
    /// Named by the call, and queued by it.
    pub(super) documents: Option<(usize, usize)>,
    pub(super) user: Option<UserId>,
    pub(super) saw_failover: bool,
    /// It failed like an earlier one, which is exported.
    pub(super) is_repeated: bool,
    pub(super) events: SpanEvents,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct CallEnd {
    pub(super) at: SystemTime,
    pub(super) grpc_code: i32,
    /// By the rules for spans of servers.
    pub(super) is_error: bool,
}

#[derive(Debug)]
pub(super) struct EndedCall {
    pub(super) start: CallStart,
    pub(super) facts: CallFacts,
    pub(super) end: CallEnd,
}

impl EndedCall {
    pub(super) fn duration(&self) -> Duration {
        self.end.at.duration_since(self.start.at).unwrap_or_default()
    }

    pub(super) fn into_span(self) -> SpanData {
        let Self { start, facts, end } = self;
        let mut attributes = vec![
            KeyValue::new(OP_ATTRIBUTE, SERVER_OP),
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", start.name.rsplit('/').next().unwrap_or_default()),
            KeyValue::new("rpc.grpc.status_code", i64::from(end.grpc_code)),
        ];
        let mut add = |key, value: Value| attributes.push(KeyValue::new(key, value));
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
        if let Some(baggage) = start.baggage {
            add(BAGGAGE_ATTRIBUTE, baggage.into());
        }
        for (key, id) in start.foreign_ids {
            add(key, id.into());
        }
        SpanData {
            span_context: start.span_context,
            parent_span_id: start.parent.map_or(opentelemetry::SpanId::INVALID, otel_span_id),
            parent_span_is_remote: start.parent.is_some(),
            span_kind: SpanKind::Server,
            name: start.name.into(),
            start_time: start.at,
            end_time: end.at.max(start.at),
            attributes,
            dropped_attributes_count: 0,
            events: facts.events,
            links: SpanLinks::default(),
            status: if end.is_error { Status::error("") } else { Status::Unset },
            instrumentation_scope: own_scope(),
        }
    }
}
