//! The trace a registration belongs to. A value of the domain: stored and returned whether or not anything is exported.

use std::{fmt, num::NonZeroU64, num::NonZeroU128, str::FromStr};

/// A W3C trace id: 16 bytes, not all zero (<https://www.w3.org/TR/trace-context/#trace-id>).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// A W3C parent id: 8 bytes, not all zero (<https://www.w3.org/TR/trace-context/#parent-id>).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a trace or span id")]
pub struct InvalidTraceId;

impl TraceId {
    /// `None` if all are zero.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        NonZeroU128::new(u128::from_be_bytes(bytes)).map(Self)
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

impl SpanId {
    /// `None` if all are zero.
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        NonZeroU64::new(u64::from_be_bytes(bytes)).map(Self)
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TraceId {
    type Err = InvalidTraceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = alloy::primitives::hex::decode(text).map_err(|_| InvalidTraceId)?;
        bytes.try_into().ok().and_then(Self::from_bytes).ok_or(InvalidTraceId)
    }
}

impl FromStr for SpanId {
    type Err = InvalidTraceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = alloy::primitives::hex::decode(text).map_err(|_| InvalidTraceId)?;
        bytes.try_into().ok().and_then(Self::from_bytes).ok_or(InvalidTraceId)
    }
}

/// The parent of a registration trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// Of the caller or of the server span.
    pub parent: Option<SpanId>,
    /// The caller's or our head sampling decision; `None` is deferred.
    pub sampled: Option<bool>,
    /// W3C `tracestate` of the caller: valid, at most 32 members and 512 characters, empty when there was none.
    pub tracestate: String,
    /// The `sentry-` members of the caller's W3C baggage as they came, at most 2 KiB, empty when there were none.
    pub baggage: String,
}
