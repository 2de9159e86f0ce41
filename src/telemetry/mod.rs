//! Logs, spans, reports, metrics and trace ids. No other area uses opentelemetry or sentry.
//!
//! `events` has one function per fact, which makes its log line, its metric and its report. `spans` is the pipeline for
//! all spans, to OTLP and to Sentry. Everything that is logged or exported is redacted by `redact`.

mod delay_report;
mod event_fields;
mod event_listener;
pub mod events;
mod ids;
mod log;
mod log_settings;
mod metrics;
mod ongoing;
pub mod panic;
pub(crate) mod propagation;
mod receiver_status;
pub(crate) mod redact;
mod scrub;
mod sentry;
mod settings;
pub(crate) mod spans;
mod start;
pub mod stderr;
mod targets;
mod timeout_report;
mod user_id;

pub(crate) use delay_report::{DelayedBatch, DelayedRegistration, QueueDelay, UnsentTransaction};
pub(crate) use log_settings::{LogFilter, LogFormat};
#[cfg(test)]
pub(crate) use metrics::Spend;
pub(crate) use metrics::{
    ConnectionEnd, Credentials, Port, RECENT_SLOT, RecentActivity, RecentCounts, RecentStage, ReloadOutcome,
    SignerReading, Stage, metrics,
};
pub(crate) use ongoing::{OngoingCondition, log_retry};
pub(crate) use redact::{Secrets, redact};
pub use settings::Settings;
pub(crate) use settings::{
    ClientCertificate, InvalidDsn, OtlpEndpoint, OtlpProtocol, OtlpSettings, OtlpTls, Rate, SentrySettings, SpanLimits,
    is_certificate, is_loopback, is_private_key,
};
pub use start::{StartError, Telemetry, init, with_isolated_hub};
pub(crate) use targets::RECOVERED_TARGET;
pub(crate) use timeout_report::{AffectedRegistration, TimedOutTransaction, TransactionTimeoutError};
pub(crate) use user_id::{Salt, exported_user_id};
