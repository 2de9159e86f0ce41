//! The only room that names opentelemetry and sentry: logs, spans, trace ids, metrics, and what may not leave in any of them.

#[cfg(test)]
pub(crate) mod capture;
pub mod events;
mod log;
mod metrics;
pub mod panic;
pub mod propagation;
pub mod redact;
mod timeout;

pub use log::{InvalidLogSetting, LogFilter, LogFormat, init};
pub use metrics::{Metrics, metrics};
pub use redact::{Secrets, redact};
pub use timeout::{About, Late, TimedOut, TransactionTimeoutError};

/// Logs and spans.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether spans are made at all.
    pub spans: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: LogFilter,
    /// `service` in every JSON log line.
    pub service_name: String,
    /// `environment` in every JSON log line.
    pub environment: String,
    /// What must not be told: taken out of whatever leaves.
    pub secrets: Secrets,
}
