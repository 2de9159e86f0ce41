//! `registrar healthcheck`: whether the service on this machine is ready, for containers without a shell.

use super::{
    Exit,
    client_certificate::{self, ClientCertificateArgs, Pem},
    error::{CliError, CliResult},
    error_text::report,
    output::{Output, print_line},
    reason::ClientReason,
};
use crate::{
    config::{Environment, admin_address},
    telemetry::redact,
};
use clap::Args;
use reqwest::{Client, Identity, redirect::Policy};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tonic::Code;

/// The service may write to its database before it answers.
const TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP status of `/readyz`.
const NOT_READY: u16 = 503;
/// Of an answer; the service's are one line.
const MAX_SHOWN_CHARS: usize = 200;

/// The address and the TLS of the service are read from its own settings.
#[derive(Args, Debug)]
pub struct HealthcheckArgs {
    /// Address of the service's HTTP server [default: 127.0.0.1:9464]
    #[arg(long, env = "REGISTRAR_ADMIN_LISTEN", value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// The service's certificate, if it uses TLS; it is not checked, because the service is on this machine
    #[arg(long, env = "REGISTRAR_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<String>,
    #[command(flatten)]
    pub client_certificate: ClientCertificateArgs,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Exits with 0 when the service is ready, with 1 when it is not, and with 69 when it does not answer.
pub async fn run(args: &HealthcheckArgs, environment: &Environment) -> Exit {
    match check(args).await {
        Ok(()) if args.json => print_line(&json!({ "ready": true }).to_string()),
        Ok(()) => print_line("ready"),
        Err(error) => return report(&error.mark_read_only(), &Output::from_process(args.json, environment)),
    }
    Exit::Done
}

async fn check(args: &HealthcheckArgs) -> CliResult<()> {
    let address = admin_address(args.admin_listen.as_deref()).map_err(|errors| CliError::invalid_settings(&errors))?;
    let scheme = if has_value(args.tls_cert_file.as_deref()) { "https" } else { "http" };
    let server = format!("{scheme}://{}", reachable(address));
    let unreachable = |error: reqwest::Error| {
        let mut error = CliError::server_unreachable(&server, &error.without_url());
        if error.reason == ClientReason::ServerUnreachable.into() {
            error.reason = ClientReason::AdminUnreachable.into();
        }
        error
    };
    let client = client(args)?;
    let response = client.get(format!("{server}/readyz")).send().await.map_err(unreachable)?;
    if response.status().is_success() {
        return Ok(());
    }
    let status = response.status().as_u16();
    let answer = response.text().await.map_err(unreachable)?;
    let line: String = answer.lines().next().unwrap_or_default().chars().take(MAX_SHOWN_CHARS).collect();
    let line = redact(&line);
    Err(if status == NOT_READY {
        CliError::new(Code::FailedPrecondition, ClientReason::NotReady, format!("not ready: {line}"))
    } else {
        let message = format!("{server} does not answer as a registrar does: HTTP {status}: {line}");
        CliError::new(Code::Unavailable, ClientReason::AdminUnreachable, message)
    })
}

fn client(args: &HealthcheckArgs) -> CliResult<Client> {
    let builder = Client::builder()
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .no_proxy()
        // The address is the service's own, which its certificate need not name, and nothing secret is sent.
        .tls_danger_accept_invalid_certs(true);
    let builder = match args.client_certificate.read()? {
        Some(Pem { certificate, key }) => {
            let both = [certificate, key].join(&b'\n');
            builder.identity(Identity::from_pem(&both).map_err(|_| client_certificate::unusable())?)
        }
        None => builder,
    };
    builder.build().map_err(|_| client_certificate::unusable())
}

fn has_value(path: Option<&str>) -> bool {
    path.is_some_and(|path| !path.trim().is_empty())
}

/// A service that listens on all addresses is asked at loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_all_addresses_is_asked_at_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:9464", "10.0.0.7:9464"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
