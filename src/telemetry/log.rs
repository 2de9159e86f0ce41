//! Log lines as text or JSON, with the trace id of the current call or registration. A line is redacted as a whole, and
//! has no line breaks whatever the values hold.

use super::{
    event_fields::EventFields,
    log_settings::LogFormat,
    redact,
    settings::Settings,
    spans,
    stderr::StderrLines,
    targets::{AUDIT_TARGET, FATAL_TARGET, PANIC_TARGET, SENTRY_TARGET},
};
use serde::Serialize;
use std::{borrow::Cow, collections::BTreeMap, fmt, fmt::Write as _, io::IsTerminal};
use tracing::{Event, Level, Subscriber};
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
        let mut fields = EventFields::of(event);
        let span_trace_id = trace_id();
        let event_trace_id = fields.fields.remove("trace_id");
        let line = JsonLine {
            time: &now_rfc3339(),
            level: event.metadata().level().as_str(),
            target: event.metadata().target(),
            message: &fields.message,
            trace_id: event_trace_id.as_ref().and_then(|value| value.as_str()).or(span_trace_id.as_deref()),
            service: &self.service,
            environment: &self.environment,
            fields: &fields.fields,
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
        let fields = EventFields::of(event);
        let (color, reset) = match *event.metadata().level() {
            Level::ERROR => ("\x1b[31m", "\x1b[0m"),
            Level::WARN => ("\x1b[33m", "\x1b[0m"),
            Level::INFO | Level::DEBUG | Level::TRACE => ("", ""),
        };
        let (color, reset) = if writer.has_ansi_escapes() { (color, reset) } else { ("", "") };
        let mut line = format!("{} {color}{:>5}{reset} ", now_rfc3339(), event.metadata().level().as_str());
        line.push_str(&escape_text(&fields.message));
        for (name, value) in &fields.fields {
            match value.as_str() {
                Some(text) => write!(line, " {name}={}", quote(&escape_text(text)))?,
                None => write!(line, " {name}={value}")?,
            }
        }
        if let (Some(trace_id), false) = (trace_id(), fields.fields.contains_key("trace_id")) {
            write!(line, " trace_id={trace_id}")?;
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
