//! Log lines as text or JSON, with the trace id of the current call or registration. A line is redacted as a whole, and
//! has no line breaks whatever the values hold.

use super::{
    log_settings::LogFormat,
    redact,
    settings::Settings,
    spans,
    stderr::StderrLines,
    targets::{AUDIT_TARGET, FATAL_TARGET, PANIC_TARGET, SENTRY_TARGET},
};
use serde::{Serialize, Serializer};
use std::{borrow::Cow, fmt, fmt::Write as _, io::IsTerminal};
use tracing::{Event, Level, Subscriber, field};
use tracing_subscriber::{
    EnvFilter, Layer,
    field::RecordFields,
    filter::{FilterExt, filter_fn},
    fmt::{FmtContext, FormatEvent, FormatFields, format, time::FormatTime, time::SystemTime},
    registry::LookupSpan,
};

/// sqlx logs each broken and each slow connection: all of them during an outage, which is reported once by us. h2 logs
/// each connection that it ends because of its client, which `registrar_connections_closed_total` counts. A filter that
/// names them, as `sqlx=warn`, enables them.
const DEFAULT_DIRECTIVES: &str = "sqlx=off,h2=off";
/// Their messages hold URLs with API keys, and an unreachable collector would be an error per batch.
const DENIED_TARGETS: [&str; 4] = ["alloy", "opentelemetry", "reqwest", "hyper"];

/// Writes to standard error, without waiting for it; standard output belongs to the output of commands.
pub(super) fn layer<S>(settings: &Settings) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let filter = settings.log_filter.as_str();
    let is_sentry_debugged = settings.sentry.as_ref().is_some_and(|sentry| sentry.debug);
    let sentry = if is_sentry_debugged { format!(",{SENTRY_TARGET}=debug") } else { String::new() };
    let by_setting = EnvFilter::new(format!("{DEFAULT_DIRECTIVES},{filter}{sentry}"));
    // Only a filter with span directives needs to see spans; for others that would cost time whenever a span is entered
    // or left.
    let needs_spans = filter.contains('[');
    let allowed = filter_fn(move |metadata| {
        (needs_spans || metadata.is_event())
            && !DENIED_TARGETS.iter().any(|target| metadata.target().starts_with(target))
    });
    let always = filter_fn(|metadata| [PANIC_TARGET, FATAL_TARGET, AUDIT_TARGET].contains(&metadata.target()));
    let filter = by_setting.and(allowed).or(always);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(StderrLines)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .fmt_fields(NoFields);
    match settings.log_format {
        LogFormat::Text => layer.event_format(TextLines).with_filter(filter).boxed(),
        LogFormat::Json => layer
            .event_format(JsonLines {
                service: settings.service_name.clone(),
                environment: settings.environment.clone(),
            })
            .with_filter(filter)
            .boxed(),
    }
}

/// Lines have no fields of spans, only the trace id: formatting them would cost more than the spans themselves.
struct NoFields;

impl<'w> FormatFields<'w> for NoFields {
    fn format_fields<R: RecordFields>(&self, _writer: format::Writer<'w>, _fields: R) -> fmt::Result {
        Ok(())
    }
}

fn trace_id() -> Option<String> {
    spans::current_trace().map(|(trace_id, _)| trace_id.to_string())
}

/// A value of a field.
enum Value<'v> {
    Text(&'v str),
    Debug(&'v dyn fmt::Debug),
    Signed(i64),
    Unsigned(u64),
    Flag(bool),
}

/// What an event holds, each field written as soon as it is seen: a map of them costs more than the line.
struct EventFields {
    message: String,
    trace_id: Option<String>,
    /// The others, as a part of the line.
    others: Vec<u8>,
    append: fn(&mut Vec<u8>, &'static str, &Value<'_>),
}

impl EventFields {
    fn of(event: &Event<'_>, append: fn(&mut Vec<u8>, &'static str, &Value<'_>)) -> Self {
        let mut fields = Self { message: String::new(), trace_id: None, others: Vec::new(), append };
        event.record(&mut fields);
        fields.trace_id = fields.trace_id.or_else(trace_id);
        fields
    }

    fn add(&mut self, field: &field::Field, value: &Value<'_>) {
        match field.name() {
            "message" => self.message = value.to_text().into_owned(),
            "trace_id" => self.trace_id = Some(value.to_text().into_owned()),
            name => (self.append)(&mut self.others, name, value),
        }
    }
}

impl Value<'_> {
    fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Debug(value) => format!("{value:?}").into(),
            Self::Signed(number) => number.to_string().into(),
            Self::Unsigned(number) => number.to_string().into(),
            Self::Flag(flag) => flag.to_string().into(),
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Debug(value) => serializer.collect_str(&format_args!("{value:?}")),
            Self::Signed(number) => serializer.serialize_i64(*number),
            Self::Unsigned(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}

impl field::Visit for EventFields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        self.add(field, &Value::Debug(value));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.add(field, &Value::Text(value));
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.add(field, &Value::Signed(value));
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.add(field, &Value::Unsigned(value));
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.add(field, &Value::Flag(value));
    }
}

struct JsonLines {
    service: String,
    environment: String,
}

