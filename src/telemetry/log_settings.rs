//! The settings of the log.

use std::{io::IsTerminal, str::FromStr};
use tracing_subscriber::EnvFilter;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    Text,
    /// One JSON object per line.
    Json,
}

/// In the syntax of `RUST_LOG`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogFilter(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidLogSetting {
    #[error("is not a log format: use text or json")]
    Format,
    #[error("is not a log filter: use one such as info or registrar=debug,info")]
    Filter,
}

impl LogFormat {
    /// Text on a terminal, JSON elsewhere.
    pub(crate) fn detect() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

impl FromStr for LogFormat {
    type Err = InvalidLogSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidLogSetting::Format),
        }
    }
}

impl LogFilter {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = InvalidLogSetting;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::try_new(text).map_err(|_| InvalidLogSetting::Filter)?;
        Ok(Self(text.to_owned()))
    }
}
