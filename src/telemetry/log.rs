//! Log lines: text for people, JSON for machines, the trace id in every line that belongs to a journey or a request.

use super::{Settings, spans};
use serde::Serialize;
use std::{collections::BTreeMap, fmt, io::IsTerminal, str::FromStr};
use tracing::{Event, Level, Subscriber, field};
use tracing_subscriber::{
    EnvFilter, Layer,
    field::RecordFields,
    filter::{FilterExt, filter_fn},
    fmt::{FmtContext, FormatEvent, FormatFields, format, time::FormatTime, time::SystemTime},
    registry::LookupSpan,
};

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which log lines are written: the `RUST_LOG` syntax.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFilter(String);

/// A log setting that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLogSetting {
    /// Neither text nor json.
    #[error("is neither text nor json")]
    Format,
    /// Not the `RUST_LOG` syntax.
    #[error("is no log filter: give one such as info or registrar=debug,info")]
    Filter,
}

impl LogFormat {
    /// Text where a person looks at standard error, JSON where a machine does.
    pub fn by_terminal() -> Self {
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

/// Writes log lines to standard error; standard output belongs to the commands' answers.
///
/// alloy and the HTTP client below it are kept out: their lines hold the endpoint's URL with its key.
pub(super) fn layer<S>(settings: &Settings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let wanted = EnvFilter::new(&settings.log_filter.0);
    let safe =
        filter_fn(|metadata| !["alloy", "reqwest", "hyper"].iter().any(|room| metadata.target().starts_with(room)));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .fmt_fields(NoFields);
    match settings.log_format {
        LogFormat::Text => layer.event_format(TextLines).with_filter(wanted.and(safe)).boxed(),
        LogFormat::Json => layer
            .event_format(JsonLines {
                service: settings.service_name.clone(),
                environment: settings.environment.clone(),
            })
            .with_filter(wanted.and(safe))
            .boxed(),
    }
}

/// Of a span's fields none is in a line: its trace id is known without them, and formatting costs more than the spans do.
struct NoFields;

impl<'w> FormatFields<'w> for NoFields {
    fn format_fields<R: RecordFields>(&self, _writer: format::Writer<'w>, _fields: R) -> fmt::Result {
        Ok(())
    }
}

fn trace_id() -> Option<String> {
    spans::current_trace().map(|(trace_id, _)| trace_id.to_string())
}

#[derive(Default)]
struct Fields {
    message: String,
    fields: BTreeMap<&'static str, serde_json::Value>,
}

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name(), text.into());
        }
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.fields.insert(field.name(), value.into());
        }
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.fields.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.fields.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.fields.insert(field.name(), value.into());
    }
}

struct JsonLines {
    service: String,
    environment: String,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    level: &'static str,
    target: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    service: &'a str,
    environment: &'a str,
    #[serde(flatten)]
    fields: &'a BTreeMap<&'static str, serde_json::Value>,
}

/// The time as RFC 3339 in UTC.
fn now() -> String {
    let mut time = String::new();
    // Writing into a String does not fail.
    let _ = SystemTime.format_time(&mut format::Writer::new(&mut time));
    time
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut seen = Fields::default();
        event.record(&mut seen);
        let of_span = trace_id();
        let of_event = seen.fields.remove("trace_id");
        let line = JsonLine {
            time: &now(),
            level: event.metadata().level().as_str(),
            target: event.metadata().target(),
            message: &seen.message,
            trace_id: of_event.as_ref().and_then(|value| value.as_str()).or(of_span.as_deref()),
            service: &self.service,
            environment: &self.environment,
            fields: &seen.fields,
        };
        writeln!(writer, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

struct TextLines;

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut seen = Fields::default();
        event.record(&mut seen);
        let (colour, plain) = match *event.metadata().level() {
            Level::ERROR => ("\x1b[31m", "\x1b[0m"),
            Level::WARN => ("\x1b[33m", "\x1b[0m"),
            Level::INFO | Level::DEBUG | Level::TRACE => ("", ""),
        };
        let (colour, plain) = if writer.has_ansi_escapes() { (colour, plain) } else { ("", "") };
        write!(writer, "{} {colour}{:>5}{plain} {}", now(), event.metadata().level().as_str(), seen.message)?;
        for (name, value) in &seen.fields {
            match value.as_str() {
                Some(text) => write!(writer, " {name}={text}")?,
                None => write!(writer, " {name}={value}")?,
            }
        }
        if let (Some(trace_id), false) = (trace_id(), seen.fields.contains_key("trace_id")) {
            write!(writer, " trace_id={trace_id}")?;
        }
        writeln!(writer)
    }
}
