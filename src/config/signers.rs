//! The signers: keys, URIs, and what opens them.

use super::{ConfigErrors, Environment, otlp_certificates::read_pem, parsers::split_list};
use crate::{
    chain::{Password, SignerSettings, SignerSpec, SignerTls, is_published},
    telemetry::{is_certificate, is_private_key},
};
use std::path::PathBuf;

const KEYS: &str = "REGISTRAR_SIGNER_KEYS";
const URIS: &str = "REGISTRAR_SIGNERS";
const PASSWORD: &str = "REGISTRAR_KEYSTORE_PASSWORD";
const PASSWORD_FILE: &str = "REGISTRAR_KEYSTORE_PASSWORD_FILE";
const AUTHORITY: &str = "REGISTRAR_SIGNER_TLS_CA_FILE";
const CLIENT_CERTIFICATE: &str = "REGISTRAR_SIGNER_TLS_CERT_FILE";
const CLIENT_KEY: &str = "REGISTRAR_SIGNER_TLS_KEY_FILE";

pub(super) fn read(environment: &Environment, is_public_chain: bool, errors: &mut ConfigErrors) -> SignerSettings {
    let before = errors.clone();
    let mut specs: Vec<SignerSpec> = Vec::new();
    let keys = |text: &str| SignerSpec::parse_key(text).map_err(|error| error.to_string());
    let uris = |text: &str| SignerSpec::parse_uri(text).map_err(|error| error.to_string());
    read_list(KEYS, keys, &mut specs, is_public_chain, environment, errors);
    read_list(URIS, uris, &mut specs, is_public_chain, environment, errors);
    if specs.is_empty() && *errors == before {
        errors.add(
            KEYS,
            "is required: private keys separated by commas; or set REGISTRAR_SIGNER_KEYS_FILE to a file with them, or \
             REGISTRAR_SIGNERS to keystores and remote signers",
        );
    }
    complete(specs, is_public_chain, environment, errors)
}

/// Only this signer; of an entry in `REGISTRAR_SIGNERS`.
pub(super) fn read_one(uri: &str, environment: &Environment, errors: &mut ConfigErrors) -> SignerSettings {
    let spec = SignerSpec::parse_uri(uri).map_err(|error| errors.add("the argument", error.to_string())).ok();
    complete(spec.into_iter().collect(), false, environment, errors)
}

/// Of every keystore.
pub(super) fn read_password(environment: &Environment, errors: &mut ConfigErrors) -> Password {
    let mut of_password = ConfigErrors::default();
    let password = environment.secret(PASSWORD, &mut of_password);
    if password.is_none() && of_password.is_empty() {
        of_password.add(
            PASSWORD,
            "a keystore needs its password: set this to a file with it, or set REGISTRAR_KEYSTORE_PASSWORD",
        );
    }
    // What follows `password:` is redacted.
    errors.add_all(PASSWORD_FILE, of_password);
    Password::new(password.unwrap_or_default())
}

fn complete(
    specs: Vec<SignerSpec>,
    is_public_chain: bool,
    environment: &Environment,
    errors: &mut ConfigErrors,
) -> SignerSettings {
    let has_keystore = specs.iter().any(|spec| matches!(spec, SignerSpec::Keystore(_)));
    let keystore_password = has_keystore.then(|| read_password(environment, errors));
    let tls = read_tls(environment, errors);
    SignerSettings { specs, keystore_password, tls, allow_published_keys: !is_public_chain }
}

/// Neither an entry nor a part of it is repeated in an error: it may be a key or hold a password.
fn read_list(
    variable: &'static str,
    parse: impl Fn(&str) -> Result<SignerSpec, String>,
    specs: &mut Vec<SignerSpec>,
    is_public_chain: bool,
    environment: &Environment,
    errors: &mut ConfigErrors,
) {
    let list = environment.secret(variable, errors).unwrap_or_default();
    for (position, entry) in split_list(&list).enumerate() {
        let position = position + 1;
        let spec = match parse(entry) {
            Ok(spec) => spec,
            Err(problem) => {
                errors.add(variable, format!("entry {position} {problem}"));
                continue;
            }
        };
        let account = spec.known_address();
        if account.is_some() && specs.iter().any(|known| known.known_address() == account) {
            errors.add(variable, format!("entry {position} repeats an earlier signer; remove it"));
            continue;
        }
        if let Some(account) = account.filter(|account| is_public_chain && is_published(*account)) {
            let problem = format!(
                "the private key of {account} is published with anvil, so anyone can spend its funds; use a key of your \
                 own (accepted only on chain 31337 or with endpoints on loopback)"
            );
            errors.add(variable, problem);
        }
        specs.push(spec);
    }
}

/// The files of all keystores.
pub(super) fn keystores(environment: &Environment) -> Vec<PathBuf> {
    let list = environment.secret(URIS, &mut ConfigErrors::default()).unwrap_or_default();
    let specs = split_list(&list).filter_map(|entry| SignerSpec::parse_uri(entry).ok());
    let path = |spec| match spec {
        SignerSpec::Keystore(path) => Some(path),
        SignerSpec::Key(_) | SignerSpec::Web3Signer { .. } | SignerSpec::AwsKms(_) => None,
    };
    specs.filter_map(path).collect()
}

fn read_tls(environment: &Environment, errors: &mut ConfigErrors) -> SignerTls {
    let authority = read_pem(&[AUTHORITY], "certificate", is_certificate, environment, errors);
    let certificate = read_pem(&[CLIENT_CERTIFICATE], "certificate", is_certificate, environment, errors);
    let key = read_pem(&[CLIENT_KEY], "private key", is_private_key, environment, errors);
    match (environment.get(CLIENT_CERTIFICATE), environment.get(CLIENT_KEY)) {
        (Some(_), None) => {
            errors.add(CLIENT_CERTIFICATE, "needs its private key; set REGISTRAR_SIGNER_TLS_KEY_FILE as well")
        }
        (None, Some(_)) => errors.add(CLIENT_KEY, "needs its certificate; set REGISTRAR_SIGNER_TLS_CERT_FILE as well"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    SignerTls { authority, client: certificate.zip(key) }
}
