//! The Connect protocol on the wire (<https://connectrpc.com/docs/protocol/>): codes, errors, envelopes, compression.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::StatusCode;
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, io::Read};
use tonic::Code;

/// Flags and length.
pub(super) const ENVELOPE_HEADER_BYTES: usize = 5;
pub(super) const COMPRESSED_FLAG: u8 = 1;
const END_OF_STREAM_FLAG: u8 = 2;

/// An error of a call.
#[derive(Serialize)]
pub(super) struct ConnectError {
    #[serde(serialize_with = "serialize_code")]
    pub(super) code: Code,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<ErrorDetail>,
}

#[derive(Serialize)]
pub(super) struct ErrorDetail {
    /// The full name of the message.
    #[serde(rename = "type")]
    pub(super) type_name: String,
    #[serde(serialize_with = "serialize_bytes")]
    pub(super) value: Vec<u8>,
    /// The same in JSON, for people and for clients that do not have its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) debug: Option<serde_json::Value>,
}

/// The message of the last envelope of a stream.
#[derive(Serialize)]
pub(super) struct EndOfStream<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a ConnectError>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<&'a str, Vec<&'a str>>,
}

impl ConnectError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    pub(super) fn http_status(&self) -> StatusCode {
        code_row(self.code).1
    }

    pub(super) fn to_json(&self) -> Bytes {
        to_json(self)
    }
}

impl EndOfStream<'_> {
    pub(super) fn to_envelope(&self) -> Bytes {
        envelope(END_OF_STREAM_FLAG, &to_json(self))
    }
}

/// Maps with text keys and values that are text or JSON are always valid JSON.
fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec()).into()
}

fn serialize_code<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code_row(*code).0)
}

fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
}

/// The name of a code, and the HTTP status of a call with one answer.
fn code_row(code: Code) -> (&'static str, StatusCode) {
    match code {
        Code::Cancelled => ("canceled", StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)),
        Code::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
        Code::DeadlineExceeded => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Code::AlreadyExists => ("already_exists", StatusCode::CONFLICT),
        Code::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
        Code::ResourceExhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Code::FailedPrecondition => ("failed_precondition", StatusCode::BAD_REQUEST),
        Code::Aborted => ("aborted", StatusCode::CONFLICT),
        Code::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
        Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED),
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::DataLoss => ("data_loss", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
        Code::Ok | Code::Unknown => ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// A message in its envelope; without flags it is a frame of gRPC.
pub(super) fn envelope(flags: u8, message: &[u8]) -> Bytes {
    let mut envelope = BytesMut::with_capacity(ENVELOPE_HEADER_BYTES + message.len());
    envelope.put_u8(flags);
    // Messages are far smaller.
    envelope.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    envelope.put_slice(message);
    envelope.freeze()
}

/// Removes the first envelope from what was received, if it is complete, and returns its message.
pub(super) fn next_message(received: &mut BytesMut) -> Option<Bytes> {
    let header = received.get(1..ENVELOPE_HEADER_BYTES)?;
    let length = header.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    if received.len() < ENVELOPE_HEADER_BYTES + length {
        return None;
    }
    Some(received.split_to(ENVELOPE_HEADER_BYTES + length).freeze().slice(ENVELOPE_HEADER_BYTES..))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GzipError {
    Invalid,
    TooLarge,
}

/// An empty message is not compressed.
///
/// # Errors
/// When the data is invalid, or would have more than `max_bytes`.
pub(super) fn gunzip(compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, GzipError> {
    let mut message = Vec::new();
    if compressed.is_empty() {
        return Ok(message);
    }
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    GzDecoder::new(compressed).take(limit).read_to_end(&mut message).map_err(|_| GzipError::Invalid)?;
    if message.len() > max_bytes { Err(GzipError::TooLarge) } else { Ok(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://connectrpc.com/docs/protocol/#error-codes>
    #[test]
    fn codes_have_the_names_and_statuses_of_the_protocol() {
        for (number, name, status) in [
            (1, "canceled", 499),
            (2, "unknown", 500),
            (3, "invalid_argument", 400),
            (4, "deadline_exceeded", 504),
            (5, "not_found", 404),
            (6, "already_exists", 409),
            (7, "permission_denied", 403),
            (8, "resource_exhausted", 429),
            (9, "failed_precondition", 400),
            (10, "aborted", 409),
            (11, "out_of_range", 400),
            (12, "unimplemented", 501),
            (13, "internal", 500),
            (14, "unavailable", 503),
            (15, "data_loss", 500),
            (16, "unauthenticated", 401),
        ] {
            let error = ConnectError::new(Code::from_i32(number), "what");
            assert_eq!(&error.to_json()[..], format!(r#"{{"code":"{name}","message":"what"}}"#).as_bytes());
            assert_eq!(error.http_status().as_u16(), status, "{name}");
        }
    }

    #[test]
    fn messages_are_found_wherever_the_parts_end() {
        let stream = [envelope(0, b"one"), envelope(0, b""), envelope(0, b"three")].concat();
        for size in 1..stream.len() {
            let (mut received, mut messages) = (BytesMut::new(), Vec::new());
            for part in stream.chunks(size) {
                received.extend_from_slice(part);
                messages.extend(std::iter::from_fn(|| next_message(&mut received)));
            }
            assert_eq!(messages, [&b"one"[..], b"", b"three"], "in parts of {size}");
        }
    }
}
