//! Verifies chain and contract once, before anything is sent.

use super::{
    CallError, Chain,
    client::prefer_nonempty_bytes,
    contract::{CONTRACT_VERSION, DocumentRegistry},
};
use crate::registration::Block;
use alloy::primitives::{Address, B256, Bytes};

/// Chain or contract differ from the settings; trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainMismatch {
    #[error("{endpoint} is on chain {actual}, but REGISTRAR_CHAIN_ID is {expected}: correct one of them")]
    ChainId { endpoint: String, actual: u64, expected: u64 },
    #[error(
        "no contract at {0}: `registrar deploy` deploys one and prints its address for REGISTRAR_CONTRACT_ADDRESS \
         (a restarted anvil is a new chain without the old contract)"
    )]
    NoCode(Address),
    #[error(
        "the contract at {0} is not a DocumentRegistry of version {CONTRACT_VERSION}: \
         correct REGISTRAR_CONTRACT_ADDRESS"
    )]
    WrongContract(Address),
}

/// Why chain and contract could not be verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Mismatch(#[from] ChainMismatch),
    /// Trying again may help.
    #[error(transparent)]
    Call(#[from] CallError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainIdentity {
    pub genesis_hash: B256,
    pub deploy_block: Block,
}

impl Chain {
    /// Checks the chain id of every endpoint; one endpoint on the right chain is enough.
    ///
    /// # Errors
    /// When all endpoints are on other chains, or none on the right chain answers.
    pub async fn verify_chain_id(&self) -> Result<(), VerifyError> {
        self.pool.verify_chain_ids().await;
        if let Some((endpoint, actual)) = self.pool.chain_id_mismatch() {
            return Err(ChainMismatch::ChainId { endpoint, actual, expected: self.network().chain_id }.into());
        }
        if !self.pool.is_usable() {
            return Err(self.pool.no_endpoint_error("eth_chainId").into());
        }
        Ok(())
    }

    pub(crate) async fn verify_identity(&self) -> Result<ChainIdentity, VerifyError> {
        self.verify_chain_id().await?;
        let code: Bytes = self.pool.read("eth_getCode", (self.contract(), "latest"), prefer_nonempty_bytes).await?;
        if code.is_empty() {
            return Err(ChainMismatch::NoCode(self.contract()).into());
        }
        let wrong_contract = || VerifyError::from(ChainMismatch::WrongContract(self.contract()));
        let version = self.view(&DocumentRegistry::versionCall {}).await?.ok_or_else(wrong_contract)?;
        let deployed = self.view(&DocumentRegistry::deployBlockCall {}).await?.ok_or_else(wrong_contract)?;
        if version != CONTRACT_VERSION {
            return Err(wrong_contract());
        }
        let number = u64::try_from(deployed).map_err(|_| wrong_contract())?;
        let (genesis, deploy) = tokio::try_join!(self.require_header(0), self.require_header(number))?;
        self.pool.report_down_endpoints();
        Ok(ChainIdentity { genesis_hash: genesis.block.hash, deploy_block: deploy.block })
    }
}
