//! TLS of the listeners: which files, and whether they can be used.

use super::{ConfigErrors, ServeArgs, environment::redact_path};
use crate::auth::{ClientAuth, ServerTls, TlsFault, TlsFiles};
use std::path::PathBuf;

pub(super) fn read_tls(args: &ServeArgs, errors: &mut ConfigErrors) -> Option<ServerTls> {
    const CERTIFICATE: &str = "REGISTRAR_TLS_CERT_FILE";
    const KEY: &str = "REGISTRAR_TLS_KEY_FILE";
    const CLIENT_CA: &str = "REGISTRAR_TLS_CLIENT_CA_FILE";
    const CLIENT_AUTH: &str = "REGISTRAR_TLS_CLIENT_AUTH";
    let path =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(PathBuf::from);
    let (certificate, key) = (path(&args.tls_cert_file), path(&args.tls_key_file));
    let client_ca = path(&args.tls_client_ca_file);
    let client_auth = errors
        .parse_or_default(CLIENT_AUTH, args.tls_client_auth.as_deref(), None, |text| parse_client_auth(text).map(Some));
    if client_auth.is_some() && client_ca.is_none() {
        errors.add(CLIENT_AUTH, format!("has no effect without the authorities of clients; set {CLIENT_CA} as well"));
    }
    let client_ca = client_ca.map(|path| (path, client_auth.unwrap_or(ClientAuth::Required)));
    match (certificate, key) {
        (Some(certificate), Some(key)) => match ServerTls::load(TlsFiles { certificate, key, client_ca }) {
            Ok(tls) => return Some(tls),
            Err(faults) => {
                for TlsFault { setting, problem } in faults {
                    let paths = [(CERTIFICATE, &args.tls_cert_file), (KEY, &args.tls_key_file)];
                    let given = paths.into_iter().chain([(CLIENT_CA, &args.tls_client_ca_file)]);
                    let path = given.filter(|(name, _)| *name == setting).find_map(|(_, path)| path.as_deref());
                    let named = path.and_then(redact_path).map(|path| format!("{path}: ")).unwrap_or_default();
                    errors.add(setting, format!("{named}{problem}"));
                }
            }
        },
        (Some(_), None) => errors.add(CERTIFICATE, format!("needs its private key; set {KEY} as well")),
        (None, Some(_)) => errors.add(KEY, format!("needs its certificate; set {CERTIFICATE} as well")),
        (None, None) if client_ca.is_some() => {
            errors.add(CLIENT_CA, format!("has no effect without TLS; set {CERTIFICATE} and {KEY} as well"));
        }
        (None, None) => {}
    }
    None
}

fn parse_client_auth(text: &str) -> Result<ClientAuth, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "required" => Ok(ClientAuth::Required),
        "optional" => Ok(ClientAuth::Optional),
        _ => Err("is neither required nor optional"),
    }
}
