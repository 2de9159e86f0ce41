//! Trace headers, in and out: `sentry-trace` and `baggage`, `traceparent` and `tracestate`.
//!
//! In: the caller's trace goes on here, or a new one begins. Whatever a caller sends, a request is served: what cannot be read
//! is left out, and the rest stays. Out: to hosts that the settings name, and to nobody else ([`headers_for`]).
//!
//! The W3C rules are those of Level 2 (<https://www.w3.org/TR/trace-context-2/>), as its test suite holds them. The readers are
//! our own: the SDK's `TraceContextPropagator` takes ids that are too short and the first of two `traceparent` headers, sees
//! one `tracestate` header alone, and refuses keys that Level 2 allows.
//!
//! # What is kept of a caller's headers, and why no more
//!
//! What is kept is stored with the registration, for its journey may outlive this process; so nothing is kept that nobody
//! reads. Of the baggage these are the `sentry-` members: the dynamic sampling context, which its author has frozen
//! (<https://develop.sentry.dev/sdk/telemetry/traces/dynamic-sampling-context/>). Other members belong to others and may hold
//! anything about a person; they are neither stored nor sent on. `tracestate` and baggage belong to the trace that they came
//! with: where another trace goes on, or a new one begins, they are dropped.

mod baggage;
mod hosts;
mod inject;
mod sentry_trace;
mod traceparent;
mod tracestate;

#[cfg(test)]
mod tests;

pub use baggage::dynamic_sampling_context;
pub use hosts::{InvalidTraceHost, TraceHost, TraceHosts};
pub use inject::{
    ServiceIdentity, headers_for, new_client_trace, set_allowed_hosts, set_identity, with_forwarded_state,
};

use crate::registration::{SpanId, TraceContext, TraceId};
use http::HeaderMap;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

const TRACEPARENT_HEADER: &str = "traceparent";
const TRACESTATE_HEADER: &str = "tracestate";
const SENTRY_TRACE_HEADER: &str = "sentry-trace";
const BAGGAGE_HEADER: &str = "baggage";

/// Headers in which some callers send ids of their own, and the attributes that record them.
const FOREIGN_ID_HEADERS: [(&str, &str); 3] = [
    ("x-trace-id", "caller.x_trace_id"),
    ("x-span-id", "caller.x_span_id"),
    ("x-parent-span-id", "caller.x_parent_span_id"),
];
/// A foreign id that is longer is none.
const MAX_FOREIGN_ID_LEN: usize = 64;

/// What `sentry-trace` or `traceparent` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RemoteParent {
    trace_id: TraceId,
    parent: SpanId,
    /// `None` leaves the decision to us.
    sampled: Option<bool>,
}

/// The trace that a request's headers name (`sentry-trace` before `traceparent`), else a new one. Never fails.
pub fn extract(headers: &HeaderMap) -> TraceContext {
    let of_w3c = single_header(headers, TRACEPARENT_HEADER).and_then(traceparent::read);
    let of_sentry = single_header(headers, SENTRY_TRACE_HEADER).and_then(sentry_trace::read);
    let Some(RemoteParent { trace_id, parent, sampled }) = of_sentry.or(of_w3c) else {
        return TraceContext {
            trace_id: new_trace_id(),
            parent: None,
            sampled: None,
            tracestate: String::new(),
            baggage: String::new(),
        };
    };
    let companion = of_w3c.is_some_and(|named| named.trace_id == trace_id);
    TraceContext {
        trace_id,
        parent: Some(parent),
        sampled,
        tracestate: if companion { tracestate::read(headers) } else { String::new() },
        baggage: baggage::read(headers, trace_id),
    }
}

/// A new trace id.
pub fn new_trace_id() -> TraceId {
    loop {
        if let Some(id) = TraceId::from_bytes(RandomIdGenerator::default().new_trace_id().to_bytes()) {
            return id;
        }
    }
}

/// Ids that other tracing systems put into `x-trace-id` and the like, with the attributes that record them: a help for whoever
/// looks for a request by the caller's own id, and never a reason to go on in that trace. What is no visible ASCII of at most
/// 64 characters is left out, and so is a header that comes twice.
pub fn foreign_ids(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let is_id = |text: &&str| {
        !text.is_empty() && text.len() <= MAX_FOREIGN_ID_LEN && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let recorded = FOREIGN_ID_HEADERS.into_iter();
    recorded.filter_map(|(name, key)| Some((key, single_header(headers, name).filter(is_id)?.to_owned()))).collect()
}

/// Records [`foreign_ids`] on a span that has fields for them.
pub fn record_foreign_ids(headers: &HeaderMap, span: &tracing::Span) {
    for (key, id) in foreign_ids(headers) {
        span.record(key, id);
    }
}

/// The text of a header that came once: nobody can say which one of two is meant.
fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// Optional white space around a value (<https://www.rfc-editor.org/rfc/rfc9110#section-5.6.3>).
fn trim_ows(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// `length` digits as both kinds of headers write them: lower case, no prefix.
fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
