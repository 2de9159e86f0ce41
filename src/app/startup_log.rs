//! The log line of a completed start: version, chain, signers, database and addresses.

use crate::{
    chain::{Chain, Signer},
    config::Settings,
    registration::units,
    store::Store,
};
use alloy::primitives::{Address, U256};
use std::net::SocketAddr;
use tracing::{info, warn};

/// The addresses that the service listens on.
#[derive(Clone, Copy, Debug)]
pub struct BoundAddrs {
    pub(crate) grpc: SocketAddr,
    /// HTTP, for metrics and health.
    pub(crate) admin: SocketAddr,
}

/// Collected before the settings are moved.
pub(super) struct StartupInfo {
    chain_id: u64,
    contract: Address,
    signers: String,
    endpoints: String,
    database: String,
    daily_budget: String,
    is_protected: bool,
}

impl StartupInfo {
    /// Has no secrets: endpoints are named by host, the database without user and password.
    pub(super) fn new(settings: &Settings, chain: &Chain, signers: &[Signer], store: &Store) -> Self {
        let signers: Vec<_> = signers.iter().map(|signer| signer.address().to_string()).collect();
        let endpoints: Vec<_> = settings.chain.endpoints.iter().map(|endpoint| endpoint.name()).collect();
        Self {
            chain_id: chain.network().chain_id,
            contract: chain.contract(),
            signers: signers.join(", "),
            endpoints: endpoints.join(", "),
            database: store.display_name().to_owned(),
            is_protected: settings.protection.is_complete(),
            daily_budget: settings
                .pipeline
                .daily_budget
                .map_or_else(|| "unlimited".to_owned(), |wei| units::format_eth(U256::from(wei))),
        }
    }

    pub(super) fn log(&self, addresses: BoundAddrs) {
        let is_local = [addresses.grpc, addresses.admin].iter().all(|address| address.ip().is_loopback());
        if !is_local && !self.is_protected {
            warn!(
                grpc = %addresses.grpc,
                admin = %addresses.admin,
                "reachable from other machines without TLS and authentication, as REGISTRAR_ALLOW_INSECURE allows"
            );
        }
        info!(
            version = env!("CARGO_PKG_VERSION"),
            chain_id = self.chain_id,
            contract = %self.contract,
            signers = self.signers,
            database = self.database,
            endpoints = self.endpoints,
            daily_budget = self.daily_budget,
            grpc = %addresses.grpc,
            admin = %addresses.admin,
            "listening"
        );
    }
}
