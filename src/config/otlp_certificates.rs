//! The certificates for the OTLP collector: files of PEM, named by the standard variables
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>). The exporter itself ignores them.

use super::{ConfigErrors, Environment};
use crate::telemetry::{ClientCertificate, OtlpTls, is_certificate, is_private_key};

/// Each for traces alone, and for all signals.
const AUTHORITY: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
const CLIENT_CERTIFICATE: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
const CLIENT_KEY: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];

pub(super) fn read(environment: &Environment, is_https: bool, errors: &mut ConfigErrors) -> OtlpTls {
    if !is_https {
        for name in [AUTHORITY, CLIENT_CERTIFICATE, CLIENT_KEY].concat() {
            if environment.get(name).is_some() {
                errors.add(name, "has no effect on a collector with http://; use https://, or remove it");
            }
        }
        return OtlpTls::default();
    }
    let authority = read_pem(&AUTHORITY, "certificate", is_certificate, environment, errors);
    let certificate = read_pem(&CLIENT_CERTIFICATE, "certificate", is_certificate, environment, errors);
    let key = read_pem(&CLIENT_KEY, "private key", is_private_key, environment, errors);
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
        _ => None,
    };
    let is_set = |names: [&'static str; 2]| environment.first_set(&names).map(|(name, _)| name);
    match (is_set(CLIENT_CERTIFICATE), is_set(CLIENT_KEY)) {
        (Some(name), None) => errors.add(name, "needs its private key; set OTEL_EXPORTER_OTLP_CLIENT_KEY as well"),
        (None, Some(name)) => {
            errors.add(name, "needs its certificate; set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE as well")
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    OtlpTls { authority, client }
}

/// The content of the file that the first of these variables names.
pub(super) fn read_pem(
    names: &[&'static str],
    kind: &str,
    is_valid: fn(&[u8]) -> bool,
    environment: &Environment,
    errors: &mut ConfigErrors,
) -> Option<Vec<u8>> {
    let name = *names.iter().find(|name| environment.get(name).is_some())?;
    // The path is not repeated: the content may have been given in its place.
    match std::fs::read(environment.get(name)?) {
        Ok(pem) if is_valid(&pem) => Some(pem),
        Ok(_) => {
            errors.add(name, format!("the file that it names has no valid {kind} (PEM)"));
            None
        }
        Err(error) => {
            errors.add(name, format!("the file that it names cannot be read: {}", error.kind()));
            None
        }
    }
}
