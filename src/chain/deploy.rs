//! Deploying a DocumentRegistry: once per network, by the first signer.

use super::{
    CallError, Chain, InvalidKey, Signer, VerifyError,
    backoff::Backoff,
    contract::{self, InvalidArtifact, UnsignedTransaction},
};
use crate::registration::policy::fees::{self, FeeCapExceeded};
use alloy::primitives::{Address, B256, U256, utils::format_ether};
use std::time::Duration;

/// How long a deployment may take to be included.
const INCLUSION_TIMEOUT: Duration = Duration::from_secs(120);

/// Why the contract was not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The chain is another one, or nobody answers.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The fees are above the cap.
    #[error("{0}: wait, or raise REGISTRAR_MAX_FEE_GWEI")]
    Fees(#[from] FeeCapExceeded),
    /// The signer cannot pay.
    #[error("{signer} has {} ETH, and deploying may cost {} ETH: send it some", format_ether(*balance), format_ether(*needed))]
    InsufficientFunds {
        /// The first signer.
        signer: Address,
        /// What it has.
        balance: U256,
        /// What it needs.
        needed: U256,
    },
    /// The artifact is broken.
    #[error(transparent)]
    Artifact(#[from] InvalidArtifact),
    /// The key cannot sign.
    #[error("the first signer {0}")]
    Key(#[from] InvalidKey),
    /// It reverted.
    #[error("the deployment {0} reverted")]
    Reverted(B256),
    /// It was sent and is in no block.
    #[error(
        "the deployment {0} was sent and is in no block after {INCLUSION_TIMEOUT:?}: look it up before trying again"
    )]
    NotIncluded(B256),
}

/// Deploys a registry owned by `owner` that allows all `signers`; the first signer pays.
///
/// # Errors
/// When it was not deployed.
pub async fn deploy(chain: &Chain, signers: &[Signer], owner: Option<Address>) -> Result<Address, DeployError> {
    let payer = signers.first().ok_or(InvalidKey)?;
    let registrars: Vec<Address> = signers.iter().map(Signer::address).collect();
    chain.verify_chain_id().await?;
    let calldata = contract::deploy_calldata(owner.unwrap_or(payer.address()), &registrars)?;
    let outlook = chain.sender_state(payer.address()).await?;
    let fees = fees::price(outlook.head.base_fee, outlook.fee_market.suggested_tip, chain.max_fee_per_gas())?;
    let estimate = chain.estimate_deploy(payer.address(), &calldata).await?;
    let gas_limit = estimate + estimate / 10;
    let needed = U256::from(gas_limit) * U256::from(fees.max_fee_per_gas);
    if outlook.balance < needed {
        return Err(DeployError::InsufficientFunds { signer: payer.address(), balance: outlook.balance, needed });
    }
    let unsigned = UnsignedTransaction {
        chain_id: chain.network().chain_id,
        nonce: outlook.nonce,
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

/// The new contract's address, once its transaction is in a block; `None` when it reverted.
async fn wait_for_contract_address(chain: &Chain, hash: B256) -> Option<Address> {
    let mut delays = Backoff::with_max_delay(Duration::from_secs(1));
    loop {
        if let Ok(Some(receipt)) = chain.receipt(hash).await {
            return receipt.contract_address.filter(|_| receipt.succeeded);
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
}
