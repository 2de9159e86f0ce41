//! Trace headers of outgoing requests.

use super::{
    baggage,
    hosts::TraceHosts,
    sample_rand, sentry_trace, traceparent,
    wire::{BAGGAGE_HEADER, SENTRY_TRACE_HEADER, TRACEPARENT_HEADER, TRACESTATE_HEADER},
};
use crate::{
    registration::{SpanId, TraceContext, TraceId},
    telemetry::ids::new_trace_id,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{Context, trace::TraceContextExt};
use std::sync::OnceLock;

static IDENTITY: OnceLock<ServiceIdentity> = OnceLock::new();
static ALLOWED_HOSTS: OnceLock<TraceHosts> = OnceLock::new();

/// The values of the dynamic sampling context of traces that start here, in their headers and in Sentry.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::telemetry) struct ServiceIdentity {
    /// Of the Sentry project. Empty without Sentry; then no baggage is sent.
    pub(in crate::telemetry) public_key: String,
    /// Of the Sentry project, if its DSN names one.
    pub(in crate::telemetry) org_id: Option<String>,
    pub(in crate::telemetry) release: String,
    pub(in crate::telemetry) environment: String,
    pub(in crate::telemetry) sample_rate: f64,
}

/// The caller's headers besides its span, attached to our spans for requests to others.
struct ForwardedState {
    tracestate: String,
    baggage: String,
}

/// Only the first call in a process counts.
pub(in crate::telemetry) fn set_identity(identity: ServiceIdentity) {
    let _ = IDENTITY.set(identity);
}

/// Only the first call in a process counts.
pub(in crate::telemetry) fn set_allowed_hosts(hosts: TraceHosts) {
    let _ = ALLOWED_HOSTS.set(hosts);
}

/// The organization of our Sentry project, if its DSN names one.
pub(super) fn own_org_id() -> Option<&'static str> {
    IDENTITY.get()?.org_id.as_deref()
}

/// The headers of a request to this host: none unless the settings name it, and none outside of a span.
pub(crate) fn headers_for(host: &str) -> HeaderMap {
    match ALLOWED_HOSTS.get() {
        Some(hosts) if hosts.allows(host) => headers_from_context(&Context::current(), IDENTITY.get()),
        Some(_) | None => HeaderMap::new(),
    }
}

/// Starts a trace for a command, and returns the headers of its calls. If it is sampled, the service exports it: who
/// runs a command wants to see its trace. The command exports no span itself, so that it names none as the parent.
pub(crate) fn new_client_trace(sampled: bool) -> (TraceId, HeaderMap) {
    let trace_id = new_trace_id();
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(sentry_trace::write_without_span(trace_id, sampled)) {
        headers.insert(HeaderName::from_static(SENTRY_TRACE_HEADER), value);
    }
    (trace_id, headers)
}

/// Attaches the caller's headers to the context, to be forwarded with requests of all spans below: a span keeps the
/// values of the context that it is made in. Without a caller's trace the context is unchanged: the trace starts here,
/// with our own dynamic sampling context. (`SpanContext` can hold only the state, and rejects keys that Level 2
/// allows.)
pub(in crate::telemetry) fn with_forwarded_state(context: Context, trace: &TraceContext) -> Context {
    if trace.parent.is_none() {
        return context;
    }
    context.with_value(ForwardedState { tracestate: trace.tracestate.clone(), baggage: trace.baggage.clone() })
}

fn headers_from_context(context: &Context, identity: Option<&ServiceIdentity>) -> HeaderMap {
    let span = context.span();
    let span = span.span_context();
    let ids = TraceId::from_bytes(span.trace_id().to_bytes()).zip(SpanId::from_bytes(span.span_id().to_bytes()));
    let Some((trace_id, span_id)) = ids else { return HeaderMap::new() };
    let mut headers = HeaderMap::new();
    insert_trace_headers(&mut headers, trace_id, span_id, span.is_sampled());
    match (context.get::<ForwardedState>(), identity) {
        // Fixed by the service that started the trace, even if empty.
        (Some(forwarded), _) => {
            insert_header(&mut headers, TRACESTATE_HEADER, &forwarded.tracestate);
            insert_header(&mut headers, BAGGAGE_HEADER, &forwarded.baggage);
        }
        (None, Some(identity)) => {
            insert_header(&mut headers, BAGGAGE_HEADER, &identity.baggage(trace_id, span.is_sampled()))
        }
        (None, None) => {}
    }
    headers
}

