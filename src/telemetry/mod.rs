//! The only room that names opentelemetry: logs, spans, trace ids, metrics.

#[cfg(test)]
pub(crate) mod capture;
pub mod events;
mod log;
mod metrics;
pub mod propagation;
mod timeout;

pub use log::{InvalidLogSetting, LogFilter, LogFormat, init};
pub use metrics::{Metrics, metrics};
pub use timeout::{About, Late, TimedOut, TransactionTimeoutError};

/// Logs and spans.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether spans are made at all.
    pub spans: bool,
    /// Who gets trace headers with our requests.
    pub trace_hosts: propagation::TraceHosts,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: LogFilter,
    /// `service` in every JSON log line.
    pub service_name: String,
    /// `environment` in every JSON log line.
    pub environment: String,
}
