//! The span status and metric of a finished call.

use crate::{
    registration::{GrpcCode, TraceId},
    telemetry::metrics,
};
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tracing::Span;

/// Its call lasts until the response stream ends.
const STREAMING_METHOD: &str = "/registrar.v1.RegistrarService/WatchRegistration";

/// If the client disconnects, it is dropped without a response and counts as cancelled.
pub(super) struct ActiveCall {
    pub(super) method: &'static str,
    pub(super) started_at: Instant,
    pub(super) span: Span,
    pub(super) trace_id: TraceId,
    pub(super) sampled: bool,
    pub(super) code: Code,
}

impl ActiveCall {
    /// The answer is there: the call is over, but for a stream, which ends with its trailers.
    pub(super) fn track_response(mut self, response: Response<Body>) -> Response<Body> {
        match Status::from_header_map(response.headers()) {
            Some(status) => self.code = status.code(),
            None if self.method == STREAMING_METHOD => {
                return response.map(|inner| Body::new(TrackedBody { inner, call: Some(self) }));
            }
            None => self.code = Code::Ok,
        }
        response
    }
}

/// A stream, and the call that lasts as long.
struct TrackedBody {
    inner: Body,
    call: Option<ActiveCall>,
}

impl HttpBody for TrackedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let span = self.call.as_ref().map_or_else(Span::none, |call| call.span.clone());
        let frame = ready!(span.in_scope(|| Pin::new(&mut self.inner).poll_frame(context)));
        let trailers = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref());
        let code = trailers.and_then(Status::from_header_map).map(|status| status.code());
        if let Some(mut call) = self.call.take_if(|_| frame.is_none() || code.is_some()) {
            call.code = code.unwrap_or(Code::Ok);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.span.record("rpc.grpc.status_code", i64::from(i32::from(self.code)));
        if is_server_error(self.code) {
            self.span.record("otel.status_code", "error");
        }
        // An exemplar must link to a trace that is kept.
        let kept = self.sampled || ![Code::Ok, Code::Cancelled].contains(&self.code);
        metrics().observe_grpc_request(
            self.method,
            GrpcCode::from_number(i32::from(self.code).into()).label(),
            self.started_at.elapsed(),
            kept.then_some(self.trace_id),
        );
    }
}

/// The codes that are errors of a server's span, and not of its client's alone
/// (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>).
fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}
