//! The JSON of the few methods we call: of each answer the fields that are used, and no more.

use crate::registration::{Block, Cost, Timestamp, diagnosis::BlockFullness};
use alloy::primitives::{Address, B256, Bytes, U64, U128};
use serde::{Deserialize, Serialize};

/// Which block to ask about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockTag {
    /// The head.
    Latest,
    /// The newest block whose data is on L1.
    Safe,
    /// The newest block whose L1 block is final.
    Finalized,
    /// By number.
    Number(u64),
}

impl BlockTag {
    pub(super) fn to_param(self) -> String {
        match self {
            Self::Latest => "latest".to_owned(),
            Self::Safe => "safe".to_owned(),
            Self::Finalized => "finalized".to_owned(),
            Self::Number(number) => format!("{number:#x}"),
        }
    }
}

/// The method that every header is asked with.
pub(super) const BLOCK_BY_NUMBER: &str = "eth_getBlockByNumber";

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcHeader {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
    gas_limit: U64,
    base_fee_per_gas: Option<U128>,
}

/// A block's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Number, hash and time.
    pub block: Block,
    /// The hash of the block before.
    pub parent_hash: B256,
    /// How much gas a block holds.
    pub gas_limit: u64,
    /// Wei per gas; zero before EIP-1559.
    pub base_fee: u128,
}

impl From<RpcHeader> for Header {
    fn from(wire: RpcHeader) -> Self {
        Self {
            block: Block {
                number: wire.number.to(),
                hash: wire.hash,
                time: Timestamp::from_seconds(wire.timestamp.to()),
            },
            parent_hash: wire.parent_hash,
            gas_limit: wire.gas_limit.to(),
            base_fee: wire.base_fee_per_gas.map_or(0, |fee| fee.to()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcReceipt {
    block_hash: Option<B256>,
    block_number: Option<U64>,
    status: U64,
    gas_used: U64,
    effective_gas_price: Option<U128>,
    /// OP-stack chains only.
    l1_fee: Option<U128>,
    #[serde(default)]
    contract_address: Option<Address>,
    logs: Vec<RpcLog>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcLog {
    pub(super) address: Address,
    pub(super) topics: Vec<B256>,
    pub(super) transaction_hash: Option<B256>,
    pub(super) block_hash: Option<B256>,
}

/// A transaction's receipt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The including block's hash.
    pub block_hash: B256,
    /// The including block's number.
    pub block_number: u64,
    /// Whether it did not revert.
    pub succeeded: bool,
    /// Gas used.
    pub gas_used: u64,
    /// Wei per gas.
    pub effective_gas_price: u128,
    /// The L1 data fee in wei, on OP-stack chains.
    pub l1_fee: Option<u128>,
    /// The contract it created.
    pub contract_address: Option<Address>,
    /// Topics of each event of the given contract.
    pub events: Vec<Vec<B256>>,
}

impl Receipt {
    /// Of a receipt that names a block; a preconfirmed one has none, or the zero hash, and counts as absent.
    pub(super) fn from_rpc(wire: RpcReceipt, contract: Address) -> Option<Self> {
        Some(Self {
            block_hash: wire.block_hash.filter(|hash| !hash.is_zero())?,
            block_number: wire.block_number?.to(),
            succeeded: wire.status.to::<u64>() == 1,
            gas_used: wire.gas_used.to(),
            effective_gas_price: wire.effective_gas_price.map_or(0, |price| price.to()),
            l1_fee: wire.l1_fee.map(|fee| fee.to()),
            contract_address: wire.contract_address,
            events: wire.logs.into_iter().filter(|log| log.address == contract).map(|log| log.topics).collect(),
        })
    }
}

impl Receipt {
    /// What the transaction cost.
    pub fn cost(&self) -> Cost {
        Cost { gas_used: self.gas_used, effective_gas_price: self.effective_gas_price, l1_fee: self.l1_fee }
    }
}

/// Whether a node is still syncing: `false`, or an object that says how far it is.
#[derive(Debug, Deserialize)]
#[serde(from = "serde_json::Value")]
pub(super) struct RpcSyncing(pub(super) bool);

impl From<serde_json::Value> for RpcSyncing {
    fn from(value: serde_json::Value) -> Self {
        Self(value.as_bool().unwrap_or(value.is_object()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcFeeHistory {
    base_fee_per_gas: Vec<U128>,
    gas_used_ratio: Vec<f64>,
    #[serde(default)]
    reward: Option<Vec<Vec<U128>>>,
}

/// Fees of the newest blocks, the oldest first.
#[derive(Clone, PartialEq, Debug)]
pub struct FeeHistory {
    /// Wei per gas of each block.
    pub base_fees: Vec<u128>,
    /// Wei per gas that the block after the newest will ask.
    pub next_base_fee: u128,
    /// Which share of its gas limit each block used.
    pub gas_used_ratios: Vec<f64>,
    /// The priority fee, in wei per gas, that a tenth of each block's gas was bought below; zero of an empty block.
    pub low_tips: Vec<u128>,
}

impl FeeHistory {
    /// Which percentile of a block's priority fees is asked for.
    pub(super) const REWARD_PERCENTILE: f64 = 10.0;

    /// How full the blocks were, and of what, if each holds `gas_limit`; the oldest first.
    pub fn block_observations(&self, gas_limit: u64) -> Vec<BlockFullness> {
        let room = |fullness: f64| ((1.0 - fullness).clamp(0.0, 1.0) * gas_limit as f64) as u64;
        let blocks = self.gas_used_ratios.iter().zip(&self.low_tips);
        blocks.map(|(fullness, low_tip)| BlockFullness { free_gas: room(*fullness), p10_tip: *low_tip }).collect()
    }
}

impl From<RpcFeeHistory> for FeeHistory {
    fn from(wire: RpcFeeHistory) -> Self {
        let mut base_fees: Vec<u128> = wire.base_fee_per_gas.into_iter().map(|fee| fee.to()).collect();
        let next_base_fee = base_fees.pop().unwrap_or_default();
        let tips = wire.reward.unwrap_or_default();
        let low_tips = tips.iter().map(|block| block.first().map_or(0, |tip| tip.to())).collect();
        Self { base_fees, next_base_fee, gas_used_ratios: wire.gas_used_ratio, low_tips }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Address>,
    pub(super) to: Address,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gas: Option<U64>,
    pub(super) data: Bytes,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogFilter {
    pub(super) from_block: String,
    pub(super) to_block: String,
    pub(super) address: Address,
    /// By position; `None` takes any.
    pub(super) topics: Vec<Option<B256>>,
}
