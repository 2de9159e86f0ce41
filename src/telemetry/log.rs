//! Log lines: text for people, JSON for machines, the trace id in every line that belongs to a journey or a request. Each is redacted
//! when it is whole, and is one line whatever its values hold.

use super::{
    Settings, redact, spans,
    targets::{FATAL_TARGET, PANIC_TARGET},
};
use serde::Serialize;
use std::{borrow::Cow, collections::BTreeMap, fmt, fmt::Write as _, io::IsTerminal, str::FromStr};
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
    pub fn detect() -> Self {
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

/// The database's driver tells of each connection that breaks, and of each that takes long: of all, when the database is gone, which is
/// said once by itself. Whoever names it in the filter, as `sqlx=warn`, hears of them all the same.
const DEFAULT_DIRECTIVES: &str = "sqlx=off";

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
/// alloy, OpenTelemetry and the HTTP client below them are kept out: their lines hold URLs with their keys. And a collector that is
/// away would be an error for each batch.
pub(super) fn layer<S>(settings: &Settings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let wanted = EnvFilter::new(format!("{DEFAULT_DIRECTIVES},{}", settings.log_filter.0));
    const DENIED_TARGETS: [&str; 4] = ["alloy", "opentelemetry", "reqwest", "hyper"];
    // Of spans only a filter that names some has to know; to any other they would cost time at each step into and out of them.
    let spans = settings.log_filter.0.contains('[');
    let safe = filter_fn(move |metadata| {
        (spans || metadata.is_event()) && !DENIED_TARGETS.iter().any(|room| metadata.target().starts_with(room))
    });
    // Whatever is wanted, nobody wants to miss a panic, or why it ended.
    let shown = wanted.and(safe).or(filter_fn(|metadata| [PANIC_TARGET, FATAL_TARGET].contains(&metadata.target())));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A line that cannot be written is lost: whoever logs is not to panic of it.
        .log_internal_errors(false)
        .fmt_fields(NoFields);
    match settings.log_format {
        LogFormat::Text => layer.event_format(TextLines).with_filter(shown).boxed(),
        LogFormat::Json => layer
            .event_format(JsonLines {
                service: settings.service_name.clone(),
                environment: settings.environment.clone(),
            })
            .with_filter(shown)
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
struct EventFields {
    message: String,
    fields: BTreeMap<&'static str, serde_json::Value>,
}

impl field::Visit for EventFields {
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
fn now_rfc3339() -> String {
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
        let mut seen = EventFields::default();
        event.record(&mut seen);
        let of_span = trace_id();
        let of_event = seen.fields.remove("trace_id");
        let line = JsonLine {
            time: &now_rfc3339(),
            level: event.metadata().level().as_str(),
            target: event.metadata().target(),
            message: &seen.message,
            trace_id: of_event.as_ref().and_then(|value| value.as_str()).or(of_span.as_deref()),
            service: &self.service,
            environment: &self.environment,
            fields: &seen.fields,
        };
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        let line = escape_control_chars(&line, |c, line| write!(line, "\\u{:04x}", u32::from(c)));
        writeln!(writer, "{}", redact(&line))
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
        let mut seen = EventFields::default();
        event.record(&mut seen);
        let (colour, plain) = match *event.metadata().level() {
            Level::ERROR => ("\x1b[31m", "\x1b[0m"),
            Level::WARN => ("\x1b[33m", "\x1b[0m"),
            Level::INFO | Level::DEBUG | Level::TRACE => ("", ""),
        };
        let (colour, plain) = if writer.has_ansi_escapes() { (colour, plain) } else { ("", "") };
        let mut line = format!("{} {colour}{:>5}{plain} ", now_rfc3339(), event.metadata().level().as_str());
        line.push_str(&escape_text(&seen.message));
        for (name, value) in &seen.fields {
            match value.as_str() {
                Some(text) => write!(line, " {name}={}", escape_text(text))?,
                None => write!(line, " {name}={value}")?,
            }
        }
        if let (Some(trace_id), false) = (trace_id(), seen.fields.contains_key("trace_id")) {
            write!(line, " trace_id={trace_id}")?;
        }
        writeln!(writer, "{}", redact(&line))
    }
}

/// A value as a part of a line for people.
fn escape_text(text: &str) -> Cow<'_, str> {
    escape_control_chars(text, |c, line| write!(line, "{}", c.escape_default()))
}

/// The text with each character escaped that could end a line, hide a part of it or turn it around: a value must not look like a
/// line of its own on any terminal or to any reader of logs.
fn escape_control_chars(text: &str, escape: impl Fn(char, &mut String) -> fmt::Result) -> Cow<'_, str> {
    let unsafe_here = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if plain || !text.contains(unsafe_here) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unsafe_here(c) {
            // Writing into a String does not fail.
            let _ = escape(c, &mut line);
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };
    use tracing_subscriber::{Registry, fmt::MakeWriter, layer::SubscriberExt};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What is written in either format.
    fn written(log: impl Fn()) -> [String; 2] {
        let json = JsonLines { service: "registrar".into(), environment: "test".into() };
        [write(TextLines, &log), write(json, &log)]
    }

    fn write<F: FormatEvent<Registry, NoFields> + Send + Sync + 'static>(format: F, log: impl Fn()) -> String {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(written.clone()).with_ansi(false);
        let layer = layer.fmt_fields(NoFields).event_format(format);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_value_breaks_a_line_or_forges_one() {
        let forged =
            "x\r\n2026-11-20T10:00:00Z ERROR forged\u{1b}[2K\u{9b}31m\u{85}\u{2028}\u{2029}\u{202e}\u{7f}\u{0}";
        for text in written(|| tracing::info!(field = forged, shown = %forged, trace_id = forged, "{forged}")) {
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.ends_with('\n'), "{text:?}");
            let left =
                text.trim_end_matches('\n').chars().find(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}".contains(*c));
            assert_eq!(left, None, "{text:?}");
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(&text) {
                assert_eq!((&line["message"], &line["field"]), (&forged.into(), &forged.into()), "nothing is lost");
            }
        }
    }

    #[test]
    fn a_line_is_redacted_when_it_is_whole() {
        let text = written(|| {
            let mail = "jo@mail.example";
            tracing::info!(url = "https://base.example/v2/key", user = ?Some(mail), "\n{mail} \"https://u:p@base.example\"");
        });
        for text in &text {
            for secret in ["v2/key", "u:p", "mail.example"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
        let line: serde_json::Value = serde_json::from_str(&text[1]).unwrap();
        assert_eq!(line["message"], "\n[redacted] \"https://base.example/[redacted]\"");
        assert_eq!(line["url"], "https://base.example/[redacted]");
        assert!(text[0].contains("url=https://base.example/[redacted]"), "{}", text[0]);
    }
}
