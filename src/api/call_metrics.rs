//! The span status and metric of a finished call, and the end of a stream that has none of its own.

use super::{connections::Connection, encode::ProtoEncoder, error::ApiError, refusal::Refusal};
use crate::{
    registration::{GrpcCode, TraceId},
    telemetry::{metrics, spans::CallSpan},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};

/// If the client disconnects, it is dropped without a response and counts as cancelled.
pub(super) struct ActiveCall {
    pub(super) method: &'static str,
    pub(super) started_at: Instant,
    pub(super) span: CallSpan,
    pub(super) trace_id: TraceId,
    pub(super) sampled: bool,
    pub(super) code: Code,
    pub(super) connection: Arc<Connection>,
}

impl ActiveCall {
    /// The answer is there, and the call is over.
    pub(super) fn finish(mut self, response: Response<Body>) -> Response<Body> {
        self.code = match Status::from_header_map(response.headers()) {
            Some(status) => status.code(),
            None if response.status() == StatusCode::OK => Code::Ok,
            // It was no call.
            None => Code::InvalidArgument,
        };
        response
    }

    /// The call lasts until its stream ends, with its trailers or by `end`.
    pub(super) fn track_stream(self, response: Response<Body>, end: StreamEnd) -> Response<Body> {
        if response.status() != StatusCode::OK || Status::from_header_map(response.headers()).is_some() {
            return self.finish(response);
        }
        response.map(|inner| Body::new(TrackedStream { inner, call: Some(self), end: Some(end) }))
    }
}

/// Ends a stream at the shutdown, or when its connection has to end.
pub(super) struct StreamEnd {
    signal: Pin<Box<WaitForCancellationFutureOwned>>,
    credentials_end: Option<Pin<Box<dyn Future<Output = Refusal> + Send>>>,
    stop: CancellationToken,
    encoder: Arc<ProtoEncoder>,
    /// What was wrong with its requests.
    problem: Arc<OnceLock<Status>>,
}

impl StreamEnd {
    pub(super) fn new(
        connection: &Connection,
        credentials_end: Option<impl Future<Output = Refusal> + Send + 'static>,
        stop: CancellationToken,
        encoder: Arc<ProtoEncoder>,
        problem: Arc<OnceLock<Status>>,
    ) -> Self {
        let signal = Box::pin(connection.streams_end().cancelled_owned());
        let credentials_end = credentials_end.map(|end| Box::pin(end) as _);
        Self { signal, credentials_end, stop, encoder, problem }
    }

    /// Why the stream has to end, if it has to.
    fn poll_status(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let credentials_end = self.credentials_end.as_mut().map(|end| end.as_mut().poll(context));
        let error = match credentials_end {
            Some(Poll::Ready(refusal)) => refusal.into(),
            Some(Poll::Pending) | None => {
                ready!(self.signal.as_mut().poll(context));
                if self.stop.is_cancelled() { ApiError::ShuttingDown(None) } else { ApiError::ConnectionAge }
            }
        };
        Poll::Ready(error.into_status(&self.encoder))
    }
}

/// A stream, and the call that lasts as long.
struct TrackedStream {
    inner: Body,
    call: Option<ActiveCall>,
    /// `None` when it is over.
    end: Option<StreamEnd>,
}

impl TrackedStream {
    /// The trailers, if the stream has to end although the handler does not end it.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Option<HeaderMap> {
        let Poll::Ready(status) = self.end.as_mut()?.poll_status(context) else { return None };
        Some(self.end_with(&status))
    }

    /// Of a stream whose requests could not be read; the library ends it without an error.
    fn problem(&mut self, frame: &Option<Result<Frame<<Body as HttpBody>::Data>, Status>>) -> Option<HeaderMap> {
        let is_end = frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
        let status = self.end.as_ref()?.problem.get().filter(|_| is_end)?.clone();
        Some(self.end_with(&status))
    }

    fn end_with(&mut self, status: &Status) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        // Its headers are made of plain ASCII.
        let _ = status.add_header(&mut trailers);
        if let Some(call) = &self.call {
            insert_trace_id(&mut trailers, call.trace_id);
        }
        self.end = None;
        self.inner = Body::empty();
        trailers
    }
}

impl HttpBody for TrackedStream {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let entered = self.call.as_ref().and_then(|call| call.span.enter());
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        drop(entered);
        let frame = match polled {
            Poll::Ready(frame) => match self.problem(&frame) {
                Some(trailers) => Some(Ok(Frame::trailers(trailers))),
                None => frame,
            },
            Poll::Pending => match self.poll_end(context) {
                Some(trailers) => Some(Ok(Frame::trailers(trailers))),
                None => return Poll::Pending,
            },
        };
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
        SizeHint::default()
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        if self.code == Code::Cancelled {
            self.connection.count_cancel();
        }
        self.span.end(i32::from(self.code), is_server_error(self.code));
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

pub(super) fn insert_trace_id(headers: &mut HeaderMap, trace_id: TraceId) {
    // 32 hex digits are always a valid header value.
    if let Ok(mut value) = HeaderValue::from_str(&trace_id.to_string()) {
        // HTTP/2 then leaves it out of its table of headers that are sent again, where each would replace another one
        // (<https://www.rfc-editor.org/rfc/rfc7541#section-6.2.3>).
        value.set_sensitive(true);
        headers.insert("x-trace-id", value);
    }
}