fn insert_trace_headers(headers: &mut HeaderMap, trace_id: TraceId, span: SpanId, sampled: bool) {
    insert_header(headers, TRACEPARENT_HEADER, &traceparent::write(trace_id, span, sampled));
    insert_header(headers, SENTRY_TRACE_HEADER, &sentry_trace::write(trace_id, span, sampled));
}

fn insert_header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // All values are visible ASCII.
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

impl ServiceIdentity {
    /// The dynamic sampling context.
    fn baggage(&self, trace_id: TraceId, sampled: bool) -> String {
        if self.public_key.is_empty() {
            return String::new();
        }
        let trace_id = opentelemetry::TraceId::from_bytes(trace_id.to_bytes());
        baggage::write(self.sampling_members(trace_id, self.sample_rate, sampled))
    }

    /// Of the dynamic sampling context, those that do not depend on the call.
    pub(in crate::telemetry) fn sampling_members(
        &self,
        trace_id: opentelemetry::TraceId,
        sample_rate: f64,
        sampled: bool,
    ) -> impl Iterator<Item = (&'static str, String)> {
        let rand = sample_rand::of_trace_id(trace_id.to_bytes());
        let members = [
            ("trace_id", Some(trace_id.to_string())),
            ("public_key", Some(self.public_key.clone())),
            ("org_id", self.org_id.clone()),
            ("sample_rate", Some(sample_rate.to_string())),
            ("sample_rand", Some(sample_rand::format(rand))),
            ("sampled", Some(sampled.to_string())),
            ("release", Some(self.release.clone())),
            ("environment", Some(self.environment.clone())),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::propagation::{dynamic_sampling_context, extract};
    use opentelemetry::trace::{
        SpanContext, SpanId as OtelSpanId, TraceFlags, TraceId as OtelTraceId, TraceState, Tracer, TracerProvider,
    };
    use opentelemetry_sdk::trace::SdkTracerProvider;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn identity() -> ServiceIdentity {
        ServiceIdentity {
            public_key: "e5f1c3a0".into(),
            org_id: Some("7".into()),
            release: "registrar@1.2.3 (é)".into(),
            environment: "production".into(),
            sample_rate: 0.01,
        }
    }

    fn inside(context: &Context, sampled: bool) -> Context {
        let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
        let (trace, span) = (OtelTraceId::from_hex(TRACE).unwrap(), OtelSpanId::from_hex(SPAN).unwrap());
        context.with_remote_span_context(SpanContext::new(trace, span, flags, false, TraceState::default()))
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn from_caller(headers: &[(&'static str, &str)]) -> TraceContext {
        let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        extract(&pairs.collect())
    }

    #[test]
    fn a_trace_that_starts_here_is_sent_in_both_formats_and_with_its_own_baggage() {
        for (sampled, w3c, sentry, word) in [(true, "01", "1", "true"), (false, "00", "0", "false")] {
            let sent = headers_from_context(&inside(&Context::new(), sampled), Some(&identity()));
            assert_eq!(text(&sent, "traceparent"), Some(format!("00-{TRACE}-{SPAN}-{w3c}").as_str()));
            assert_eq!(text(&sent, "sentry-trace"), Some(format!("{TRACE}-{SPAN}-{sentry}").as_str()));
            assert_eq!(text(&sent, "tracestate"), None);
            let baggage = text(&sent, "baggage").unwrap();
            assert!(baggage.contains("sentry-release=registrar%401.2.3%20%28%C3%A9%29"), "{baggage}");
            let context = dynamic_sampling_context(baggage).unwrap();
            let expected = [
                ("environment", "production"),
                ("org_id", "7"),
                ("public_key", "e5f1c3a0"),
                ("release", "registrar@1.2.3 (é)"),
                ("sample_rand", "0.516737"),
                ("sample_rate", "0.01"),
                ("sampled", word),
                ("trace_id", TRACE),
            ];
            assert!(context.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(expected), "{context:?}");
        }
    }

    #[test]
    fn without_sentry_no_baggage_is_sent() {
        let without_key = ServiceIdentity { public_key: String::new(), ..identity() };
        for identity in [None, Some(&without_key)] {
            let sent = headers_from_context(&inside(&Context::new(), true), identity);
            assert_eq!((sent.len(), text(&sent, "baggage")), (2, None));
        }
    }

    #[test]
    fn the_callers_tracestate_and_baggage_are_forwarded_unchanged() {
        let baggage = format!(
            "sentry-trace_id={TRACE},sentry-release=theirs%401,sentry-transaction=%2fpay;x=1,sentry-sample_rand=0.5"
        );
        let trace = from_caller(&[
            ("traceparent", &format!("00-{TRACE}-{SPAN}-01")),
            ("tracestate", "tenant@one@two=1, congo=t61rcWkgMzE"),
            ("baggage", &format!("userId=alice,{baggage}")),
        ]);
        let sent =
            headers_from_context(&inside(&with_forwarded_state(Context::new(), &trace), true), Some(&identity()));
        assert_eq!(text(&sent, "tracestate"), Some("tenant@one@two=1,congo=t61rcWkgMzE"));
        assert_eq!(text(&sent, "baggage"), Some(baggage.as_str()));
    }

    #[test]
    fn forwarded_state_is_inherited_by_all_child_spans() {
        let trace = from_caller(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01")), ("tracestate", "a@b@c=1")]);
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let caller = inside(&with_forwarded_state(Context::new(), &trace), true);
        let server = caller.with_span(tracer.start_with_context("server", &caller));
        let client = server.with_span(tracer.start_with_context("client", &server));
        let sent = headers_from_context(&client, Some(&identity()));
        let span = client.span().span_context().span_id();
        assert_eq!(text(&sent, "traceparent"), Some(format!("00-{TRACE}-{span}-01").as_str()));
        assert_eq!((text(&sent, "tracestate"), text(&sent, "baggage")), (Some("a@b@c=1"), None));
    }

    #[test]
    fn a_callers_trace_without_baggage_gets_none_from_us() {
        let trace = from_caller(&[("sentry-trace", &format!("{TRACE}-{SPAN}"))]);
        let sent =
            headers_from_context(&inside(&with_forwarded_state(Context::new(), &trace), true), Some(&identity()));
        assert_eq!((sent.len(), text(&sent, "baggage")), (2, None));
    }

    #[test]
    fn without_a_callers_trace_the_baggage_is_ours() {
        let trace = from_caller(&[("baggage", "sentry-release=theirs")]);
        let sent =
            headers_from_context(&inside(&with_forwarded_state(Context::new(), &trace), true), Some(&identity()));
        assert_eq!(dynamic_sampling_context(text(&sent, "baggage").unwrap()).unwrap()["public_key"], "e5f1c3a0");
    }

    #[test]
    fn outside_of_a_span_no_headers_are_sent() {
        assert!(headers_from_context(&Context::new(), Some(&identity())).is_empty());
    }

    #[test]
    fn a_command_starts_a_sampled_trace() {
        for sampled in [true, false] {
            let (trace_id, sent) = new_client_trace(sampled);
            let received = extract(&sent);
            assert_eq!((received.trace_id, received.parent, received.sampled), (trace_id, None, Some(sampled)));
            assert_eq!(sent.len(), 1, "{sent:?}");
            assert_ne!(new_client_trace(sampled).0, trace_id);
        }
    }
}