/// `,"name":value`. Writing strings, numbers and flags into a buffer does not fail.
fn append_json(line: &mut Vec<u8>, name: &'static str, value: &Value<'_>) {
    line.push(b',');
    let _ = serde_json::to_writer(&mut *line, name);
    line.push(b':');
    let _ = serde_json::to_writer(line, value);
}

/// ` name=value`.
fn append_text(line: &mut Vec<u8>, name: &'static str, value: &Value<'_>) {
    let text = value.to_text();
    let text = escape_text(&text);
    let text = match value {
        Value::Text(_) | Value::Debug(_) => quote(&text),
        Value::Signed(_) | Value::Unsigned(_) | Value::Flag(_) => text,
    };
    line.extend([b" ", name.as_bytes(), b"=", text.as_bytes()].concat());
}

/// In UTC.
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
        let fields = EventFields::of(event, append_json);
        let mut line = format!("{{\"time\":\"{}\"", now_rfc3339()).into_bytes();
        let mut add = |name, text| append_json(&mut line, name, &Value::Text(text));
        add("level", event.metadata().level().as_str());
        add("target", event.metadata().target());
        add("message", &fields.message);
        if let Some(trace_id) = &fields.trace_id {
            add("trace_id", trace_id);
        }
        add("service", &self.service);
        add("environment", &self.environment);
        line.extend(fields.others);
        line.push(b'}');
        let line = String::from_utf8(line).map_err(|_| fmt::Error)?;
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
        let fields = EventFields::of(event, append_text);
        let (color, reset) = match *event.metadata().level() {
            Level::ERROR => ("\x1b[31m", "\x1b[0m"),
            Level::WARN => ("\x1b[33m", "\x1b[0m"),
            Level::INFO | Level::DEBUG | Level::TRACE => ("", ""),
        };
        let (color, reset) = if writer.has_ansi_escapes() { (color, reset) } else { ("", "") };
        let mut line = format!("{} {color}{:>5}{reset} ", now_rfc3339(), event.metadata().level().as_str());
        line.push_str(&escape_text(&fields.message));
        line.push_str(str::from_utf8(&fields.others).map_err(|_| fmt::Error)?);
        if let Some(trace_id) = fields.trace_id {
            write!(line, " trace_id={}", quote(&escape_text(&trace_id)))?;
        }
        writeln!(writer, "{}", redact(&line))
    }
}

/// A value that contains a space or a quote, or nothing, in quotes: it ends where it seems to end.
fn quote(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.contains([' ', '"']) {
        Cow::Owned(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
    } else {
        Cow::Borrowed(text)
    }
}

fn escape_text(text: &str) -> Cow<'_, str> {
    escape_control_chars(text, |c, line| write!(line, "{}", c.escape_default()))
}

/// Escapes characters that could end a line, hide a part of it or reverse it, so that no value can forge a line on a
/// terminal or in a log viewer.
fn escape_control_chars(text: &str, escape: impl Fn(char, &mut String) -> fmt::Result) -> Cow<'_, str> {
    let is_unsafe = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let is_plain_ascii = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if is_plain_ascii || !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
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
    use parking_lot::Mutex;
    use std::{io, sync::Arc};
    use tracing_subscriber::{Registry, fmt::MakeWriter, layer::SubscriberExt};

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Output {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// The same events as text and as JSON.
    fn in_both_formats(log: impl Fn()) -> [String; 2] {
        let json = JsonLines { service: "registrar".into(), environment: "test".into() };
        [write(TextLines, &log), write(json, &log)]
    }

    fn write<F: FormatEvent<Registry, NoFields> + Send + Sync + 'static>(format: F, log: impl Fn()) -> String {
        let output = Output::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(output.clone()).with_ansi(false);
        let layer = layer.fmt_fields(NoFields).event_format(format);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(output.0.lock().clone()).unwrap()
    }

    #[test]
    fn no_value_can_break_or_forge_a_line() {
        let forged =
            "x\r\n2026-11-20T10:00:00Z ERROR forged\u{1b}[2K\u{9b}31m\u{85}\u{2028}\u{2029}\u{202e}\u{7f}\u{0}";
        for text in in_both_formats(|| tracing::info!(field = forged, shown = %forged, trace_id = forged, "{forged}")) {
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.ends_with('\n'), "{text:?}");
            let unescaped =
                text.trim_end_matches('\n').chars().find(|c| c.is_control() || "\u{2028}\u{2029}\u{202e}".contains(*c));
            assert_eq!(unescaped, None, "{text:?}");
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(&text) {
                assert_eq!((&line["message"], &line["field"]), (&forged.into(), &forged.into()), "nothing is lost");
            }
        }
    }

    #[test]
    fn values_with_spaces_and_quotes_are_quoted_in_text() {
        let [text, _] = in_both_formats(|| {
            tracing::info!(
                a = "one",
                b = "two words",
                c = "say \"hi\" \\ there",
                d = "",
                e = 5,
                f = "x=\\",
                "a message"
            );
        });
        let fields = text.trim_end().split_once(" a message ").unwrap().1;
        assert_eq!(fields, r#"a=one b="two words" c="say \"hi\" \\ there" d="" e=5 f=x=\"#);
    }

    #[test]
    fn lines_are_redacted() {
        let text = in_both_formats(|| {
            let mail = "jo@mail.example";
            let url = "https://base.example/v2/key";
            tracing::info!(url, user = ?Some(mail), "\n{mail} \"https://u:p@base.example\"");
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
