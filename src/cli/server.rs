//! The service that a command calls, and how the command identifies itself to it.

use super::{
    args::ConnectionArgs,
    client_certificate::{self, Pem, read_pem},
    error::{CliError, CliResult},
};
use crate::{
    config::{ConfigErrors, Environment},
    telemetry::{self, Secrets, redact},
};
use http::uri::Scheme;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

const CA_FILE: &str = "REGISTRAR_CA_FILE";
const TOKEN: &str = "REGISTRAR_TOKEN";

pub(super) struct Server {
    /// As it was given.
    pub name: String,
    pub endpoint: Endpoint,
    /// The value of `authorization`.
    pub authorization: Option<MetadataValue<Ascii>>,
}

impl Server {
    /// Reads the files, and the token from the environment.
    pub(super) fn new(args: &ConnectionArgs, environment: &Environment) -> CliResult<Self> {
        let endpoint = parse_url(&args.server)?;
        let is_https = endpoint.uri().scheme() == Some(&Scheme::HTTPS);
        let token = read_token(environment)?;
        if token.is_some() && !is_https && !endpoint.uri().host().is_some_and(telemetry::is_loopback) {
            return Err(CliError::invalid_arguments(format!(
                "{TOKEN} is not sent over http:// to another machine, where others can read it on its way; use https://"
            )));
        }
        let endpoint = if is_https { with_tls(endpoint, args)? } else { endpoint };
        Ok(Self { name: args.server.clone(), endpoint, authorization: token })
    }

    /// The service of the development stack.
    pub(super) fn plaintext(url: &str) -> CliResult<Self> {
        Ok(Self { name: url.to_owned(), endpoint: parse_url(url)?, authorization: None })
    }
}

fn parse_url(server: &str) -> CliResult<Endpoint> {
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    match Endpoint::from_shared(url) {
        Ok(endpoint) if endpoint.uri().scheme().is_some_and(|it| [Scheme::HTTP, Scheme::HTTPS].contains(it)) => {
            Ok(endpoint)
        }
        Ok(_) => Err(CliError::invalid_arguments("the server's address begins with neither http:// nor https://")),
        Err(_) => Err(CliError::invalid_arguments(
            "the server's address is not a URL; use for example http://127.0.0.1:50051",
        )),
    }
}

fn with_tls(endpoint: Endpoint, args: &ConnectionArgs) -> CliResult<Endpoint> {
    let tls = ClientTlsConfig::new();
    let tls = match &args.ca_file {
        Some(path) => {
            let authorities = read_pem(CA_FILE, path, "certificate", telemetry::is_certificate)?;
            tls.ca_certificate(Certificate::from_pem(authorities))
        }
        None => tls.with_webpki_roots(),
    };
    let tls = match args.client_certificate.read()? {
        Some(Pem { certificate, key }) => tls.identity(Identity::from_pem(certificate, key)),
        None => tls,
    };
    endpoint.tls_config(tls).map_err(|_| client_certificate::unusable())
}

/// Never shown: from here on it is removed from all output as well.
fn read_token(environment: &Environment) -> CliResult<Option<MetadataValue<Ascii>>> {
    let mut errors = ConfigErrors::default();
    let token = environment.secret(TOKEN, &mut errors);
    if let Some(problem) = errors.first() {
        return Err(CliError::invalid_arguments(problem));
    }
    let Some(token) = token else { return Ok(None) };
    let mut secrets = Secrets::default();
    secrets.add(&token);
    redact::install(secrets);
    let is_token = token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = is_token.then(|| format!("Bearer {token}").parse::<MetadataValue<Ascii>>().ok()).flatten();
    let Some(mut value) = value else {
        return Err(CliError::invalid_arguments(format!(
            "{TOKEN} is not a token: it has spaces or characters other than ASCII; use the output of \
             `registrar token new`"
        )));
    };
    value.set_sensitive(true);
    Ok(Some(value))
}
