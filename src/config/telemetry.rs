//! The settings of telemetry. Our own variables take precedence over the standard ones of Sentry, OpenTelemetry and
//! platforms.

use super::{
    ConfigErrors, Environment, ServeArgs, otlp_certificates,
    otlp_proxy::unusable_proxy,
    parsers::{parse_bool, parse_integer_in, split_list},
    secrets,
};
use crate::telemetry::{
    LogFilter, LogFormat, OtlpEndpoint, OtlpProtocol, OtlpSettings, Rate, Salt, SentrySettings, Settings, SpanLimits,
    propagation::{TraceHost, TraceHosts},
    spans::DEFAULT_OTLP_QUEUE_SPANS,
};
use std::time::Duration;

/// Of the specification.
const DEFAULT_OTLP_TIMEOUT_MS: u64 = 10_000;

pub(super) fn read_telemetry(args: &ServeArgs, environment: &Environment, errors: &mut ConfigErrors) -> Settings {
    let disabled =
        errors.parse_or_default("OTEL_SDK_DISABLED", environment.get("OTEL_SDK_DISABLED"), false, parse_bool);
    let enabled = errors.parse_or_default("TRACING_ENABLED", args.tracing_enabled.as_deref(), true, parse_bool);
    let name = |own: Option<&String>, names: &[&'static str], default: &str| {
        let own = own.map(|text| text.trim()).filter(|text| !text.is_empty());
        own.or_else(|| environment.first_set(names).map(|(_, value)| value)).unwrap_or(default).to_owned()
    };
    let settings = Settings {
        enabled: enabled && !disabled,
        log_format: errors.parse_or_default("LOG_FORMAT", args.log_format.as_deref(), LogFormat::detect(), str::parse),
        log_filter: errors.parse_or_default("RUST_LOG", args.log.as_deref(), LogFilter::default(), str::parse),
        service_name: name(args.trace_service_name.as_ref(), &["OTEL_SERVICE_NAME", "SERVICE_NAME"], "registrar"),
        service_version: name(
            args.trace_service_version.as_ref(),
            &["SENTRY_RELEASE", "SERVICE_VERSION"],
            env!("CARGO_PKG_VERSION"),
        ),
        environment: name(args.trace_environment.as_ref(), &["SENTRY_ENVIRONMENT", "ENVIRONMENT"], "development"),
        sample_rate: read_sample_rate(args, environment, errors),
        sentry: read_sentry(args, environment, errors),
        otlp: read_otlp(args, environment, errors),
        limits: read_limits(environment, errors),
        trace_hosts: read_trace_hosts(args, errors),
        secrets: secrets::collect_secrets(environment),
        user_id_salt: environment.secret("REGISTRAR_USER_ID_SALT", errors).map(Salt::new),
    };
    check_environment_and_release(&settings, errors);
    settings
}

fn read_sample_rate(args: &ServeArgs, environment: &Environment, errors: &mut ConfigErrors) -> Rate {
    const SENTRY_RATE_VARIABLE: &str = "SENTRY_TRACES_SAMPLE_RATE";
    let sentry_rate = errors.parse_or_default(
        SENTRY_RATE_VARIABLE,
        environment.get(SENTRY_RATE_VARIABLE),
        Rate::ONE_PERCENT,
        str::parse,
    );
    errors.parse_or_default("TRACE_SAMPLE_RATE", args.trace_sample_rate.as_deref(), sentry_rate, str::parse)
}

fn read_sentry(args: &ServeArgs, environment: &Environment, errors: &mut ConfigErrors) -> Option<SentrySettings> {
    let error_sample_rate =
        errors.parse_or_default("SENTRY_SAMPLE_RATE", args.sentry_sample_rate.as_deref(), Rate::ALL, str::parse);
    let debug = errors.parse_or_default("SENTRY_DEBUG", args.sentry_debug.as_deref(), false, parse_bool);
    let dsn = environment.secret("SENTRY_DSN", errors)?;
    match dsn.parse() {
        Ok(dsn) => Some(SentrySettings { dsn, error_sample_rate, debug }),
        Err(error) => {
            let error: crate::telemetry::InvalidDsn = error;
            errors.add("SENTRY_DSN", error.to_string());
            None
        }
    }
}

