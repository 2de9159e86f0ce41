//! Trace headers in: the caller's trace goes on here, or a new one begins.

use crate::registration::{SpanId, TraceContext, TraceId};
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator},
};

/// Trace headers beyond this many bytes are not stored.
pub const MAX_BYTES: usize = 8 * 1024;

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The trace that a request's headers name (`sentry-trace` before `traceparent`), else a new one.
pub fn extract(headers: &http::HeaderMap) -> TraceContext {
    let headers = Headers(headers);
    let (trace_id, parent, sampled) = headers
        .get("sentry-trace")
        .and_then(sentry_trace)
        .or_else(|| {
            headers.get("traceparent").filter(|text| is_full_length(text))?;
            let context = TraceContextPropagator::new().extract(&headers);
            traceparent(context.span().span_context())
        })
        .unwrap_or_else(|| (mint(), None, None));
    let baggage = headers.get("baggage").filter(|text| text.len() <= MAX_BYTES).unwrap_or_default().to_owned();
    TraceContext { trace_id, parent, sampled, tracestate: String::new(), baggage }
}

/// A new trace id.
pub fn mint() -> TraceId {
    loop {
        if let Some(id) = TraceId::from_bytes(RandomIdGenerator::default().new_trace_id().to_bytes()) {
            return id;
        }
    }
}

/// The SDK's propagator also takes ids that are too short, which the W3C rules call invalid
/// (<https://www.w3.org/TR/trace-context/#traceparent-header-field-values>).
fn is_full_length(traceparent: &str) -> bool {
    let lengths: Vec<_> = traceparent.trim().split('-').map(str::len).collect();
    matches!(lengths.as_slice(), [2, 32, 16, 2, ..])
}

/// As whom we propagate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The DSN's public key.
    pub public_key: String,
    /// The release.
    pub release: String,
    /// The environment.
    pub environment: String,
    /// The configured share.
    pub sample_rate: f64,
}

/// Placeholder.
pub fn identify(_identity: Identity) {}

/// Placeholder.
pub fn dynamic_sampling(_baggage: &str) -> Option<std::collections::BTreeMap<String, String>> {
    None
}

/// Placeholder.
pub fn record_foreign_ids(_headers: &http::HeaderMap, _span: &tracing::Span) {}

type Named = (TraceId, Option<SpanId>, Option<bool>);

fn traceparent(context: &SpanContext) -> Option<Named> {
    let trace_id = TraceId::from_bytes(context.trace_id().to_bytes())?;
    Some((trace_id, SpanId::from_bytes(context.span_id().to_bytes()), Some(context.is_sampled())))
}

/// `traceid-spanid[-sampled]` (<https://develop.sentry.dev/sdk/telemetry/traces/#header-sentry-trace>).
fn sentry_trace(text: &str) -> Option<Named> {
    let mut parts = text.trim().split('-');
    let (trace, span, flag) = (parts.next()?, parts.next()?, parts.next());
    if trace.len() != 32 || span.len() != 16 || parts.next().is_some() {
        return None;
    }
    let sampled = match flag {
        None | Some("") => None,
        Some("1") => Some(true),
        Some("0") => Some(false),
        Some(_) => return None,
    };
    Some((trace.parse().ok()?, Some(span.parse().ok()?), sampled))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn of(headers: &[(&'static str, &str)]) -> TraceContext {
        extract(
            &headers
                .iter()
                .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
                .collect(),
        )
    }

    #[test]
    fn the_callers_trace_goes_on() {
        let other = "1".repeat(32);
        for (headers, trace, sampled) in [
            (vec![("traceparent", format!("00-{TRACE}-{SPAN}-01"))], TRACE, Some(true)),
            (vec![("traceparent", format!("00-{TRACE}-{SPAN}-00"))], TRACE, Some(false)),
            (vec![("sentry-trace", format!("{TRACE}-{SPAN}"))], TRACE, None),
            (vec![("sentry-trace", format!("{TRACE}-{SPAN}-1"))], TRACE, Some(true)),
            (
                vec![("traceparent", format!("00-{other}-{SPAN}-00")), ("sentry-trace", format!("{TRACE}-{SPAN}-1"))],
                TRACE,
                Some(true),
            ),
        ] {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let context = of(&headers);
            assert_eq!((context.trace_id.to_string().as_str(), context.sampled), (trace, sampled), "{headers:?}");
            assert_eq!(context.parent.map(|span| span.to_string()).as_deref(), Some(SPAN));
        }
    }

    #[test]
    fn garbage_begins_a_new_trace() {
        let zero = format!("00-{}-{SPAN}-01", "0".repeat(32));
        for header in ["", "x", "00-abc-def-01", &zero, &format!("ff-{TRACE}-{SPAN}-01")] {
            let context = of(&[("traceparent", header), ("sentry-trace", header)]);
            assert_ne!(context.trace_id.to_string(), TRACE, "{header}");
            assert_eq!((context.parent, context.sampled), (None, None), "{header}");
        }
        assert_ne!(of(&[]).trace_id, of(&[]).trace_id);
    }

    #[test]
    fn baggage_is_kept_up_to_its_limit() {
        assert_eq!(of(&[("baggage", "a=1")]).baggage, "a=1");
        assert_eq!(of(&[("baggage", &"a".repeat(MAX_BYTES + 1))]).baggage, "");
    }
}
