//! Deploys a DocumentRegistry: once per network, by the first signer.

use super::{
    Chain, Signer, VerifyError,
    contract::{self, InvalidArtifact},
    one_transaction::{TransactionError, send_transaction},
};
use alloy::primitives::Address;

#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    #[error(transparent)]
    Artifact(#[from] InvalidArtifact),
    #[error("no signer is configured")]
    NoSigner,
    #[error("the endpoint reports no address of the new contract")]
    NoAddress,
}

/// Deploys a registry owned by `owner` (default: the first signer) that allows all `signers`; the first signer pays.
pub async fn deploy(chain: &Chain, signers: &[Signer], owner: Option<Address>) -> Result<Address, DeployError> {
    let payer = signers.first().ok_or(DeployError::NoSigner)?;
    let registrars: Vec<Address> = signers.iter().map(Signer::address).collect();
    chain.verify_chain_id().await?;
    let calldata = contract::deploy_calldata(owner.unwrap_or(payer.address()), &registrars)?;
    let (_, receipt) = send_transaction(chain, payer, None, calldata).await?;
    receipt.contract_address.ok_or(DeployError::NoAddress)
}
