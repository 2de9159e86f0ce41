//! Variables with our prefix, and standard ones of OpenTelemetry, that have no effect: a misspelt or unsupported setting
//! would be ignored silently.

use super::{Environment, ServeArgs, signers};
use clap::Args;
use std::{os::unix::fs::PermissionsExt, path::Path};

/// Each may also be given as a file by the same name with `_FILE`.
const SECRET_VARIABLES: [&str; 8] = [
    "REGISTRAR_RPC_URLS",
    "REGISTRAR_SIGNER_KEYS",
    "REGISTRAR_SIGNERS",
    "REGISTRAR_KEYSTORE_PASSWORD",
    "REGISTRAR_DATABASE_URL",
    "REGISTRAR_USER_ID_SALT",
    "REGISTRAR_TOKEN",
    "SENTRY_DSN",
];
/// Files with secrets that have no variable without `_FILE`.
const SECRET_FILES: [&str; 3] =
    ["REGISTRAR_TLS_KEY_FILE", "REGISTRAR_CLIENT_KEY_FILE", "REGISTRAR_SIGNER_TLS_KEY_FILE"];
/// A file with this permission can be read by every user of the machine.
const READ_BY_OTHERS: u32 = 0o004;
/// Read by the client commands, the development stack, the build and the tests.
const OTHER_VARIABLES: [&str; 11] = [
    "REGISTRAR_SERVER",
    "REGISTRAR_CA_FILE",
    "REGISTRAR_CLIENT_CERT_FILE",
    "REGISTRAR_CLIENT_KEY_FILE",
    "REGISTRAR_SIGNER_TLS_CA_FILE",
    "REGISTRAR_SIGNER_TLS_CERT_FILE",
    "REGISTRAR_SIGNER_TLS_KEY_FILE",
    "REGISTRAR_ANVIL",
    "REGISTRAR_COMMIT",
    "REGISTRAR_SIMULATION_CASES",
    "REGISTRAR_SIMULATION_SEED",
];
/// The variables of the OpenTelemetry specification that have an effect
/// (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>,
/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>). INSECURE is for endpoints without a scheme, which are
/// rejected.
const OTEL_VARIABLES: [&str; 28] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_EXPORTER",
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_INSECURE",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_INSECURE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
];
/// What has the effect of a standard variable here.
const OTEL_REPLACEMENTS: [(&str, &str); 3] = [
    ("OTEL_TRACES_SAMPLER", "TRACE_SAMPLE_RATE"),
    ("OTEL_TRACES_SAMPLER_ARG", "TRACE_SAMPLE_RATE"),
    ("OTEL_LOG_LEVEL", "RUST_LOG"),
];
/// From 0 to 1. A name at least this similar is suggested.
const MIN_NAME_SIMILARITY: f64 = 0.8;

/// The variables with our prefix and OpenTelemetry's that have no effect, each with the setting that was probably meant.
///
/// Excludes the variables that Kubernetes adds to every pod beside a service called `registrar`, such as
/// `REGISTRAR_SERVICE_HOST`, `REGISTRAR_PORT` and `REGISTRAR_PORT_50051_TCP_ADDR`, and the same of collectors.
pub fn unknown_variables(environment: &Environment) -> Vec<(String, Option<String>)> {
    let known = known_variables();
    let injected = |name: &str| {
        name == "REGISTRAR_PORT" || name.starts_with("REGISTRAR_SERVICE_") || name.starts_with("REGISTRAR_PORT_")
    };
    let candidates = environment.names().into_iter().filter(|name| name.starts_with("REGISTRAR_") && !injected(name));
    let unknown = candidates.filter(|name| !known.iter().any(|known| known == name));
    let unknown = unknown.map(|name| (name.to_owned(), suggest_name(name, &known)));
    unknown.chain(ineffective_otel_variables(environment)).collect()
}

fn ineffective_otel_variables(environment: &Environment) -> impl Iterator<Item = (String, Option<String>)> {
    let known = OTEL_VARIABLES.map(str::to_owned);
    // Added by Kubernetes and by OpenTelemetry's operator.
    let injected = |name: &str| {
        name.contains("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.ends_with("_PORT")
            || name.contains("_PORT_")
            || name.starts_with("OTEL_RESOURCE_ATTRIBUTES_")
    };
    let has_effect = |name: &str| {
        let entries = |name| environment.get(name).unwrap_or_default().split(',').map(str::trim);
        match name {
            // What is done anyway.
            "OTEL_METRICS_EXPORTER" | "OTEL_LOGS_EXPORTER" => entries(name).all(|exporter| exporter == "none"),
            "OTEL_PROPAGATORS" => entries(name).all(|entry| ["tracecontext", "baggage"].contains(&entry)),
            _ => environment.get(name).is_none() || known.iter().any(|known| known == name),
        }
    };
    let names = environment.names().into_iter().filter(|name| name.starts_with("OTEL_"));
    let unknown: Vec<_> = names.filter(|name| !injected(name) && !has_effect(name)).map(str::to_owned).collect();
    unknown.into_iter().map(move |name| {
        let replacement = OTEL_REPLACEMENTS.iter().find(|(standard, _)| *standard == name);
        let meant = replacement.map(|(_, ours)| (*ours).to_owned()).or_else(|| suggest_name(&name, &known));
        (name, meant)
    })
}

/// The variables that name a file with a secret that every user of the machine can read.
pub fn exposed_secret_files(environment: &Environment) -> Vec<String> {
    let is_exposed =
        |path: &Path| std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & READ_BY_OTHERS != 0);
    let variables = SECRET_VARIABLES.iter().map(|name| format!("{name}_FILE"));
    let variables = variables.chain(SECRET_FILES.map(str::to_owned));
    let exposed = variables.filter(|name| environment.get(name).is_some_and(|path| is_exposed(Path::new(path))));
    let keystores = signers::keystores(environment).into_iter().filter(|path| is_exposed(path));
    exposed.chain(keystores.map(|path| format!("REGISTRAR_SIGNERS (keystore:{})", path.display()))).collect()
}

