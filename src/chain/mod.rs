//! The only room that names alloy's provider: endpoints, node errors, fees, signing, the contract.

mod client;
mod contract;
mod delay;
mod deploy;
mod dialect;
mod endpoint;
mod error;
mod history;
mod market;
mod network;
mod oracle;
mod pool;
mod proof;
mod signer;
#[cfg(test)]
pub(crate) mod simulated;
mod transport;
mod url;
mod view;
mod wire;
mod witnesses;

pub use client::{Chain, Outlook, Record, Registered};
pub use contract::{
    InvalidArtifact, Pair, Unsigned, refused_registrar, register_calldata, registered_topics, sign, sign_again,
};
pub use delay::Delays;
pub use deploy::{DeployError, deploy};
pub use endpoint::SetupError;
pub use error::{CallError, Fault, Refusal};
pub use history::Broadcast;
pub use market::Market;
pub use network::Network;
pub use pool::Sent;
pub use proof::{Proof, ProveError, WrongChain};
pub use signer::{InvalidKey, Signer};
pub use url::{EndpointUrl, InvalidEndpointUrl, number_repeated_hosts};
pub use view::{EndpointState, EndpointView, Overview, Stall, Witness};
pub use wire::{BlockTag, FeeHistory, Header, Receipt};

use alloy::primitives::{Address, utils::parse_units};

/// Which chain, how to reach it, and who signs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// EIP-155 chain id; an endpoint that answers another one is never used.
    pub chain_id: u64,
    /// In order of preference; never empty.
    pub endpoints: Vec<EndpointUrl>,
    /// Who signs.
    pub signers: Vec<Signer>,
    /// The DocumentRegistry.
    pub contract: Address,
    /// Hard cap, in wei per gas.
    pub max_fee_per_gas: u128,
}

/// Reads an amount in ether as wei.
///
/// # Errors
/// When it is no amount above zero with at most 18 decimals.
pub fn parse_ether(text: &str) -> Result<u128, &'static str> {
    let wei = parse_units(text, "ether").ok().and_then(|units| u128::try_from(units.get_absolute()).ok());
    wei.filter(|wei| *wei > 0 && !text.starts_with('-')).ok_or("is no amount of ETH above zero, such as 0.1 or 2")
}

/// Reads an amount in gwei as wei.
///
/// # Errors
/// When it is no amount above zero with at most nine decimals.
pub fn parse_gwei(text: &str) -> Result<u128, &'static str> {
    let wei = parse_units(text, "gwei").ok().and_then(|units| u128::try_from(units.get_absolute()).ok());
    wei.filter(|wei| *wei > 0 && !text.starts_with('-')).ok_or("is no amount of gwei above zero, such as 5 or 0.25")
}
