//! Which chain and contract it is: proved once, before anything is sent.

use super::{
    CallError, Chain,
    client::prefer_nonempty_bytes,
    contract::{CONTRACT_VERSION, DocumentRegistry},
};
use crate::registration::Block;
use alloy::primitives::{Address, B256, Bytes};

/// A contract or chain that is not what the settings say. Nothing but other settings helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainMismatch {
    /// Another chain id.
    #[error("{endpoint} is on chain {actual}, and REGISTRAR_CHAIN_ID says {expected}: mend one of them")]
    ChainId {
        /// The endpoint's name.
        endpoint: String,
        /// What it answers.
        actual: u64,
        /// What the settings say.
        expected: u64,
    },
    /// No code.
    #[error(
        "there is no contract at {0}: `registrar deploy` deploys one and prints its address for REGISTRAR_CONTRACT_ADDRESS (a restarted anvil is a new chain, without the old contract)"
    )]
    NoCode(Address),
    /// Another contract.
    #[error(
        "the contract at {0} is no DocumentRegistry of version {CONTRACT_VERSION}: mend REGISTRAR_CONTRACT_ADDRESS"
    )]
    WrongContract(Address),
}

/// Why the chain could not be proved to be the right one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is the wrong one.
    #[error(transparent)]
    Mismatch(#[from] ChainMismatch),
    /// Nobody answers; trying again may help.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What is proved once: which registry this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainIdentity {
    /// Hash of block 0.
    pub genesis_hash: B256,
    /// The block that deployed the contract.
    pub deploy_block: Block,
}

impl Chain {
    /// Proves of each endpoint that it is on the right chain. One that is right is enough.
    ///
    /// # Errors
    /// When all are on other chains, or none that is right answers.
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

    /// Proves chain and contract, and says which registry it is.
    ///
    /// # Errors
    /// When chain or contract is another one, or nobody answers.
    pub(crate) async fn verify_identity(&self) -> Result<ChainIdentity, VerifyError> {
        self.verify_chain_id().await?;
        let code: Bytes = self.pool.read("eth_getCode", (self.contract(), "latest"), prefer_nonempty_bytes).await?;
        if code.is_empty() {
            return Err(ChainMismatch::NoCode(self.contract()).into());
        }
        let other = || VerifyError::from(ChainMismatch::WrongContract(self.contract()));
        let version = self.view(&DocumentRegistry::versionCall {}).await?.ok_or_else(other)?;
        let deployed = self.view(&DocumentRegistry::deployBlockCall {}).await?.ok_or_else(other)?;
        if version != CONTRACT_VERSION {
            return Err(other());
        }
        let number = u64::try_from(deployed).map_err(|_| other())?;
        let (genesis, deploy) = tokio::try_join!(self.require_header(0), self.require_header(number))?;
        self.pool.report_down_endpoints();
        Ok(ChainIdentity { genesis_hash: genesis.block.hash, deploy_block: deploy.block })
    }
}
