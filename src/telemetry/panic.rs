//! Reports a panic as one log line and one event in Sentry, both redacted. The standard hook would print the message
//! unredacted.

use super::{redact, stderr, targets::PANIC_TARGET};
use sentry::{Hub, integrations::panic::PanicIntegration};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    sync::Once,
    thread,
    time::Duration,
};

/// When the main thread panics, the process ends and waits for the event this long.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a panic waits until its line is written. Another panic may follow that ends the process.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Installs the panic hook. A second call changes nothing.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(report_panic)));
}

fn report_panic(info: &PanicHookInfo<'_>) {
    write_log_line(info);
    stderr::flush(LOG_FLUSH_TIMEOUT);
    capture_event(info);
}

/// In the log, or on standard error before the log exists.
fn write_log_line(info: &PanicHookInfo<'_>) {
    let message = redact(message(info));
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // Captured only if RUST_BACKTRACE or RUST_LIB_BACKTRACE is set.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let backtrace = backtrace.as_deref().map(redact);
    if tracing::enabled!(target: PANIC_TARGET, tracing::Level::ERROR) {
        tracing::error!(target: PANIC_TARGET, location, thread, backtrace = backtrace.as_deref(), "panic: {message}");
    } else {
        let backtrace = backtrace.map(|frames| format!("\n{frames}")).unwrap_or_default();
        stderr::write_urgent(&format!("error: panic: {message} ({location}, thread {thread}){backtrace}"));
    }
}

fn capture_event(info: &PanicHookInfo<'_>) {
    let hub = Hub::current();
    let Some(client) = hub.client() else { return };
    let mut event = PanicIntegration::new().event_from_panic_info(info);
    for exception in &mut event.exception.values {
        exception.value = exception.value.take().map(|value| redact(&value).into_owned());
    }
    hub.capture_event(event);
    // After a panic of another thread the process continues, and Sentry has time.
    if thread::current().name() == Some("main") {
        client.flush(Some(PANIC_FLUSH_TIMEOUT));
    }
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload_as_str().unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{self, LogFilter, LogFormat, Rate, Secrets, SentrySettings, Settings};
    use sentry::{ClientOptions, Envelope, Transport};
    use std::{
        process::{Command, Output},
        sync::Arc,
    };

    const SECRET: &str = "s3cret-of-the-settings";
    /// The log filter of the child process, which alone has it.
    const FILTER: &str = "REGISTRAR_TEST_PANIC_FILTER";

    struct PrintTransport;

    impl Transport for PrintTransport {
        fn send_envelope(&self, envelope: Envelope) {
            envelope.to_writer(std::io::stdout()).unwrap();
        }
    }

    /// Only in the child process: a service with a thread that panics.
    #[test]
    fn child() {
        let Ok(filter) = std::env::var(FILTER) else { return };
        rustls::crypto::ring::default_provider().install_default().unwrap();
        let mut secrets = Secrets::default();
        secrets.add(SECRET);
        // No server has this address; the client is replaced below.
        let dsn = "http://x@127.0.0.1:9/1".parse().unwrap();
        let settings = Settings {
            enabled: true,
            log_format: LogFormat::Json,
            log_filter: filter.parse::<LogFilter>().unwrap(),
            sentry: Some(SentrySettings { dsn, error_sample_rate: Rate::ALL, debug: false }),
            secrets,
            ..Settings::for_tests()
        };
        telemetry::init(&settings).unwrap();
        let options = ClientOptions::new().dsn("https://x@sentry.example/1").transport(Arc::new(PrintTransport));
        Hub::main().bind_client(Some(Arc::new(options.into())));
        let worker = || panic!("cannot reach https://u:p@base.example/v2/key\nwith {SECRET}");
        thread::Builder::new().name("worker".into()).spawn(worker).unwrap().join().unwrap_err();
    }

    /// The output of a process with this filter in which a thread panics.
    fn run_child(filter: &str, backtrace: &str) -> (Output, String, String) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "telemetry::panic::tests::child", "--nocapture"]);
        command.env(FILTER, filter).env("RUST_BACKTRACE", backtrace).env_remove("RUST_LIB_BACKTRACE");
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        for text in [&stdout, &stderr] {
            for secret in [SECRET, "u:p", "v2/key"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
        (output, stdout, stderr)
    }

    #[test]
    fn a_panic_is_one_redacted_line_and_one_redacted_event() {
        for (backtrace, has_backtrace) in [("0", false), ("1", true)] {
            let (output, stdout, stderr) = run_child("info", backtrace);

            assert!(output.status.success(), "{stdout}{stderr}");
            let lines: Vec<_> = stderr.lines().filter(|line| !line.is_empty()).collect();
            assert_eq!(lines.len(), 1, "{stderr}");
            let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
            let message = "panic: cannot reach https://base.example/[redacted]\nwith [redacted]";
            assert_eq!((&line["level"], &line["target"]), (&"ERROR".into(), &PANIC_TARGET.into()));
            assert_eq!((&line["message"], &line["thread"]), (&message.into(), &"worker".into()));
            assert!(line["location"].as_str().unwrap().starts_with("src/telemetry/panic.rs:"), "{line}");
            assert_eq!(
                line["backtrace"].as_str().is_some_and(|frames| frames.contains("panic::tests")),
                has_backtrace,
                "{line}"
            );
            assert_eq!(stdout.matches("\"type\":\"event\"").count(), 1, "{stdout}");
            assert!(stdout.contains("https://base.example/[redacted]\\nwith [redacted]"), "{stdout}");
        }
    }

    #[test]
    fn a_panic_is_reported_with_the_log_off() {
        let (_, stdout, stderr) = run_child("off", "0");
        assert!(stderr.contains("panic: cannot reach https://base.example/[redacted]"), "{stderr}");
        assert_eq!(stdout.matches("\"type\":\"event\"").count(), 1, "{stdout}");
    }
}
