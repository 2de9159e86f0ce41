//! The only room that names opentelemetry: logs, spans, trace ids, metrics.

mod log;

pub use log::{InvalidLogSetting, LogFilter, LogFormat, init};

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
}
