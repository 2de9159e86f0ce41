//! The only room that names opentelemetry and sentry: logs, spans, reports, metrics, trace ids.
//!
//! `events` has one function for each fact: its log line, its metric and its report together. `spans` is the one pipeline for
//! spans, to OTLP and to Sentry. `redact` stands at every door.

pub mod events;
mod log;
mod metrics;
pub mod panic;
pub mod propagation;
mod reach;
pub mod redact;
mod scrub;
mod sentry;
mod settings;
pub mod spans;
mod start;
mod timeout;
mod told;
mod users;

pub use log::{InvalidLogSetting, LogFilter, LogFormat};
pub use metrics::{Metrics, metrics};
pub use redact::{Secrets, redact};
pub use settings::{
    InvalidDsn, InvalidOtlp, InvalidRate, OtlpEndpoint, OtlpProtocol, OtlpSettings, Rate, Salt, SentryDsn,
    SentrySettings, Settings, SpanLimits,
};
pub use start::{StartError, Telemetry, apart, init};
pub use timeout::{About, Affected, TimedOut, TransactionTimeoutError};
pub use told::Told;
pub(crate) use told::hindered;
pub use users::outward as user_id;
