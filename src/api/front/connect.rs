//! A Connect call as a gRPC call, and its answer back (<https://connectrpc.com/docs/protocol/>).

use super::{
    codec::ConnectForm,
    error::{connect_error, internal_error},
    message::ConnectMessage,
    methods::Answers,
    stream::ConnectStream,
    wire::{ConnectError, ENVELOPE_HEADER_BYTES},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, response::Parts};
use http_body_util::{BodyExt, Full};
use tonic::{Code, Status, body::Body};

pub(super) fn to_grpc(request: Request<Body>, form: &ConnectForm) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let (message, timeout) = ConnectMessage::from_headers(&parts.headers, form.codec, form.method.clone());
    parts.headers = own_headers(parts.headers);
    for name in [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ACCEPT_ENCODING] {
        parts.headers.remove(name);
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    if let Some(timeout) = timeout {
        parts.headers.insert("grpc-timeout", timeout);
    }
    if let Some(encoding) = message.unknown_encoding() {
        parts.headers.insert("grpc-encoding", encoding.clone());
    }
    parts.extensions.insert(message);
    // The form that the call layer expects, whatever carried the request here.
    parts.version = Version::HTTP_2;
    Request::from_parts(parts, body)
}

/// Without those of gRPC and Connect.
fn own_headers(headers: HeaderMap) -> HeaderMap {
    let mut own = HeaderMap::with_capacity(headers.len());
    let mut name = None;
    for (next, value) in headers {
        // Further values of a header come without its name.
        name = next.or(name);
        if let Some(name) = name.as_ref().filter(|name| !is_of_protocol(name)) {
            own.append(name.clone(), value);
        }
    }
    own
}

fn is_of_protocol(name: &HeaderName) -> bool {
    name.as_str().starts_with("grpc-") || name.as_str().starts_with("connect-")
}

pub(super) async fn from_grpc(response: Response<Body>, form: &ConnectForm) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if parts.status != StatusCode::OK {
        return Response::from_parts(parts, body);
    }
    let status = Status::from_header_map(&parts.headers);
    parts.headers = own_headers(parts.headers);
    parts.headers.insert(header::CONTENT_TYPE, form.content_type());
    match (form.method.answers, status) {
        (Answers::One, Some(status)) => error_answer(parts, &connect_error(&status, &form.method)),
        (Answers::One, None) => one_answer(parts, body, form).await,
        (Answers::Stream, Some(status)) => {
            Response::from_parts(parts, Body::new(ConnectStream::ended(&status, form.clone())))
        }
        (Answers::Stream, None) => Response::from_parts(parts, Body::new(ConnectStream::new(body, form.clone()))),
    }
}

async fn one_answer(mut parts: Parts, body: Body, form: &ConnectForm) -> Response<Body> {
    let collected = match body.collect().await {
        Ok(collected) => collected,
        Err(status) => return error_answer(parts, &connect_error(&status, &form.method)),
    };
    let status = collected.trailers().and_then(Status::from_header_map);
    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
        parts.headers.extend(status.metadata().clone().into_headers());
        return error_answer(parts, &connect_error(&status, &form.method));
    }
    let frame = collected.to_bytes();
    let message = frame.slice(ENVELOPE_HEADER_BYTES.min(frame.len())..);
    match form.codec.encode(message, &form.method.output) {
        Ok(message) => Response::from_parts(parts, Body::new(Full::new(message))),
        Err(problem) => error_answer(parts, &internal_error(&problem)),
    }
}

/// Errors are JSON, whatever the codec.
fn error_answer(mut parts: Parts, error: &ConnectError) -> Response<Body> {
    parts.status = error.http_status();
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::new(Full::new(error.to_json())))
}