fn read_otlp(args: &ServeArgs, environment: &Environment, errors: &mut ConfigErrors) -> Option<OtlpSettings> {
    const TRACES_ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const MAX_QUEUE_VARIABLE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
    let queue = errors.parse_or_default(
        MAX_QUEUE_VARIABLE,
        environment.get(MAX_QUEUE_VARIABLE),
        DEFAULT_OTLP_QUEUE_SPANS as u64,
        parse_integer_in(1, 1_000_000),
    );
    let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let protocol = protocols.into_iter().find_map(|name| {
        let text = environment.get(name)?;
        errors.parse_or_default(name, Some(text), None, |text| text.parse::<OtlpProtocol>().map(Some))
    });
    let general = args.otlp_endpoint.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let (name, text, for_traces) = match (environment.get(TRACES_ENDPOINT_VARIABLE), general) {
        (Some(text), _) => (TRACES_ENDPOINT_VARIABLE, text, true),
        (None, Some(text)) => ("OTEL_EXPORTER_OTLP_ENDPOINT", text, false),
        (None, None) => return None,
    };
    match environment.get("OTEL_TRACES_EXPORTER") {
        None | Some("otlp") => {}
        Some("none") => return None,
        Some(_) => errors.add("OTEL_TRACES_EXPORTER", "is not a supported exporter; use otlp or none"),
    }
    check_otlp(environment, errors);
    let timeout = read_otlp_timeout(environment, errors);
    match OtlpEndpoint::parse(text, for_traces, protocol) {
        Ok(endpoint) => {
            if let Some(proxy) = unusable_proxy(environment, &endpoint) {
                errors.add(
                    name,
                    format!(
                        "{proxy} applies to this collector, but the export over gRPC uses no proxy; add the \
                         collector's host to NO_PROXY, or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the port \
                         for it (4318)"
                    ),
                );
            }
            let tls = otlp_certificates::read(environment, endpoint.is_https(), errors);
            let max_queue_size = usize::try_from(queue).unwrap_or(usize::MAX);
            Some(OtlpSettings { endpoint, tls, timeout, max_queue_size })
        }
        Err(error) => {
            // The URL is not repeated: it may contain a key.
            errors.add(name, error.to_string());
            None
        }
    }
}

fn read_otlp_timeout(environment: &Environment, errors: &mut ConfigErrors) -> Duration {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let [for_traces, general] = names.map(|name| {
        errors.parse_or_default(name, environment.get(name), None, |text| parse_integer_in(1, 600_000)(text).map(Some))
    });
    Duration::from_millis(for_traces.or(general).unwrap_or(DEFAULT_OTLP_TIMEOUT_MS))
}

/// Rejects what the exporter would ignore silently.
fn check_otlp(environment: &Environment, errors: &mut ConfigErrors) {
    for name in ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"] {
        if environment.get(name).is_some_and(|text| !["gzip", "none"].contains(&text)) {
            errors.add(name, "is not a supported compression; use gzip or none");
        }
    }
    // Read by the SDK, which ignores what is not a number.
    for name in ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] {
        errors.parse_or_default(name, environment.get(name), 1, parse_integer_in(1, 600_000));
    }
    for name in ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"] {
        let is_header = |entry: &str| entry.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty());
        // The value is not repeated: it contains keys.
        if environment.get(name).is_some_and(|list| !split_list(list).all(is_header)) {
            errors.add(name, "is not a list of headers; use key=value, separated by commas");
        }
    }
}

/// Rejects what Sentry would drop silently (<https://develop.sentry.dev/sdk/data-model/event-payloads/>).
fn check_environment_and_release(settings: &Settings, errors: &mut ConfigErrors) {
    let environment = &settings.environment;
    if environment.len() > 64 || environment.contains(['/', '\n', ' ']) || environment == "None" {
        errors.add(
            "TRACE_ENVIRONMENT",
            "is not a valid environment; use at most 64 characters without spaces and slashes",
        );
    }
    let release = &settings.service_version;
    if release.len() > 200 || release.contains(['/', '\\', '\n', '\t']) || [".", ".."].contains(&release.as_str()) {
        errors.add("TRACE_SERVICE_VERSION", "is not a valid release; use at most 200 characters without slashes");
    }
}

