//! Collects every secret in the environment for the redactor. Reads leniently, because the settings themselves report
//! what is invalid.

use super::{ConfigErrors, Environment, parsers::split_list};
use crate::{chain::EndpointUrl, store, telemetry::Secrets};
use percent_encoding::percent_decode_str;
use url::Url;

const RPC_URL_VARIABLES: [&str; 4] =
    ["REGISTRAR_RPC_URLS", "BASE_SEPOLIA_RPC_PRIMARY", "BASE_SEPOLIA_RPC_BACKUP_1", "BASE_SEPOLIA_RPC_BACKUP_2"];
/// `name=value` pairs, percent-encoded (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).
const OTLP_HEADER_VARIABLES: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
];
/// Read by HTTP clients themselves; the URLs may contain a password.
const PROXY_VARIABLES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

pub(super) fn collect_secrets(environment: &Environment) -> Secrets {
    let read = |name| environment.secret(name, &mut ConfigErrors::default()).unwrap_or_default();
    let mut secrets = Secrets::default();
    for list in RPC_URL_VARIABLES.map(read) {
        for url in split_list(&list) {
            add_url_passwords(&mut secrets, url);
            add_endpoint_secrets(&mut secrets, url);
        }
    }
    split_list(&read("REGISTRAR_SIGNER_KEYS")).for_each(|key| secrets.add(key));
    for uri in split_list(&read("REGISTRAR_SIGNERS")) {
        // A key may have been given in its place.
        let url = uri.strip_prefix("web3signer:").unwrap_or(uri);
        add_url_passwords(&mut secrets, url);
        add_endpoint_secrets(&mut secrets, url.split('#').next().unwrap_or_default());
    }
    secrets.add(&read("REGISTRAR_KEYSTORE_PASSWORD"));
    store::split_hosts(&read("REGISTRAR_DATABASE_URL")).iter().for_each(|url| add_url_passwords(&mut secrets, url));
    for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
        let url = environment.get(name).unwrap_or_default();
        add_url_passwords(&mut secrets, url);
        add_endpoint_secrets(&mut secrets, url);
    }
    add_dsn(&mut secrets, &read("SENTRY_DSN"));
    for list in OTLP_HEADER_VARIABLES.map(read) {
        add_headers(&mut secrets, &list);
    }
    secrets.add(&read("REGISTRAR_USER_ID_SALT"));
    secrets.add(&read("REGISTRAR_TOKEN"));
    for name in PROXY_VARIABLES {
        add_url_passwords(&mut secrets, environment.get(name).unwrap_or_default());
    }
    secrets
}

/// Adds the parts of an HTTP URL that may be a key.
fn add_endpoint_secrets(secrets: &mut Secrets, url: &str) {
    let pieces = EndpointUrl::parse(url).map(|url| url.secrets()).unwrap_or_default();
    pieces.iter().for_each(|piece| secrets.add_if_secret_like(piece));
}

/// Adds the password before the host and those in the query, which may be ordinary words.
fn add_url_passwords(secrets: &mut Secrets, url: &str) {
    let Ok(url) = Url::parse(url) else { return };
    secrets.add(url.password().unwrap_or_default());
    for (name, value) in url.query_pairs() {
        if name.contains("password") {
            secrets.add(&value);
        }
    }
}

/// Adds the public key, and the secret key of old DSNs.
fn add_dsn(secrets: &mut Secrets, dsn: &str) {
    if let Ok(dsn) = Url::parse(dsn) {
        secrets.add(dsn.username());
        secrets.add(dsn.password().unwrap_or_default());
    }
}

/// Adds header values, and of `Bearer xyz` the `xyz` too. Values like the name of a data set are no secrets.
fn add_headers(secrets: &mut Secrets, list: &str) {
    for (name, value) in list.split(',').filter_map(|header| header.split_once('=')) {
        let value = percent_decode_str(value.trim()).decode_utf8_lossy();
        if ["auth", "key", "secret", "token"].iter().any(|word| name.to_ascii_lowercase().contains(word)) {
            secrets.add(&value);
        } else {
            secrets.add_if_secret_like(&value);
        }
        if let Some((_, credentials)) = value.split_once(' ') {
            secrets.add(credentials);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::redact::Redactor;

    #[test]
    fn every_secret_in_the_environment_is_redacted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0x8da4ef21b864d2cc526dbdb2a120bd2874c36c9d0a1fb7f8c63d7f7a8b41de8f\n").unwrap();
        let variables = [
            (
                "REGISTRAR_RPC_URLS",
                "https://someone:plainword@a.example/v2/p4th-key, https://b.example/base-sepolia?k=qu3ry-key",
            ),
            ("BASE_SEPOLIA_RPC_BACKUP_1", "https://c.example/b4ckup-key"),
            ("REGISTRAR_SIGNER_KEYS_FILE", file.path().to_str().unwrap()),
            ("REGISTRAR_DATABASE_URL", "postgres://registrar:d4ta%2Fbase@db/app?sslpassword=certificateword"),
            ("SENTRY_DSN", "https://0123456789abcdef0123456789abcdef:0ldsecret@sentry.example/42"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otlp.example/t0ken-in-path/v1/traces"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20b3arer-value,x-dataset=traces, x-team = t3am-value"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=tracingword"),
            ("REGISTRAR_USER_ID_SALT", "saltandpepper"),
            ("REGISTRAR_TOKEN", "rgs_t0ken-of-the-commands"),
            ("https_proxy", "http://proxyuser:proxyword@proxy.example:3128"),
        ];
        let secrets =
            collect_secrets(&Environment::default().with(variables.map(|(name, value)| (name, value.to_owned()))));
        assert!(format!("{secrets:?}").starts_with("Secrets("), "{secrets:?}");
        let redactor = Redactor::new(secrets);
        for secret in [
            "plainword",
            "p4th-key",
            "qu3ry-key",
            "b4ckup-key",
            "8da4ef21b864d2cc526dbdb2a120bd2874c36c9d0a1fb7f8c63d7f7a8b41de8f",
            "d4ta/base",
            "certificateword",
            "0123456789abcdef0123456789abcdef",
            "0ldsecret",
            "t0ken-in-path",
            "b3arer-value",
            "t3am-value",
            "tracingword",
            "saltandpepper",
            "rgs_t0ken-of-the-commands",
            "proxyword",
        ] {
            assert_eq!(redactor.redact(secret), "[redacted]");
        }
        for word in ["base-sepolia", "traces", "registrar", "a.example", "someone"] {
            assert_eq!(redactor.redact(word), word);
        }
    }
}
