//! Names and syntax that the headers share.

use crate::registration::{SpanId, TraceId};
use http::HeaderMap;

pub(super) const TRACEPARENT_HEADER: &str = "traceparent";
pub(super) const TRACESTATE_HEADER: &str = "tracestate";
pub(super) const SENTRY_TRACE_HEADER: &str = "sentry-trace";
pub(super) const BAGGAGE_HEADER: &str = "baggage";

/// The content of `sentry-trace` or `traceparent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RemoteParent {
    pub(super) trace_id: TraceId,
    /// `None` when only the trace is named.
    pub(super) parent: Option<SpanId>,
    /// `None` leaves the sampling decision to us.
    pub(super) sampled: Option<bool>,
}

/// `None` also for a header that occurs twice, because it is unknown which one is meant.
pub(super) fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    if is_repeated(headers, name) { None } else { headers.get(name)?.to_str().ok() }
}

pub(super) fn is_repeated(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

/// Removes optional white space around a value (<https://www.rfc-editor.org/rfc/rfc9110#section-5.6.3>).
pub(super) fn trim_ows(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Whether the text is `length` hex digits in lower case.
pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
