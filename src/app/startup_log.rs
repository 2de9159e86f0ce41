//! The one line of a start that says what runs, on what, and where.

use super::BoundAddrs;
use crate::{chain::Chain, config::Settings, store::Store};
use alloy::primitives::Address;
use tracing::info;

/// What is said, gathered before the settings are given away.
pub struct StartupInfo {
    chain_id: u64,
    contract: Address,
    signers: String,
    endpoints: String,
    database: String,
}

impl StartupInfo {
    /// Of a service with these settings. Endpoints are named by host, the database without user and password.
    pub fn new(settings: &Settings, chain: &Chain, store: &Store) -> Self {
        let signers: Vec<_> = settings.chain.signers.iter().map(|signer| signer.address().to_string()).collect();
        let endpoints: Vec<_> = settings.chain.endpoints.iter().map(|endpoint| endpoint.name()).collect();
        Self {
            chain_id: chain.network().chain_id,
            contract: chain.contract(),
            signers: signers.join(", "),
            endpoints: endpoints.join(", "),
            database: store.display_name().to_owned(),
        }
    }

    /// Says it, now that calls are taken.
    pub fn log(&self, at: BoundAddrs) {
        info!(
            version = env!("CARGO_PKG_VERSION"),
            chain_id = self.chain_id,
            contract = %self.contract,
            signers = self.signers,
            database = self.database,
            endpoints = self.endpoints,
            grpc = %at.grpc,
            admin = %at.admin,
            "listening"
        );
    }
}
