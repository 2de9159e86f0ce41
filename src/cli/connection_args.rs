//! How a command reaches the service.

use super::invocation;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// gRPC address of the service; https:// if it uses TLS
    #[arg(long, env = "REGISTRAR_SERVER", value_name = "URL", default_value = invocation::DEFAULT_SERVER)]
    pub server: String,
    /// File with the authorities (PEM) that the certificate of an https:// server is checked with [default: the public
    /// ones of Mozilla]
    #[arg(long, env = "REGISTRAR_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File with a certificate (PEM) by which an https:// server knows the caller
    #[arg(long, env = "REGISTRAR_CLIENT_CERT_FILE", value_name = "FILE")]
    pub client_cert_file: Option<PathBuf>,
    /// File with the private key of that certificate (PEM)
    #[arg(long, env = "REGISTRAR_CLIENT_KEY_FILE", value_name = "FILE")]
    pub client_key_file: Option<PathBuf>,
    /// Print one JSON object per line (canonical protobuf JSON; an error is {"error":{…}})
    #[arg(long)]
    pub json: bool,
}