fn read_trace_hosts(args: &ServeArgs, errors: &mut ConfigErrors) -> TraceHosts {
    let list = args.trace_hosts.as_deref().unwrap_or_default();
    let entries = split_list(list).enumerate().filter_map(|(position, entry)| {
        // The entry is not repeated: it may be the URL of an endpoint with its key.
        let host = entry.parse::<TraceHost>();
        host.inspect_err(|error| errors.add("REGISTRAR_TRACE_HOSTS", format!("entry {} {error}", position + 1))).ok()
    });
    entries.collect()
}

fn read_limits(environment: &Environment, errors: &mut ConfigErrors) -> SpanLimits {
    let mut read = |name: &'static str, default: u32| {
        let number =
            errors.parse_or_default(name, environment.get(name), u64::from(default), parse_integer_in(1, 10_000));
        u32::try_from(number).unwrap_or(default)
    };
    let SpanLimits { attributes, events, links } = SpanLimits::default();
    SpanLimits {
        attributes: read("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", attributes),
        events: read("OTEL_SPAN_EVENT_COUNT_LIMIT", events),
        links: read("OTEL_SPAN_LINK_COUNT_LIMIT", links),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&'static str, &str)]) -> Environment {
        Environment::default().with(variables.iter().map(|(name, value)| (*name, (*value).to_owned())))
    }

    fn read(args: &ServeArgs, variables: &[(&'static str, &str)]) -> Result<Settings, String> {
        let mut errors = ConfigErrors::default();
        let settings = read_telemetry(args, &environment(variables), &mut errors);
        if errors.is_empty() { Ok(settings) } else { Err(errors.to_string()) }
    }

    #[test]
    fn standard_variables_are_read_in_order_of_precedence() {
        let none = ServeArgs::default();
        let settings = read(&none, &[]).unwrap();
        assert_eq!(settings.sample_rate, Rate::ONE_PERCENT);
        assert!(settings.enabled && settings.sentry.is_none() && settings.otlp.is_none());
        let known = [
            ("SENTRY_TRACES_SAMPLE_RATE", "0.5"),
            ("OTEL_SERVICE_NAME", "of-otel"),
            ("SERVICE_NAME", "of-platform"),
            ("SENTRY_RELEASE", "1.2.3"),
            ("ENVIRONMENT", "staging"),
        ];
        let settings = read(&none, &known).unwrap();
        assert_eq!((settings.sample_rate.get(), settings.service_name.as_str()), (0.5, "of-otel"));
        assert_eq!((settings.service_version.as_str(), settings.environment.as_str()), ("1.2.3", "staging"));
        let ours = ServeArgs {
            trace_sample_rate: Some("0.25".into()),
            trace_service_name: Some("ours".into()),
            trace_environment: Some("production".into()),
            ..ServeArgs::default()
        };
        let settings = read(&ours, &known).unwrap();
        assert_eq!((settings.sample_rate.get(), settings.service_name.as_str()), (0.25, "ours"));
        assert_eq!(settings.environment, "production");
    }

    #[test]
    fn values_that_would_be_dropped_silently_are_errors_and_not_repeated() {
        let none = ServeArgs::default();
        for (name, text) in [
            ("SENTRY_DSN", "https://s3cr3t@sentry.example/project"),
            ("SENTRY_DSN", "s3cr3t"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://s3cr3t@localhost:4317"),
        ] {
            let errors = read(&none, &[(name, text)]).unwrap_err();
            assert!(errors.contains(name) && !errors.contains("s3cr3t"), "{errors}");
        }
        for rate in ["1.5", "-1", "much", "NaN"] {
            let args = ServeArgs { trace_sample_rate: Some(rate.into()), ..ServeArgs::default() };
            assert!(read(&args, &[]).unwrap_err().contains("TRACE_SAMPLE_RATE"), "{rate}");
        }
        assert!(read(&none, &[("SENTRY_DSN", "")]).is_ok());
    }

    #[test]
    fn either_variable_disables_telemetry() {
        let off = ServeArgs { tracing_enabled: Some("false".into()), ..ServeArgs::default() };
        assert!(!read(&off, &[]).unwrap().enabled);
        assert!(!read(&ServeArgs::default(), &[("OTEL_SDK_DISABLED", "true")]).unwrap().enabled);
    }
}
