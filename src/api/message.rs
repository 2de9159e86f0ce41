//! The message of a call with one request message: read as a whole, within a time and a size, before a handler runs.

use super::{
    connections::Connection,
    error::{ApiError, TooManyCalls},
    front::{ConnectMessage, Framing},
    limits::{MAX_ARRIVING_CALLS, MAX_UNFINISHED_MESSAGES, MESSAGE_TIMEOUT},
    method::MethodKind,
};
use crate::pipeline::Places;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

/// Compressed-Flag and Message-Length (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
pub(super) const FRAME_HEADER_BYTES: usize = 5;

/// The places of calls whose message is not complete.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    calls: Places,
    /// For those of whose message a part was received.
    parts: Places,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self { calls: Places::new(MAX_ARRIVING_CALLS), parts: Places::new(MAX_UNFINISHED_MESSAGES) }
    }
}

/// How far a message has been received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Unfinished,
    Complete,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum MessageForm<'a> {
    Grpc { is_encoded: bool },
    Connect(&'a ConnectMessage),
}

impl MessageForm<'_> {
    /// # Errors
    /// When no continuation of what was received is a valid message.
    fn check(&self, received: &[u8], is_end: bool, max_bytes: usize) -> Result<Progress, ApiError> {
        match self {
            Self::Grpc { is_encoded } => check_frame(received, max_bytes, *is_encoded),
            Self::Connect(message) => match message.framing() {
                Framing::Envelope => check_frame(received, max_bytes, message.is_encoded()),
                Framing::Whole if received.len() > max_bytes => Err(ApiError::MessageTooLarge(max_bytes)),
                Framing::Whole if is_end => Ok(Progress::Complete),
                Framing::Whole => Ok(Progress::Unfinished),
            },
        }
    }

    /// With the frame header of gRPC.
    fn into_frame(self, received: Bytes, max_bytes: usize) -> Result<Bytes, ApiError> {
        match self {
            Self::Grpc { .. } => Ok(received),
            Self::Connect(message) => message.to_frame(received, max_bytes),
        }
    }
}

/// Reads a call's only message, with its frame header.
///
/// # Errors
/// When it is none, too large, or not complete in time, or when too many are not complete.
pub(super) async fn read_message(
    mut body: Body,
    kind: MethodKind,
    form: MessageForm<'_>,
    arrivals: &Arrivals,
    connection: &Connection,
) -> Result<Bytes, ApiError> {
    if let MessageForm::Connect(message) = form {
        message.check_headers()?;
    }
    let too_many = |_| ApiError::TooManyCalls(TooManyCalls::UnfinishedMessages);
    let deadline = Instant::now() + MESSAGE_TIMEOUT;
    let _arriving = arrivals.calls.take(connection.caller()).map_err(too_many)?;
    let max_bytes = kind.max_request_bytes();
    // Calls with many documents, whose messages always arrive in parts, have places of their own.
    let needs_place = kind != MethodKind::Batch;
    let mut received = BytesMut::new();
    let mut place = None;
    loop {
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| malformed(format!("its message was not complete after {} s", MESSAGE_TIMEOUT.as_secs())))?;
        match frame {
            Some(Ok(frame)) => {
                let Some(data) = frame.data_ref() else { continue };
                received.extend_from_slice(data);
                let progress = form.check(&received, body.is_end_stream(), max_bytes)?;
                // Nearly all messages arrive in one piece.
                if progress == Progress::Unfinished && needs_place && place.is_none() {
                    place = Some(arrivals.parts.take(connection.caller()).map_err(too_many)?);
                }
            }
            // Its content, such as base64: the body of a client that is gone does not end.
            Some(Err(status)) => return Err(malformed(status.message())),
            None => {
                return match form.check(&received, true, max_bytes)? {
                    Progress::Complete => form.into_frame(received.freeze(), max_bytes),
                    Progress::Unfinished if received.is_empty() => Err(malformed("it has no message")),
                    Progress::Unfinished => Err(malformed("its message is cut off")),
                };
            }
        }
    }
}

/// # Errors
/// When no continuation of what was received is a valid message.
fn check_frame(received: &[u8], max_bytes: usize, is_encoded: bool) -> Result<Progress, ApiError> {
    let Some(length) = message_length(received, max_bytes, is_encoded)? else { return Ok(Progress::Unfinished) };
    match received.len() - FRAME_HEADER_BYTES {
        received if received < length => Ok(Progress::Unfinished),
        received if received == length => Ok(Progress::Complete),
        _ => Err(malformed("it has more than one message")),
    }
}

/// From the header of a frame; `None` if the header is not complete.
///
/// # Errors
/// When the header is invalid or the message too large.
pub(super) fn message_length(received: &[u8], max_bytes: usize, is_encoded: bool) -> Result<Option<usize>, ApiError> {
    match received.first() {
        None | Some(0) => {}
        Some(1) if is_encoded => {}
        Some(1) => return Err(malformed("its message is flagged as compressed, but no header names the compression")),
        Some(flag) => return Err(malformed(format!("{flag} is not a compression flag"))),
    }
    let Some(header) = received.get(1..FRAME_HEADER_BYTES) else { return Ok(None) };
    let length = header.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    if length > max_bytes { Err(ApiError::MessageTooLarge(max_bytes)) } else { Ok(Some(length)) }
}

pub(super) fn malformed(problem: impl Into<String>) -> ApiError {
    ApiError::MalformedRequest(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_refused_as_soon_as_it_cannot_become_a_message() {
        let check = |bytes: &[u8], is_encoded| match check_frame(bytes, 3, is_encoded) {
            Ok(Progress::Unfinished) => "unfinished",
            Ok(Progress::Complete) => "complete",
            Err(ApiError::MessageTooLarge(3)) => "too large",
            Err(ApiError::MalformedRequest(_)) => "malformed",
            Err(error) => panic!("{error:?}"),
        };
        for (bytes, is_encoded, expected) in [
            (&b""[..], false, "unfinished"),
            (b"\0\0\0\0", false, "unfinished"),
            (b"\0\0\0\0\0", false, "complete"),
            (b"\0\0\0\0\x02a", false, "unfinished"),
            (b"\0\0\0\0\x02ab", false, "complete"),
            (b"\0\0\0\0\x02abc", false, "malformed"),
            (b"\0\0\0\0\x04", false, "too large"),
            (b"\0\xff\xff\xff\xff", false, "too large"),
            (b"\x01", false, "malformed"),
            (b"\x01\0\0\0\x01a", true, "complete"),
            (b"\x02", true, "malformed"),
            (b"{\"documentHash\"", false, "malformed"),
        ] {
            assert_eq!(check(bytes, is_encoded), expected, "{bytes:?}");
        }
    }
}
