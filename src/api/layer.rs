//! The middleware of every call: what is no call, message, trace, deadline, metric, and panics.

use super::{
    access::{Access, Checked},
    call_metrics::{ActiveCall, StreamEnd, insert_trace_id},
    connections::{Connection, HeldUntilSent, Turn},
    encode::ProtoEncoder,
    error::{ApiError, TooManyCalls},
    front::ConnectMessage,
    limits::{BATCH_CALL_WAIT, MAX_BATCH_CALLS, MAX_UTILITY_STREAMS, MAX_WAITING_BATCH_CALLS},
    message::{Arrivals, MessageForm, read_message},
    method::{self, MethodInfo, MethodKind, NoCall},
    reflection_requests::ReflectionRequests,
};
use crate::{
    auth::Authenticator,
    pipeline::Places,
    registration::{CallerId, TraceContext},
    telemetry::{
        self, propagation,
        spans::{self, CallSpan},
    },
};
use bytes::BytesMut;
use futures_util::FutureExt;
use http::{Request, Response, request};
use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

#[derive(Clone, Debug)]
pub(super) struct CallContext {
    pub(super) access: Access,
    /// The caller's trace, or a new one.
    pub(super) trace: TraceContext,
    pub(super) started_at: Instant,
    /// From `grpc-timeout`.
    pub(super) deadline: Option<Duration>,
    /// Its turn among the calls of its connection, to be dropped before it waits for the chain.
    pub(super) turn: Option<Turn>,
}

impl CallContext {
    /// # Errors
    /// When the request did not come through [`CallLayer`].
    pub(super) fn from_request<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| Status::internal("a call without a context"))
    }

    fn expires_at(&self) -> Option<Instant> {
        self.deadline.map(|deadline| self.started_at + deadline)
    }

    /// The turn of a call whose request is decoded.
    pub(super) fn turn<T>(request: &tonic::Request<T>) -> Option<Turn> {
        request.extensions().get::<Self>()?.turn.clone()
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

/// What all calls share.
#[derive(Clone, Debug)]
pub(super) struct CallLayer {
    authenticator: Authenticator,
    encoder: Arc<ProtoEncoder>,
    arrivals: Arrivals,
    batch_calls: Places,
    waiting_batch_calls: Places,
    utility_streams: Places,
    stop: CancellationToken,
}

impl CallLayer {
    /// The encoder is not asked for registrations.
    pub(super) fn new(authenticator: Authenticator, encoder: ProtoEncoder, stop: CancellationToken) -> Self {
        Self {
            authenticator,
            encoder: Arc::new(encoder),
            arrivals: Arrivals::new(),
            batch_calls: Places::new(MAX_BATCH_CALLS),
            waiting_batch_calls: Places::new(MAX_WAITING_BATCH_CALLS),
            utility_streams: Places::new(MAX_UTILITY_STREAMS),
            stop,
        }
    }

    /// Takes what the call needs before its handler runs: its place, and its message.
    async fn receive(
        &self,
        kind: MethodKind,
        parts: &request::Parts,
        body: Body,
        (caller, connection): (CallerId, &Connection),
        problem: Arc<OnceLock<Status>>,
    ) -> Result<(Body, Option<HeldUntilSent>), ApiError> {
        let held = match kind {
            MethodKind::Unary | MethodKind::Watch | MethodKind::Unknown => None,
            MethodKind::Batch => {
                let place = self.batch_calls.take_or_wait(&self.waiting_batch_calls, caller, BATCH_CALL_WAIT).await;
                let place = place.map_err(|_| ApiError::TooManyCalls(TooManyCalls::BatchCalls))?;
                Some(HeldUntilSent::new(place))
            }
            MethodKind::HealthWatch | MethodKind::Reflection => {
                let place = self.utility_streams.take(connection.caller());
                let place = place.map_err(|_| ApiError::TooManyCalls(TooManyCalls::UtilityStreams))?;
                Some(HeldUntilSent::new(place))
            }
        };
        let is_encoded = parts.headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity");
        let body = match kind {
            MethodKind::Unary | MethodKind::Batch | MethodKind::Watch | MethodKind::HealthWatch => {
                let connect = parts.extensions.get::<ConnectMessage>();
                let form = connect.map_or(MessageForm::Grpc { is_encoded }, MessageForm::Connect);
                let message = read_message(body, kind, form, &self.arrivals, connection).await?;
                Body::new(http_body_util::Full::new(message))
            }
            MethodKind::Reflection => {
                let encoder = self.encoder.clone();
                let status = Box::new(move |error: ApiError| error.into_status(&encoder));
                let received = BytesMut::new();
                Body::new(ReflectionRequests { inner: body, is_encoded, problem, status, received })
            }
            MethodKind::Unknown => body,
        };
        Ok((body, held))
    }

    fn error_response(&self, error: ApiError) -> Response<Body> {
        error.into_status(&self.encoder).into_http()
    }

    /// A handler's error has a reason. One without is of the library, which could not read the message.
    fn explain(&self, response: Response<Body>, kind: MethodKind) -> Response<Body> {
        let headers = response.headers();
        if headers.contains_key("x-error-reason") {
            return response;
        }
        let Some(status) = Status::from_header_map(headers) else { return response };
        match status.code() {
            Code::Internal => self.error_response(ApiError::MalformedRequest(status.message().to_owned())),
            Code::ResourceExhausted | Code::OutOfRange => {
                self.error_response(ApiError::MessageTooLarge(kind.max_request_bytes()))
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Unimplemented
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => response,
        }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService { shared: Arc::new(self.clone()), inner }
    }
}

/// Opens the server span, adds the trace id to every response, and turns a panic into INTERNAL.
#[derive(Clone, Debug)]
pub(super) struct CallService<S> {
    shared: Arc<CallLayer>,
    inner: S,
}

impl<S> CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    /// Until its message is there and it has its turn, a call is a small future and no more: there may be thousands.
    /// Then its span opens, and its handler runs.
    async fn answer(
        self,
        request: Request<Body>,
        kind: MethodKind,
        checked: Checked,
        mut context: CallContext,
        call: &mut ActiveCall,
        problem: Arc<OnceLock<Status>>,
    ) -> Response<Body> {
        let refused = refuse(&request, kind);
        let (parts, body) = request.into_parts();
        let checked = checked.with_new_keys(&parts.headers).await;
        let received = match refused {
            Some(response) => Err(response),
            None if checked.is_refused() => Ok((Body::empty(), None)),
            None => {
                let connection = &call.connection;
                let receive = async {
                    let from = (checked.access.caller_id(), &**connection);
                    let received = self.shared.receive(kind, &parts, body, from, problem).await;
                    (received, connection.turn().await)
                };
                match before(context.expires_at(), receive).await {
                    Ok((received, turn)) => {
                        context.turn = Some(turn);
                        received.map_err(|error| self.shared.error_response(error))
                    }
                    Err(expired) => Err(expired.into_http()),
                }
            }
        };
        if !is_health_check(call.method) {
            call.span = spans::server(&mut context.trace, call.method, &parts.headers);
            call.trace_id = context.trace.trace_id;
            call.sampled = context.trace.sampled.unwrap_or(false);
        }
        match received {
            Err(response) => response,
            Ok((body, held)) => {
                let request = Request::from_parts(parts, body);
                Box::pin(self.handle(request, kind, held, checked, context, call)).await
            }
        }
    }

    async fn handle(
        self,
        mut request: Request<Body>,
        kind: MethodKind,
        held: Option<HeldUntilSent>,
        checked: Checked,
        context: CallContext,
        call: &ActiveCall,
    ) -> Response<Body> {
        let Self { shared, mut inner } = self;
        let answer = async {
            let access = match checked.decide(call.trace_id) {
                Ok(access) => access,
                Err(refusal) => return shared.error_response(refusal.into()),
            };
            let deadline = context.expires_at();
            request.extensions_mut().insert(CallContext { access: access.clone(), ..context });
            match before(deadline, inner.call(request)).await {
                Err(expired) => expired.into_http(),
                Ok(Ok(response)) => {
                    let mut response = shared.explain(response, kind);
                    if let Some(held) = held {
                        response.extensions_mut().insert(held);
                    }
                    response.extensions_mut().insert(access);
                    response
                }
            }
        };
        let answer = async {
            AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
                // The panic hook reports the error itself, once.
                tracing::warn!(method = call.method, "a handler panicked, returning INTERNAL");
                let text = format!("internal error; the server's log has it under trace {}", call.trace_id);
                Status::internal(text).into_http()
            })
        };
        telemetry::with_isolated_hub(call.span.run(answer)).await
    }
}

