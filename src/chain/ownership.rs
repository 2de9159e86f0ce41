//! What the contract's owner may do: allow and remove registrars, and hand the contract over.

use super::{
    CallError, Chain, Signer, VerifyError,
    contract::DocumentRegistry,
    one_transaction::{TransactionError, send_transaction},
};
use alloy::{
    primitives::{Address, B256},
    sol_types::SolCall,
};

#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    #[error(
        "only its owner {owner} may change the contract, and that account is not among the configured signers; run this \
         with REGISTRAR_SIGNERS or REGISTRAR_SIGNER_KEYS set to the owner's"
    )]
    NotOwner { owner: Address },
}

/// Ownership moves in two steps: the new owner accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    pub owner: Address,
    /// May accept it.
    pub pending: Option<Address>,
}

/// Allows an account to register, or no longer. Returns the transaction, unless that was so already.
pub async fn set_registrar(
    chain: &Chain,
    signers: &[Signer],
    account: Address,
    allowed: bool,
) -> Result<Option<B256>, OwnershipError> {
    chain.verify_identity().await?;
    if chain.is_registrar(account).await? == allowed {
        return Ok(None);
    }
    let owner = find_signer(signers, ownership(chain).await?.owner)?;
    let calldata = match allowed {
        true => DocumentRegistry::addRegistrarCall { account }.abi_encode(),
        false => DocumentRegistry::removeRegistrarCall { account }.abi_encode(),
    };
    let (hash, _) = send_transaction(chain, owner, Some(chain.contract()), calldata.into()).await?;
    Ok(Some(hash))
}

pub async fn read_ownership(chain: &Chain) -> Result<Ownership, OwnershipError> {
    chain.verify_identity().await?;
    ownership(chain).await
}

/// Offers the contract to `new_owner`, and accepts it where that account is among the signers. Returns the ownership
/// afterwards, and the transactions.
pub async fn transfer_ownership(
    chain: &Chain,
    signers: &[Signer],
    new_owner: Address,
) -> Result<(Ownership, Vec<B256>), OwnershipError> {
    let before = read_ownership(chain).await?;
    let mut transactions = Vec::new();
    if before.owner == new_owner {
        return Ok((before, transactions));
    }
    let contract = Some(chain.contract());
    if before.pending != Some(new_owner) {
        let owner = find_signer(signers, before.owner)?;
        let calldata = DocumentRegistry::transferOwnershipCall { newOwner: new_owner }.abi_encode();
        transactions.push(send_transaction(chain, owner, contract, calldata.into()).await?.0);
    }
    let offered = Ownership { pending: Some(new_owner), ..before };
    let Ok(accepting) = find_signer(signers, new_owner) else { return Ok((offered, transactions)) };
    let calldata = DocumentRegistry::acceptOwnershipCall {}.abi_encode();
    transactions.push(send_transaction(chain, accepting, contract, calldata.into()).await?.0);
    Ok((Ownership { owner: new_owner, pending: None }, transactions))
}

async fn ownership(chain: &Chain) -> Result<Ownership, OwnershipError> {
    let (owner, pending) = (DocumentRegistry::ownerCall {}, DocumentRegistry::pendingOwnerCall {});
    let (owner, pending) = tokio::try_join!(chain.view(&owner), chain.view(&pending))?;
    Ok(Ownership { owner: owner.unwrap_or_default(), pending: pending.filter(|pending| !pending.is_zero()) })
}

fn find_signer(signers: &[Signer], account: Address) -> Result<&Signer, OwnershipError> {
    let found = signers.iter().find(|signer| signer.address() == account);
    found.ok_or(OwnershipError::NotOwner { owner: account })
}
