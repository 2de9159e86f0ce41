//! How a command reaches the service.

use super::{client_certificate::ClientCertificateArgs, invocation};
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
    #[command(flatten)]
    pub client_certificate: ClientCertificateArgs,
    /// Print one JSON object per line (canonical protobuf JSON; an error is {"error":{…}})
    #[arg(long)]
    pub json: bool,
}
