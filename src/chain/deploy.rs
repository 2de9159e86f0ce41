//! Deploys a DocumentRegistry: once per network, by the first signer.

use super::{
    CallError, Chain, InvalidKey, Signer, VerifyError,
    backoff::Backoff,
    contract::{self, InvalidArtifact, UnsignedTransaction},
};
use crate::registration::policy::fees::{self, FeeCapExceeded};
use alloy::primitives::{Address, B256, U256, utils::format_ether};
use std::time::Duration;

const INCLUSION_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}; wait, or raise REGISTRAR_MAX_FEE_GWEI")]
    Fees(#[from] FeeCapExceeded),
    #[error(
        "{signer} has {} ETH, but deploying may cost {} ETH; fund it",
        format_ether(*balance),
        format_ether(*needed)
    )]
    InsufficientFunds { signer: Address, balance: U256, needed: U256 },
    #[error(transparent)]
    Artifact(#[from] InvalidArtifact),
    #[error("the first signer {0}")]
    Key(#[from] InvalidKey),
    #[error("the deployment {0} reverted")]
    Reverted(B256),
    #[error("the deployment {0} was not included within {INCLUSION_TIMEOUT:?}; check its status before trying again")]
    NotIncluded(B256),
}

/// Deploys a registry owned by `owner` (default: the first signer) that allows all `signers`; the first signer pays.
pub async fn deploy(chain: &Chain, signers: &[Signer], owner: Option<Address>) -> Result<Address, DeployError> {
    let payer = signers.first().ok_or(InvalidKey)?;
    let registrars: Vec<Address> = signers.iter().map(Signer::address).collect();
    chain.verify_chain_id().await?;
    let calldata = contract::deploy_calldata(owner.unwrap_or(payer.address()), &registrars)?;
    let sender = chain.sender_state(payer.address()).await?;
    let fees = fees::price(sender.head.base_fee, sender.fee_market.suggested_tip, chain.max_fee_per_gas())?;
    let estimate = chain.estimate_deploy(payer.address(), &calldata).await?;
    let gas_limit = estimate + estimate / 10;
    let needed = U256::from(gas_limit) * U256::from(fees.max_fee_per_gas);
    if sender.balance < needed {
        return Err(DeployError::InsufficientFunds { signer: payer.address(), balance: sender.balance, needed });
    }
    let unsigned = UnsignedTransaction {
        chain_id: chain.network().chain_id,
        nonce: sender.nonce,
        to: None,
        calldata,
        gas_limit,
        fees,
    };
    let (hash, raw) = contract::sign(payer, &unsigned)?;
    chain.send(&raw).await?;
    match tokio::time::timeout(INCLUSION_TIMEOUT, wait_for_contract_address(chain, hash)).await {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(DeployError::Reverted(hash)),
        Err(_) => Err(DeployError::NotIncluded(hash)),
    }
}

/// `None` when the deployment reverted.
async fn wait_for_contract_address(chain: &Chain, hash: B256) -> Option<Address> {
    let mut backoff = Backoff::with_max_delay(Duration::from_secs(1));
    loop {
        if let Ok(Some(receipt)) = chain.receipt(hash).await {
            return receipt.contract_address.filter(|_| receipt.succeeded);
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}
