//! Operations and attributes that the span pipeline itself reads.

use opentelemetry::{InstrumentationScope, KeyValue, Value};
use std::sync::LazyLock;

pub(in crate::telemetry) const SERVER_OP: &str = "grpc.server";
pub(in crate::telemetry) const REGISTRATION_OP: &str = "blockchain.register";
pub(super) const BATCH_OP: &str = "blockchain.batch";
pub(super) const HEALTH_CHECK_OP: &str = "rpc.health_check";
/// The span's operation (<https://develop.sentry.dev/sdk/telemetry/traces/span-operations/>).
pub(in crate::telemetry) const OP_ATTRIBUTE: &str = "sentry.op";
/// Set when an RPC request failed over to another endpoint.
pub(super) const FAILOVER_ATTRIBUTE: &str = "failover";
/// Only batches that carry registrations have it.
pub(super) const BATCH_SIZE_ATTRIBUTE: &str = "batchSize";
/// Set on a batch that failed like the previous one.
pub(super) const REPEATED_ATTRIBUTE: &str = "repeated";
/// The head decision that was made before the root span started. Never exported.
pub(in crate::telemetry) const SAMPLED_ATTRIBUTE: &str = "registrar.sampled";
/// The caller's baggage, source of the dynamic sampling context. Never exported.
pub(in crate::telemetry) const BAGGAGE_ATTRIBUTE: &str = "registrar.baggage";

/// Of spans that are not made by a tracer.
pub(super) fn own_scope() -> InstrumentationScope {
    static SCOPE: LazyLock<InstrumentationScope> =
        LazyLock::new(|| InstrumentationScope::builder(env!("CARGO_PKG_NAME")).build());
    SCOPE.clone()
}

/// The last value, because recording a field again appends it.
pub(super) fn find_attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().rev().find(|attribute| attribute.key.as_str() == key).map(|attribute| &attribute.value)
}

pub(in crate::telemetry) fn text_attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    if let Value::String(text) = find_attribute(attributes, key)? { Some(text.as_str()) } else { None }
}

pub(in crate::telemetry) fn int_attribute(attributes: &[KeyValue], key: &str) -> Option<i64> {
    if let Value::I64(number) = find_attribute(attributes, key)? { Some(*number) } else { None }
}

pub(super) fn bool_attribute(attributes: &[KeyValue], key: &str) -> bool {
    matches!(find_attribute(attributes, key), Some(Value::Bool(true)))
}

pub(in crate::telemetry) fn span_op(attributes: &[KeyValue]) -> &str {
    text_attribute(attributes, OP_ATTRIBUTE).unwrap_or("default")
}
