//! What a chain id is called, and where people look at it.

use alloy::primitives::B256;

/// The chain id of anvil and its like.
const LOCAL_CHAIN_ID: u64 = 31337;

/// A network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// As in `base-sepolia`.
    pub name: String,
    /// As in `Base Sepolia`.
    pub title: String,
    explorer: Option<&'static str>,
}

impl Network {
    /// The network with this chain id.
    pub fn from_chain_id(chain_id: u64) -> Self {
        let (name, title, explorer) = match chain_id {
            84532 => ("base-sepolia".to_owned(), "Base Sepolia".to_owned(), Some("https://sepolia.basescan.org")),
            8453 => ("base".to_owned(), "Base".to_owned(), Some("https://basescan.org")),
            LOCAL_CHAIN_ID => ("anvil".to_owned(), "anvil".to_owned(), None),
            other => (format!("chain-{other}"), format!("chain {other}"), None),
        };
        Self { chain_id, name, title, explorer }
    }

    /// Whether it is the chain id of development nodes.
    pub fn is_local(&self) -> bool {
        self.chain_id == LOCAL_CHAIN_ID
    }

    /// The transaction on the block explorer; empty where there is none.
    pub fn explorer_url(&self, transaction: B256) -> String {
        self.explorer.map_or_else(String::new, |explorer| format!("{explorer}/tx/{transaction}"))
    }
}
