//! Builds the rooms, spawns, drains in order; no logic.

use crate::config::{DeploySettings, Settings};
use alloy::primitives::Address;
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;

/// Where the service listens, once it does.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// gRPC.
    pub grpc: SocketAddr,
    /// HTTP, for metrics and health.
    pub admin: SocketAddr,
}

/// Why the service did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[error("not built yet")]
pub struct Error;

impl Error {
    /// The process's exit code: 64 when the settings are at fault, else 1.
    pub fn exit_code(&self) -> u8 {
        1
    }
}

/// Runs the service until `shutdown`, then drains it. `ready` is called once, when it serves.
///
/// # Errors
/// When it cannot start, or does not end within its grace.
pub async fn serve(
    _settings: Settings,
    _shutdown: CancellationToken,
    _ready: impl FnOnce(Listening),
) -> Result<(), Error> {
    Err(Error)
}

/// Deploys a DocumentRegistry owned by `owner` (else by the first signer) that allows every configured signer.
///
/// # Errors
/// When the chain cannot be reached, is another one, or refuses the deployment.
pub async fn deploy(_settings: DeploySettings, _owner: Option<Address>) -> Result<Address, Error> {
    Err(Error)
}
