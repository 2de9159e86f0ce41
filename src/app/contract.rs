//! What commands do with the contract: deploy it, and change who may register and who owns it.

use super::Error;
use crate::{
    chain::{self, Chain, Ownership, Signer},
    config::ContractSettings,
    telemetry::redact,
};
use alloy::primitives::{Address, B256};
use tokio_util::sync::CancellationToken;

/// Deploys a DocumentRegistry that is owned by `owner`, or else the first signer, and allows every configured signer.
///
/// # Errors
/// The chain is unreachable or another one, or the deployment fails.
pub async fn deploy(settings: ContractSettings, owner: Option<Address>) -> Result<Address, Error> {
    with_chain(settings, async |chain, signers| Ok(chain::deploy(chain, signers, owner).await?)).await
}

/// Allows an account to register, or no longer. Returns the transaction, unless that was so already.
///
/// # Errors
/// The chain is unreachable or another one, no signer is the owner, or the transaction fails.
pub async fn set_registrar(settings: ContractSettings, account: Address, allowed: bool) -> Result<Option<B256>, Error> {
    with_chain(settings, async |chain, signers| Ok(chain::set_registrar(chain, signers, account, allowed).await?)).await
}

/// The ownership, after it was offered to `new_owner` if there is one; and the transactions that did so.
///
/// # Errors
/// The chain is unreachable or another one, no signer is the owner, or a transaction fails.
pub async fn ownership(
    settings: ContractSettings,
    new_owner: Option<Address>,
) -> Result<(Ownership, Vec<B256>), Error> {
    with_chain(settings, async |chain, signers| match new_owner {
        Some(new_owner) => Ok(chain::transfer_ownership(chain, signers, new_owner).await?),
        None => Ok((chain::read_ownership(chain).await?, Vec::new())),
    })
    .await
}

/// Acts while the endpoints are probed: without probes one that is down stays so.
async fn with_chain<T>(
    settings: ContractSettings,
    act: impl AsyncFnOnce(&Chain, &[Signer]) -> Result<T, Error>,
) -> Result<T, Error> {
    redact::install(settings.secrets);
    let chain = Chain::new(&settings.chain)?;
    let signers = chain::open_signers(&settings.chain.signers).await?;
    let never = CancellationToken::new();
    tokio::select! {
        result = act(&chain, &signers) => result,
        () = chain.run_probes(&never) => Err(Error::TaskExited),
    }
}
