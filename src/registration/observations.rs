//! What nodes and the chain were seen to say. Policy decides by it, and a diagnosis cites it.

use super::time::Timestamp;
use alloy::primitives::{Address, B256, Bytes};
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSnapshot {
    /// The host, with a number where hosts repeat; never the URL, which may hold an API key.
    pub name: String,
    /// The code of the endpoint's health state.
    pub state: &'static str,
    /// Number of the newest block it reported.
    pub head: Option<u64>,
    /// How far its head is behind the newest head of all endpoints, by block times.
    pub lag: Option<Duration>,
    /// Mean response time.
    pub latency: Option<Duration>,
    /// Why it is not healthy.
    pub error: Option<String>,
}

/// A chain whose head does not move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StallSnapshot {
    pub head: u64,
    pub duration: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadSnapshot {
    pub number: u64,
    pub gas_limit: u64,
    /// Wei per gas.
    pub base_fee: u128,
    /// For how long this has been the newest block.
    pub age: Duration,
}

/// A node's error answer to `eth_sendRawTransaction`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRejection {
    pub endpoint: String,
    /// JSON-RPC error code.
    pub code: i64,
    /// The node's own text.
    pub message: String,
    pub kind: RejectKind,
    pub at: Timestamp,
}

impl NodeRejection {
    /// The same answer, whichever node gives it and whenever.
    pub fn is_same_rejection(&self, other: &Self) -> bool {
        (self.code, &self.message, self.kind) == (other.code, &other.message, other.kind)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RejectKind {
    InsufficientFunds,
    /// Below the node's minimum fee.
    FeeTooLow,
    /// The node accepts no more transactions of this signer for now.
    SenderLimit,
    /// More gas than a transaction or block may have.
    GasLimit,
    /// The node has another transaction with this nonce, with higher fees.
    ReplacementUnderpriced,
    Other,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointAnswer<T> {
    /// Name of the endpoint.
    pub endpoint: String,
    pub value: T,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiptSnapshot {
    /// Number of the including block.
    pub block: u64,
    pub block_hash: B256,
    pub succeeded: bool,
    pub gas_used: u64,
}

/// Fees of the newest blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeeSnapshot {
    /// Base fee of the next block, in wei per gas.
    pub next_base_fee: u128,
    /// Oldest first.
    pub blocks: Vec<BlockFullness>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockFullness {
    /// Gas limit less gas used.
    pub free_gas: u64,
    /// 10th percentile by gas of the priority fees, in wei per gas; zero of an empty block.
    pub p10_tip: u128,
}

/// The result of running a reverted transaction again on the state before and after its block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RevertReason {
    /// The contract does not allow this account.
    NotRegistrar(Address),
    Data(Bytes),
    /// It succeeds on both, so what made it revert lay between them.
    NotReproduced,
}

/// A transaction with more gas than any block takes, which cannot be made smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxTooLarge {
    pub gas_limit: u64,
    /// The most that one transaction may use in a block.
    pub max_gas: u64,
}
