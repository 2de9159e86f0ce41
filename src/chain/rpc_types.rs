//! The JSON types of the RPC methods in use: only the fields that are read.

use crate::registration::{Block, Cost, Timestamp, diagnosis::BlockFullness};
use alloy::primitives::{Address, B256, Bytes, U64, U128};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockTag {
    Latest,
    /// The newest block whose data is on L1.
    Safe,
    /// The newest block whose L1 block is final.
    Finalized,
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

/// The fields of a block header that the service uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Number, hash and time.
    pub block: Block,
    /// Hash of the previous block.
    pub parent_hash: B256,
    /// Of the block.
    pub gas_limit: u64,
    /// In wei per gas; zero before EIP-1559.
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

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    pub block_hash: B256,
    pub block_number: u64,
    pub succeeded: bool,
    pub gas_used: u64,
    /// In wei per gas.
    pub effective_gas_price: u128,
    /// In wei; OP-stack chains only.
    pub l1_fee: Option<u128>,
    pub contract_address: Option<Address>,
    /// Topics of each event of our contract.
    pub events: Vec<Vec<B256>>,
}

impl Receipt {
    /// `None` for a preconfirmed receipt, which has no block hash or the zero hash.
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
    pub fn cost(&self) -> Cost {
        Cost { gas_used: self.gas_used, effective_gas_price: self.effective_gas_price, l1_fee: self.l1_fee }
    }
}

/// `false`, or an object with the progress.
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

/// Of the newest blocks, the oldest first; in wei per gas.
#[derive(Clone, PartialEq, Debug)]
pub struct FeeHistory {
    pub base_fees: Vec<u128>,
    pub next_base_fee: u128,
    /// The share of its gas limit that each block used.
    pub gas_used_ratios: Vec<f64>,
    /// The 10th percentile of each block's priority fees, by gas; zero of an empty block.
    pub low_tips: Vec<u128>,
}

impl FeeHistory {
    pub(super) const REWARD_PERCENTILE: f64 = 10.0;

    /// For blocks that hold `gas_limit` each.
    pub fn block_observations(&self, gas_limit: u64) -> Vec<BlockFullness> {
        let free_gas = |fullness: f64| ((1.0 - fullness).clamp(0.0, 1.0) * gas_limit as f64) as u64;
        let blocks = self.gas_used_ratios.iter().zip(&self.low_tips);
        blocks.map(|(fullness, low_tip)| BlockFullness { free_gas: free_gas(*fullness), p10_tip: *low_tip }).collect()
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
    /// By position; `None` matches any.
    pub(super) topics: Vec<Option<B256>>,
}
