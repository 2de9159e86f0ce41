//! Trace headers in and out: `sentry-trace` and `baggage`, `traceparent` and `tracestate`.
//!
//! A request continues the caller's trace, or starts a new one. Headers never fail a request: a malformed one is
//! ignored, and the others count. A new trace starts if `sentry-trace` or `traceparent` occurs twice, because it is
//! unknown which one is meant, and if the baggage is that of another Sentry organization than ours, which must not
//! decide what we export (<https://develop.sentry.dev/sdk/telemetry/traces/#stricttracecontinuation>; as by default
//! there, a trace without an organization is continued). Outgoing requests get headers only if the settings name their
//! host ([`headers_for`]).
//!
//! The W3C rules are those of Level 2 (<https://www.w3.org/TR/trace-context-2/>), as in its test suite. The parsers are
//! our own: the SDK's `TraceContextPropagator` accepts ids that are too short, takes the first of two `traceparent`
//! headers, reads only one `tracestate` header, and rejects keys that Level 2 allows.
//!
//! # What is stored of a caller's headers
//!
//! It is stored with the registration, which may outlive this process, and limited to what is used later. Of the
//! baggage these are the `sentry-` members: the dynamic sampling context, which is fixed by the service that started
//! the trace (<https://develop.sentry.dev/sdk/telemetry/traces/dynamic-sampling-context/>). Other members may hold
//! personal data; they are neither stored nor forwarded. `tracestate` and baggage belong to the trace that they came
//! with: if another trace is continued, or a new one starts, they are dropped.

mod baggage;
mod hosts;
mod inject;
pub(super) mod sample_rand;
mod sentry_trace;
mod traceparent;
mod tracestate;
mod wire;

#[cfg(test)]
mod tests;

pub(super) use baggage::dynamic_sampling_context;
pub(crate) use hosts::{TraceHost, TraceHosts};
pub(super) use inject::{ServiceIdentity, set_allowed_hosts, set_identity, with_forwarded_state};
pub(crate) use inject::{headers_for, new_client_trace};

use super::ids::new_trace_id;
use crate::registration::TraceContext;
use http::HeaderMap;
use wire::{RemoteParent, SENTRY_TRACE_HEADER, TRACEPARENT_HEADER, is_repeated, single_header};

/// Headers of other tracing systems, and the attributes that record their ids.
const FOREIGN_ID_HEADERS: [(&str, &str); 3] = [
    ("x-trace-id", "caller.x_trace_id"),
    ("x-span-id", "caller.x_span_id"),
    ("x-parent-span-id", "caller.x_parent_span_id"),
];
const MAX_FOREIGN_ID_LEN: usize = 64;

/// The trace that a request's headers name (`sentry-trace` before `traceparent`), else a new one.
pub(crate) fn extract(headers: &HeaderMap) -> TraceContext {
    extract_for(headers, inject::own_org_id())
}

/// `org_id` is that of our Sentry project, if it is known.
fn extract_for(headers: &HeaderMap, org_id: Option<&str>) -> TraceContext {
    let w3c = single_header(headers, TRACEPARENT_HEADER).and_then(traceparent::read);
    let sentry = single_header(headers, SENTRY_TRACE_HEADER).and_then(sentry_trace::read);
    let is_ambiguous = is_repeated(headers, TRACEPARENT_HEADER) || is_repeated(headers, SENTRY_TRACE_HEADER);
    let Some(RemoteParent { trace_id, parent, sampled }) = sentry.or(w3c).filter(|_| !is_ambiguous) else {
        return new_trace();
    };
    let baggage = baggage::read(headers);
    if is_of_other_org(&baggage, org_id) {
        return new_trace();
    }
    let is_w3c_trace = w3c.is_some_and(|w3c| w3c.trace_id == trace_id);
    TraceContext {
        trace_id,
        parent,
        sampled,
        tracestate: if is_w3c_trace { tracestate::read(headers) } else { String::new() },
        baggage: baggage::for_trace(baggage, trace_id, sampled),
    }
}

fn new_trace() -> TraceContext {
    TraceContext {
        trace_id: new_trace_id(),
        parent: None,
        sampled: None,
        tracestate: String::new(),
        baggage: String::new(),
    }
}

/// Whether both organizations are known, and differ.
fn is_of_other_org(baggage: &str, own: Option<&str>) -> bool {
    let theirs = baggage::sentry_members(baggage).remove(baggage::ORG_ID_MEMBER).filter(|id| !id.is_empty());
    own.zip(theirs).is_some_and(|(own, theirs)| own != theirs)
}

/// The random value that sampling decisions about a caller's trace compare: the caller's, else that of the trace id.
pub(super) fn caller_sample_rand(trace: &TraceContext) -> f64 {
    let sent = baggage::sentry_members(&trace.baggage).remove(sample_rand::SAMPLE_RAND_MEMBER);
    let sent = sent.and_then(|rand| rand.parse().ok()).filter(|rand| (0.0..1.0).contains(rand));
    sent.unwrap_or_else(|| sample_rand::of_trace_id(trace.trace_id.to_bytes()))
}

/// Ids in the headers of other tracing systems, with the attributes that record them. They serve to find a request by
/// the caller's own id, and never name the trace to continue. Left out are values that are not visible ASCII of at most
/// 64 characters, and headers that occur twice.
pub(super) fn foreign_ids(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let is_id = |text: &&str| {
        !text.is_empty() && text.len() <= MAX_FOREIGN_ID_LEN && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let id = |(name, key)| Some((key, single_header(headers, name).filter(is_id)?.to_owned()));
    FOREIGN_ID_HEADERS.into_iter().filter_map(id).collect()
}
