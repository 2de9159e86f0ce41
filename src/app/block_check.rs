//! Whether a node that the user trusts has a block.

use crate::chain::{
    self, BlockTag, CallError, Chain, ChainMismatch, EndpointUrl, InvalidEndpointUrl, SetupError, VerifyError,
};
use alloy::primitives::{Address, B256};

/// What a node says of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockCheck {
    OnChain,
    /// It has another block at that height.
    Other(B256),
    /// Its chain is shorter, or it does not keep such old blocks.
    Unknown,
    /// It is a node of another chain.
    OtherChain(u64),
}

/// Why nothing was learnt.
#[derive(Debug, thiserror::Error)]
pub enum BlockCheckError {
    #[error(transparent)]
    Url(#[from] InvalidEndpointUrl),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// The name under which the node at a URL is shown.
///
/// # Errors
/// When it is not the URL of a node.
pub fn node_name(url: &str) -> Result<String, BlockCheckError> {
    Ok(EndpointUrl::parse(url)?.name().to_owned())
}

/// Asks the node at this URL for its block at the height `number` of the chain `chain_id`.
///
/// # Errors
/// When the URL is none, or the node does not answer.
pub async fn check_block(url: &str, chain_id: u64, number: u64, hash: B256) -> Result<BlockCheck, BlockCheckError> {
    let settings = chain::Settings {
        chain_id,
        endpoints: vec![EndpointUrl::parse(url)?],
        signers: chain::SignerSettings::default(),
        contract: Address::ZERO,
        max_fee_per_gas: 0,
    };
    let chain = Chain::new(&settings)?;
    match chain.verify_chain_id().await {
        Ok(()) => {}
        Err(VerifyError::Call(error)) => return Err(error.into()),
        Err(VerifyError::Mismatch(ChainMismatch::ChainId { actual, .. })) => return Ok(BlockCheck::OtherChain(actual)),
        Err(VerifyError::Mismatch(ChainMismatch::NoCode(_) | ChainMismatch::WrongContract(_))) => {}
    }
    let header = chain.header(BlockTag::Number(number)).await?;
    Ok(match header.map(|header| header.block.hash) {
        Some(found) if found == hash => BlockCheck::OnChain,
        Some(other) => BlockCheck::Other(other),
        None => BlockCheck::Unknown,
    })
}