fn known_variables() -> Vec<String> {
    let options = ServeArgs::augment_args(clap::Command::new("serve"));
    let options = options.get_arguments().filter_map(|option| Some(option.get_env()?.to_str()?.to_owned()));
    let files = SECRET_VARIABLES.iter().map(|name| format!("{name}_FILE"));
    let plain = SECRET_VARIABLES.iter().chain(&OTHER_VARIABLES).map(|name| (*name).to_owned());
    options.chain(plain).chain(files).filter(|name| name.starts_with("REGISTRAR_")).collect()
}

/// A setting that begins with this name, such as one whose unit was left out; else the most similar one.
fn suggest_name(name: &str, known: &[String]) -> Option<String> {
    let beginning = format!("{name}_");
    if let Some(longer) = known.iter().filter(|other| other.starts_with(&beginning)).min_by_key(|other| other.len()) {
        return Some(longer.clone());
    }
    let similarity = |other: &&String| strsim::normalized_damerau_levenshtein(name, other);
    let best = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) >= MIN_NAME_SIMILARITY).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opentelemetry_variable_without_effect_is_found() {
        let unknown =
            |name: &str, value: &str| unknown_variables(&Environment::default().with([(name, value.to_owned())]));
        for (name, value, meant) in [
            ("OTEL_TRACES_SAMPLER", "parentbased_always_on", Some("TRACE_SAMPLE_RATE")),
            ("OTEL_LOG_LEVEL", "debug", Some("RUST_LOG")),
            ("OTEL_BSP_EXPORT_TIMEOUT", "1", None),
            ("OTEL_PROPAGATORS", "b3", None),
            ("OTEL_METRICS_EXPORTER", "otlp", None),
            ("OTEL_CONFIG_FILE", "a.yaml", None),
        ] {
            let found = unknown(name, value);
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].0, name);
            assert!(meant.is_none_or(|meant| found[0].1.as_deref() == Some(meant)), "{found:?}");
        }
        let found = unknown("OTEL_EXPORTER_OTLP_ENDPIONT", "http://x");
        assert_eq!(found[0].1.as_deref(), Some("OTEL_EXPORTER_OTLP_ENDPOINT"));
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/key"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
            ("OTEL_SERVICE_NAME", "x"),
            ("OTEL_PROPAGATORS", "tracecontext,baggage"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_TRACES_SAMPLER", ""),
            ("OTEL_COLLECTOR_SERVICE_HOST", "10.0.0.1"),
            ("OTEL_COLLECTOR_PORT_4317_TCP", "tcp://10.0.0.1:4317"),
            ("OTEL_RESOURCE_ATTRIBUTES_POD_NAME", "x"),
        ] {
            assert_eq!(unknown(name, value), [], "{name}");
        }
    }

    #[test]
    fn a_misspelt_setting_is_found_and_kubernetes_variables_are_ignored() {
        let unknown = |name: &str| unknown_variables(&Environment::default().with([(name, "1".to_owned())]));
        for (name, meant) in [
            ("REGISTRAR_CHAIN_IDD", Some("REGISTRAR_CHAIN_ID")),
            ("REGISTRAR_MAX_FEE", Some("REGISTRAR_MAX_FEE_GWEI")),
            ("REGISTRAR_SIGNER_KEY", Some("REGISTRAR_SIGNER_KEYS")),
            ("REGISTRAR_DATABASE_URL_FIEL", Some("REGISTRAR_DATABASE_URL_FILE")),
            ("REGISTRAR_WHATEVER_THIS_IS", None),
        ] {
            assert_eq!(unknown(name), [(name.to_owned(), meant.map(str::to_owned))]);
        }
        for name in [
            "REGISTRAR_CHAIN_ID",
            "REGISTRAR_USER_ID_SALT_FILE",
            "REGISTRAR_SERVER",
            "REGISTRAR_PORT",
            "REGISTRAR_PORT_50051_TCP_ADDR",
            "REGISTRAR_SERVICE_HOST",
            "REGISTRAR_SERVICE_PORT_GRPC",
            "PATH",
        ] {
            assert_eq!(unknown(name), [], "{name}");
        }
    }
}
