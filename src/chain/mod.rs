//! The endpoint pool, node errors, fees, signing and the contract. Only this area uses alloy's provider.

mod address;
mod agreement;
mod backoff;
mod client;
mod contract;
mod deploy;
mod endpoint;
mod endpoint_status;
mod error;
mod fault;
mod fee_market;
mod finality;
mod json_rpc;
#[cfg(test)]
mod json_rpc_answers;
mod l1_fee;
mod log_range;
mod network;
mod node_errors;
mod nonce;
mod one_transaction;
mod ownership;
mod pool;
mod proof_support;
mod quantity;
mod quorum;
mod registrations;
mod rpc_types;
mod signer;
#[cfg(test)]
pub(crate) mod simulated;
mod state_proof;
mod transactions;
mod transport;
mod url;
mod verify;

pub use client::Chain;
pub use contract::register_calldata;
pub use network::Network;
pub use rpc_types::Header;
pub use signer::{Password, Signer, SignerSettings, SignerSpec, UnsignedTransaction};
pub use url::{EndpointUrl, InvalidEndpointUrl};

pub(crate) use address::parse_address;
pub(crate) use agreement::ReceiptComparison;
pub(crate) use backoff::Backoff;
#[cfg(test)]
pub(crate) use backoff::MAX_BACKOFF;
pub(crate) use client::{OnChainRecord, SenderState};
pub(crate) use contract::{decode_not_registrar, registration_topics};
pub(crate) use deploy::{DeployError, deploy};
pub(crate) use endpoint::SetupError;
pub(crate) use endpoint_status::{EndpointResponse, EndpointState, real_answers};
pub(crate) use error::CallError;
pub(crate) use fault::{EndpointFault, RejectReason};
pub(crate) use fee_market::FeeMarket;
pub(crate) use log_range::MAX_LOG_RANGE;
pub(crate) use ownership::{Ownership, OwnershipError, read_ownership, set_registrar, transfer_ownership};
pub(crate) use pool::BroadcastResult;
pub(crate) use quorum::{FanOut, MISSING_GRACE, QUORUM_TIMEOUT, SINGLE_ENDPOINT_GRACE, quorum_size, required_votes};
pub(crate) use rpc_types::{BlockTag, FeeHistory, Receipt};
pub(crate) use signer::{
    KeystoreError, OpenSignersError, SignError, SignerTls, create_keystore, is_published, open_signers,
};
pub(crate) use state_proof::{ProofError, StateProof};
pub(crate) use url::disambiguate_hosts;
pub(crate) use verify::{ChainIdentity, ChainMismatch, VerifyError};

use alloy::primitives::{Address, utils::parse_units};

/// The chain, its endpoints and the signers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// EIP-155 chain id; an endpoint on another chain is quarantined.
    pub chain_id: u64,
    /// In order of preference; never empty.
    pub endpoints: Vec<EndpointUrl>,
    /// Never empty, except where nothing is sent.
    pub signers: SignerSettings,
    /// The DocumentRegistry.
    pub contract: Address,
    /// In wei per gas.
    pub max_fee_per_gas: u128,
}

/// In wei.
pub(crate) fn parse_ether(text: &str) -> Result<u128, &'static str> {
    let wei = parse_units(text, "ether").ok().and_then(|units| u128::try_from(units.get_absolute()).ok());
    wei.filter(|wei| *wei > 0 && !text.starts_with('-')).ok_or("is not a positive amount of ETH, such as 0.1 or 2")
}

/// In wei per gas.
pub(crate) fn parse_gwei(text: &str) -> Result<u128, &'static str> {
    let wei = parse_units(text, "gwei").ok().and_then(|units| u128::try_from(units.get_absolute()).ok());
    wei.filter(|wei| *wei > 0 && !text.starts_with('-')).ok_or("is not a positive amount of gwei, such as 5 or 0.25")
}
