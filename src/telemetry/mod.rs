//! The only room that names opentelemetry and sentry: logs, spans, reports, metrics, trace ids.
//!
//! `events` has one function for each fact: its log line, its metric and its report together. `spans` is the one pipeline for
//! spans, to OTLP and to Sentry. `redact` stands at every door.

pub mod events;
mod log;
mod metrics;
mod ongoing;
pub mod panic;
pub mod propagation;
mod receiver_status;
pub mod redact;
mod scrub;
mod sentry;
mod settings;
pub mod spans;
mod start;
mod targets;
mod timeout_report;
mod user_id;

pub use log::{InvalidLogSetting, LogFilter, LogFormat};
pub use metrics::{Metrics, metrics};
pub(crate) use ongoing::{OngoingCondition, log_retry};
pub use redact::{Secrets, redact};
pub use settings::{
    InvalidDsn, InvalidOtlp, InvalidRate, OtlpEndpoint, OtlpProtocol, OtlpSettings, Rate, SentryDsn, SentrySettings,
    Settings, SpanLimits,
};
pub use start::{StartError, Telemetry, init, with_isolated_hub};
pub(crate) use targets::RECOVERED_TARGET;
pub use timeout_report::{AffectedRegistration, ReportSubject, TimedOutTransaction, TransactionTimeoutError};
pub(crate) use user_id::{Salt, exported_user_id};
