//! The certificate by which a command identifies itself to a server with TLS.

use super::error::{CliError, CliResult};
use crate::telemetry::{self, redact};
use clap::Args;
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

const CERT_FILE: &str = "REGISTRAR_CLIENT_CERT_FILE";
const KEY_FILE: &str = "REGISTRAR_CLIENT_KEY_FILE";

#[derive(Args, Clone, Debug)]
pub struct ClientCertificateArgs {
    /// File with a certificate (PEM) by which an https:// server knows the caller
    #[arg(long, env = "REGISTRAR_CLIENT_CERT_FILE", value_name = "FILE")]
    pub client_cert_file: Option<PathBuf>,
    /// File with the private key of that certificate (PEM)
    #[arg(long, env = "REGISTRAR_CLIENT_KEY_FILE", value_name = "FILE")]
    pub client_key_file: Option<PathBuf>,
}

/// The contents of both files.
pub(super) struct Pem {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl ClientCertificateArgs {
    /// `None` without a certificate.
    pub(super) fn read(&self) -> CliResult<Option<Pem>> {
        match (&self.client_cert_file, &self.client_key_file) {
            (Some(certificate), Some(key)) => {
                let certificate = read_pem(CERT_FILE, certificate, "certificate", telemetry::is_certificate)?;
                let key = read_pem(KEY_FILE, key, "private key without a password", telemetry::is_private_key)?;
                Ok(Some(Pem { certificate, key }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(missing(CERT_FILE, "private key", KEY_FILE)),
            (None, Some(_)) => Err(missing(KEY_FILE, "certificate", CERT_FILE)),
        }
    }
}

/// For libraries that refuse a certificate and a key that are both valid.
pub(super) fn unusable() -> Box<CliError> {
    CliError::invalid_arguments(format!(
        "TLS cannot be set up; check that the key of {KEY_FILE} belongs to the certificate of {CERT_FILE}"
    ))
}

fn missing(given: &str, partner: &str, setting: &str) -> Box<CliError> {
    CliError::invalid_arguments(format!("{given} needs its {partner}; set {setting} as well"))
}

pub(super) fn read_pem(setting: &str, path: &Path, kind: &str, is_valid: fn(&[u8]) -> bool) -> CliResult<Vec<u8>> {
    // The path may be the key itself, given in the wrong place.
    let name = path.to_str().filter(|path| path.len() < 256 && !path.contains("-----")).unwrap_or("[hidden]");
    let name = redact(name);
    match fs::read(path) {
        Ok(pem) if is_valid(&pem) => Ok(pem),
        Ok(_) => Err(CliError::invalid_arguments(format!("{setting}: the file {name} has no valid {kind} (PEM)"))),
        Err(error) => {
            let missing = error.kind() == ErrorKind::NotFound;
            let reason = if missing { "no such file".to_owned() } else { error.kind().to_string() };
            Err(CliError::invalid_arguments(format!("{setting}: the file {name} cannot be read: {reason}")))
        }
    }
}
