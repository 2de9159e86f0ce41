//! The middleware of every call: trace, deadline, metric, and panics.

use super::call_metrics::ActiveCall;
use crate::{
    registration::{TraceContext, TraceId},
    telemetry::{self, propagation, spans},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

#[derive(Clone, Debug)]
pub(super) struct CallContext {
    /// The caller's trace, or a new one.
    pub(super) trace: TraceContext,
    pub(super) started_at: Instant,
    /// From `grpc-timeout`.
    pub(super) deadline: Option<Duration>,
}

impl CallContext {
    pub(super) fn from_request<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self::from_headers(&HeaderMap::new()))
    }

    fn from_headers(headers: &HeaderMap) -> Self {
        let deadline = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_grpc_timeout);
        Self { trace: propagation::extract(headers), started_at: Instant::now(), deadline }
    }
}

/// `TimeoutValue TimeoutUnit`: at most eight digits and one of H M S m u n
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CallLayer;

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService(inner)
    }
}

/// Opens the server span, adds the trace id to every response, and turns a panic into INTERNAL.
#[derive(Clone, Debug)]
pub(super) struct CallService<S>(S);

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut context = CallContext::from_headers(request.headers());
        let method = method_label(request.uri().path());
        let span = if is_health_check(method) {
            Span::none()
        } else {
            spans::server(&mut context.trace, method, request.headers())
        };
        let trace_id = context.trace.trace_id;
        let sampled = context.trace.sampled.unwrap_or(false);
        let (begun, code) = (context.started_at, Code::Cancelled);
        let call = ActiveCall { method, started_at: begun, span: span.clone(), trace_id, sampled, code };
        request.extensions_mut().insert(context);
        let future = AssertUnwindSafe(self.0.call(request)).catch_unwind().instrument(span.clone());
        Box::pin(telemetry::with_isolated_hub(async move {
            let mut response = match future.await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    // The panic hook reports the error itself, once.
                    span.in_scope(|| tracing::warn!(method, "a handler panicked, returning INTERNAL"));
                    Status::internal(format!("internal error; the server's log has it under trace {trace_id}"))
                        .into_http()
                }
            };
            insert_trace_id(response.headers_mut(), trace_id);
            Ok(call.track_response(response))
        }))
    }
}

/// Health checks come every few seconds; their spans would be noise.
fn is_health_check(method: &str) -> bool {
    method.starts_with("/grpc.health.v1.")
}

fn insert_trace_id(headers: &mut HeaderMap, trace_id: TraceId) {
    // 32 hex digits are always a valid header value.
    if let Ok(value) = HeaderValue::from_str(&trace_id.to_string()) {
        headers.insert("x-trace-id", value);
    }
}

/// A fixed list, so that metric labels are bounded whatever path a client requests.
fn method_label(path: &str) -> &'static str {
    const PATHS: [&str; 9] = [
        "/registrar.v1.RegistrarService/RegisterDocument",
        "/registrar.v1.RegistrarService/GetRegistration",
        "/registrar.v1.RegistrarService/ListRegistrations",
        "/registrar.v1.RegistrarService/WatchRegistration",
        "/registrar.v1.RegistrarService/DiagnoseRegistration",
        "/registrar.v1.RegistrarService/VerifyDocument",
        "/registrar.v1.RegistrarService/GetServiceInfo",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
    ];
    PATHS.into_iter().find(|known| *known == path).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_read_as_the_protocol_says() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("5u", Some(Duration::from_micros(5))),
            ("5n", Some(Duration::from_nanos(5))),
            ("2M", Some(Duration::from_secs(120))),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
            ("1é", None),
        ] {
            assert_eq!(parse_grpc_timeout(text), expected, "{text}");
        }
    }
}
