//! The request message of a Connect call, which becomes that of a gRPC call.

use super::{
    codec::Codec,
    methods::{Answers, Method},
    wire::{COMPRESSED_FLAG, ENVELOPE_HEADER_BYTES, GzipError, envelope, gunzip},
};
use crate::api::error::ApiError;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;

const STREAM_ENCODING: &str = "connect-content-encoding";
const PROTOCOL_VERSION: &str = "connect-protocol-version";
const TIMEOUT: &str = "connect-timeout-ms";

/// An extension of a request: how its message is read.
#[derive(Clone, Debug)]
pub(in crate::api) struct ConnectMessage {
    codec: Codec,
    method: Arc<Method>,
    encoding: Encoding,
    /// What is wrong with the headers.
    problem: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Encoding {
    Identity,
    Gzip,
    /// The gRPC library refuses it by name.
    Unknown(HeaderValue),
}

/// What marks the end of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::api) enum Framing {
    /// The end of the body.
    Whole,
    /// Its length, as in gRPC.
    Envelope,
}

impl ConnectMessage {
    /// Reads the headers of the protocol, with the timeout in the form that gRPC has.
    pub(super) fn from_headers(headers: &HeaderMap, codec: Codec, method: Arc<Method>) -> (Self, Option<HeaderValue>) {
        let encoding = match method.answers {
            Answers::One => headers.get(header::CONTENT_ENCODING),
            Answers::Stream => headers.get(STREAM_ENCODING),
        };
        let encoding = match encoding {
            None => Encoding::Identity,
            Some(encoding) if encoding == "identity" => Encoding::Identity,
            Some(encoding) if encoding == "gzip" => Encoding::Gzip,
            Some(encoding) => Encoding::Unknown(encoding.clone()),
        };
        let timeout = headers.get(TIMEOUT).map(|value| {
            let timeout = value.to_str().ok().and_then(grpc_timeout);
            timeout.ok_or_else(|| format!("{TIMEOUT} is not a number of milliseconds with at most ten digits"))
        });
        let version = headers.get(PROTOCOL_VERSION).filter(|version| *version != "1");
        let problem = match &timeout {
            Some(Err(problem)) => Some(problem.clone()),
            _ if version.is_some() => Some(format!("{PROTOCOL_VERSION} has to be 1")),
            _ => None,
        };
        (Self { codec, method, encoding, problem }, timeout.and_then(Result::ok))
    }

    /// # Errors
    /// When its headers are invalid.
    pub(in crate::api) fn check_headers(&self) -> Result<(), ApiError> {
        self.problem.clone().map_or(Ok(()), |problem| Err(ApiError::MalformedRequest(problem)))
    }

    pub(in crate::api) fn framing(&self) -> Framing {
        match self.method.answers {
            Answers::One => Framing::Whole,
            Answers::Stream => Framing::Envelope,
        }
    }

    pub(in crate::api) fn is_encoded(&self) -> bool {
        self.encoding != Encoding::Identity
    }

    /// For `grpc-encoding`.
    pub(super) fn unknown_encoding(&self) -> Option<&HeaderValue> {
        if let Encoding::Unknown(encoding) = &self.encoding { Some(encoding) } else { None }
    }

    /// With the frame header of gRPC.
    ///
    /// # Errors
    /// When it cannot be read, or is too large when it is decompressed.
    pub(in crate::api) fn to_frame(&self, received: Bytes, max_bytes: usize) -> Result<Bytes, ApiError> {
        if self.unknown_encoding().is_some() {
            return Ok(envelope(0, &received));
        }
        let (is_compressed, message) = match self.framing() {
            Framing::Whole => (self.encoding == Encoding::Gzip, received),
            Framing::Envelope => {
                let flags = received.first().copied().unwrap_or_default();
                (flags == COMPRESSED_FLAG, received.slice(ENVELOPE_HEADER_BYTES.min(received.len())..))
            }
        };
        let message = if is_compressed {
            let message = gunzip(&message, max_bytes).map_err(|error| match error {
                GzipError::TooLarge => ApiError::MessageTooLarge(max_bytes),
                GzipError::Invalid => ApiError::MalformedRequest("its gzip data is invalid".to_owned()),
            })?;
            message.into()
        } else {
            message
        };
        let message = self.codec.decode(message, &self.method.input).map_err(ApiError::MalformedRequest)?;
        Ok(envelope(0, &message))
    }
}

/// `connect-timeout-ms` in the form of `grpc-timeout`, which has at most eight digits.
fn grpc_timeout(milliseconds: &str) -> Option<HeaderValue> {
    if milliseconds.len() > 10 || !milliseconds.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let milliseconds: u64 = milliseconds.parse().ok()?;
    let text =
        if milliseconds < 100_000_000 { format!("{milliseconds}m") } else { format!("{}S", milliseconds / 1000) };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_the_protocol_says() {
        for (text, expected) in [
            ("0", Some("0m")),
            ("1500", Some("1500m")),
            ("99999999", Some("99999999m")),
            ("100000000", Some("100000S")),
            ("9999999999", Some("9999999S")),
            ("10000000000", None),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("1s", None),
        ] {
            let timeout = grpc_timeout(text);
            assert_eq!(timeout.as_ref().map(|value| value.to_str().unwrap()), expected, "{text}");
        }
    }
}