/// The answer to what is no call of a method that is known.
fn refuse(request: &Request<Body>, kind: MethodKind) -> Option<Response<Body>> {
    let refused = method::refuse(request, kind).map(NoCall::into_response);
    refused.or_else(|| {
        let unknown = || Status::unimplemented("there is no such method; server reflection lists them").into_http();
        (kind == MethodKind::Unknown).then(unknown)
    })
}

/// # Errors
/// When the deadline of the call expires first.
async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Status> {
    let Some(deadline) = deadline else { return Ok(work.await) };
    timeout_at(deadline, work).await.map_err(|_| Status::deadline_exceeded("the deadline of the call has expired"))
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = request.extensions().get::<Arc<Connection>>().cloned().unwrap_or_else(Connection::new);
        let MethodInfo { label: method, kind, needs } = method::classify(request.uri().path());
        let trace = propagation::extract(request.headers());
        let call_id = (method, trace.trace_id);
        let checked = Access::check(&self.shared.authenticator, request.headers(), &connection, needs, call_id);
        let deadline = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let context = CallContext {
            access: checked.access.clone(),
            trace,
            started_at: Instant::now(),
            deadline: deadline.and_then(parse_grpc_timeout),
            turn: None,
        };
        let mut call = ActiveCall {
            method,
            started_at: context.started_at,
            span: CallSpan::default(),
            trace_id: context.trace.trace_id,
            sampled: context.trace.sampled.unwrap_or(false),
            code: Code::Cancelled,
            connection,
        };
        let shared = self.shared.clone();
        // The inner service is the one that was polled ready.
        let next = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, next);
        let service = Self { shared: self.shared.clone(), inner: ready };
        Box::pin(async move {
            let problem = Arc::<OnceLock<Status>>::default();
            let mut response = service.answer(request, kind, checked, context, &mut call, problem.clone()).await;
            insert_trace_id(response.headers_mut(), call.trace_id);
            Ok(match kind {
                MethodKind::Unary | MethodKind::Batch | MethodKind::Unknown => call.finish(response),
                MethodKind::Watch | MethodKind::HealthWatch | MethodKind::Reflection => {
                    let access = response.extensions_mut().remove::<Access>();
                    let credentials_end = access.and_then(|access| access.credentials_end(needs));
                    let stop = shared.stop.clone();
                    let end = StreamEnd::new(&call.connection, credentials_end, stop, shared.encoder.clone(), problem);
                    call.track_stream(response, end)
                }
            })
        })
    }
}

/// Health checks come every few seconds; their spans would be noise.
fn is_health_check(method: &str) -> bool {
    method.starts_with("/grpc.health.v1.")
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
