//! Names and block explorers of the supported networks.

use alloy::primitives::B256;

/// anvil and hardhat.
const LOCAL_CHAIN_ID: u64 = 31337;

/// A network's names and block explorer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// EIP-155.
    pub chain_id: u64,
    /// Such as `base-sepolia`.
    pub name: String,
    /// Such as `Base Sepolia`.
    pub title: String,
    explorer: Option<&'static str>,
}

impl Network {
    pub(crate) fn from_chain_id(chain_id: u64) -> Self {
        let (name, title, explorer) = match chain_id {
            84532 => ("base-sepolia".to_owned(), "Base Sepolia".to_owned(), Some("https://sepolia.basescan.org")),
            8453 => ("base".to_owned(), "Base".to_owned(), Some("https://basescan.org")),
            LOCAL_CHAIN_ID => ("anvil".to_owned(), "anvil".to_owned(), None),
            other => (format!("chain-{other}"), format!("chain {other}"), None),
        };
        Self { chain_id, name, title, explorer }
    }

    pub(crate) fn is_local(&self) -> bool {
        self.chain_id == LOCAL_CHAIN_ID
    }

    /// Empty where there is no explorer.
    pub(crate) fn explorer_url(&self, transaction: B256) -> String {
        self.explorer.map_or_else(String::new, |explorer| format!("{explorer}/tx/{transaction}"))
    }
}
