//! Random trace and span ids, which are never zero.

use crate::registration::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

pub(crate) fn new_trace_id() -> TraceId {
    retry_zero(|| TraceId::from_bytes(RandomIdGenerator::default().new_trace_id().to_bytes()))
}

pub(crate) fn new_span_id() -> SpanId {
    retry_zero(|| SpanId::from_bytes(RandomIdGenerator::default().new_span_id().to_bytes()))
}

fn retry_zero<T>(generate: impl Fn() -> Option<T>) -> T {
    loop {
        if let Some(id) = generate() {
            return id;
        }
    }
}
