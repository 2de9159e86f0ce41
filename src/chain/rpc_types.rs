//! The JSON types of the RPC methods in use: only the fields that are read. Whatever a node says is bounded here.

use super::quantity::{Fee, MAX_QUANTITY, Quantity, Wei};
use crate::registration::{Block, Cost, Timestamp, diagnosis::BlockFullness};
use alloy::primitives::{Address, B256, Bytes, U64};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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
    number: Quantity,
    hash: B256,
    parent_hash: B256,
    timestamp: Quantity,
    /// Without a bound where a development chain has none.
    gas_limit: Wei,
    base_fee_per_gas: Option<Fee>,
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
                number: wire.number.get(),
                hash: wire.hash,
                time: Timestamp::from_seconds(wire.timestamp.get()),
            },
            parent_hash: wire.parent_hash,
            gas_limit: wire.gas_limit.get().saturating_to::<u64>().min(MAX_QUANTITY),
            base_fee: wire.base_fee_per_gas.map_or(0, Fee::wei),
        }
    }
}

/// A block's transactions.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RpcBlockContents {
    pub(super) hash: B256,
    pub(super) transactions: Vec<B256>,
}

#[derive(Debug)]
pub(super) enum RpcReceipt {
    /// Some nodes have receipts of transactions that are in no block yet, where others answer null.
    Pending,
    Mined(RpcMinedReceipt),
}

impl RpcReceipt {
    pub(super) fn is_mined(receipt: &Option<Self>) -> bool {
        matches!(receipt, Some(Self::Mined(_)))
    }
}

impl<'de> Deserialize<'de> for RpcReceipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let receipt = Box::<RawValue>::deserialize(deserializer)?;
        let RpcReceiptBlock { block_hash } = serde_json::from_str(receipt.get()).map_err(D::Error::custom)?;
        // Of a preconfirmed receipt it is zero. Status and gas may be missing then.
        if block_hash.is_none_or(|hash| hash.is_zero()) {
            return Ok(Self::Pending);
        }
        serde_json::from_str(receipt.get()).map(Self::Mined).map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RpcReceiptBlock {
    block_hash: Option<B256>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcMinedReceipt {
    block_hash: B256,
    block_number: Quantity,
    #[serde(deserialize_with = "read_status")]
    status: bool,
    gas_used: Quantity,
    effective_gas_price: Option<Fee>,
    /// OP-stack chains only.
    l1_fee: Option<Fee>,
    contract_address: Option<Address>,
    /// Null instead of an empty list from some nodes.
    logs: Option<Vec<RpcLog>>,
}

/// 1 or 0; some nodes have a boolean.
fn read_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Status {
        Boolean(bool),
        Number(Quantity),
    }
    match Status::deserialize(deserializer)? {
        Status::Boolean(succeeded) => Ok(succeeded),
        Status::Number(number) => Ok(number.get() == 1),
    }
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
    /// `None` while it is pending, and for a success without a list of logs: it would look as if nothing had been
    /// registered.
    pub(super) fn from_rpc(wire: RpcReceipt, contract: Address) -> Option<Self> {
        let RpcReceipt::Mined(wire) = wire else { return None };
        let logs = if wire.status { wire.logs? } else { wire.logs.unwrap_or_default() };
        Some(Self {
            block_hash: wire.block_hash,
            block_number: wire.block_number.get(),
            succeeded: wire.status,
            gas_used: wire.gas_used.get(),
            effective_gas_price: wire.effective_gas_price.map_or(0, Fee::wei),
            l1_fee: wire.l1_fee.map(Fee::wei),
            contract_address: wire.contract_address,
            events: logs.into_iter().filter(|log| log.address == contract).map(|log| log.topics).collect(),
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

/// Nodes of tries, from their roots.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcStateProof {
    pub(super) account_proof: Vec<Bytes>,
    /// In the order of the slots that were asked for.
    pub(super) storage_proof: Vec<RpcStorageProof>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RpcStorageProof {
    pub(super) proof: Vec<Bytes>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RpcFeeHistory {
    #[serde(deserialize_with = "read_base_fees")]
    base_fee_per_gas: Vec<Fee>,
    /// Null for a block without a gas limit.
    gas_used_ratio: Vec<Option<f64>>,
    /// Of an empty block some nodes have null, or a list without entries.
    reward: Option<Vec<Option<Vec<Option<Fee>>>>>,
}

/// The next block's fee is always among them.
fn read_base_fees<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Fee>, D::Error> {
    let fees = Vec::deserialize(deserializer)?;
    if fees.is_empty() { Err(D::Error::invalid_length(0, &"at least one base fee")) } else { Ok(fees) }
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

    /// Of each block with transactions.
    pub(super) fn tips_paid(&self) -> Vec<u128> {
        let blocks = self.gas_used_ratios.iter().zip(&self.low_tips);
        blocks.filter(|(fullness, _)| **fullness > 0.0).map(|(_, low_tip)| *low_tip).collect()
    }

    /// Most of the blocks are nearly full.
    pub(super) fn shows_full_blocks(&self) -> bool {
        let full = self.gas_used_ratios.iter().filter(|fullness| **fullness > 0.8).count();
        full * 2 > self.gas_used_ratios.len()
    }

    /// For blocks that hold `gas_limit` each.
    pub fn block_observations(&self, gas_limit: u64) -> Vec<BlockFullness> {
        let free_gas = |fullness: f64| ((1.0 - fullness).clamp(0.0, 1.0) * gas_limit as f64) as u64;
        let blocks = self.gas_used_ratios.iter().zip(&self.low_tips);
        blocks.map(|(fullness, low_tip)| BlockFullness { free_gas: free_gas(*fullness), p10_tip: *low_tip }).collect()
    }
}

impl From<RpcFeeHistory> for FeeHistory {
    fn from(wire: RpcFeeHistory) -> Self {
        let mut base_fees: Vec<u128> = wire.base_fee_per_gas.into_iter().map(Fee::wei).collect();
        let next_base_fee = base_fees.pop().unwrap_or_default();
        let tips = wire.reward.unwrap_or_default();
        let low_tip = |block: &Option<Vec<Option<Fee>>>| block.iter().flatten().next().copied().flatten();
        let low_tips = tips.iter().map(|block| low_tip(block).map_or(0, Fee::wei)).collect();
        let gas_used_ratios = wire.gas_used_ratio.into_iter().map(Option::unwrap_or_default).collect();
        Self { base_fees, next_base_fee, gas_used_ratios, low_tips }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(json: &str) -> Result<Option<Receipt>, ()> {
        let wire: Option<RpcReceipt> = serde_json::from_str(json).map_err(drop)?;
        Ok(wire.and_then(|wire| Receipt::from_rpc(wire, Address::ZERO)))
    }

    #[test]
    fn a_receipt_without_a_block_is_pending_and_one_with_a_block_is_complete_or_no_answer() {
        let hash = "0x1111111111111111111111111111111111111111111111111111111111111111";
        let zero = "0x0000000000000000000000000000000000000000000000000000000000000000";
        let mined = format!(r#""blockHash":"{hash}","blockNumber":"0x7","gasUsed":21000"#);
        for (source, json, expected) in [
            ("most nodes", "null".to_owned(), Ok(None)),
            (
                "OpenEthereum, pending",
                r#"{"blockHash":null,"blockNumber":null,"gasUsed":331535,"logs":[],"transactionIndex":0}"#.to_owned(),
                Ok(None),
            ),
            ("pending, status null", r#"{"blockHash":null,"status":null,"gasUsed":null}"#.to_owned(), Ok(None)),
            ("preconfirmed", format!(r#"{{"blockHash":"{zero}","blockNumber":"0x7","status":"0x1"}}"#), Ok(None)),
            ("mined", format!(r#"{{{mined},"status":"0x1","logs":[]}}"#), Ok(Some(7))),
            ("mined, status as a number", format!(r#"{{{mined},"status":1,"logs":[]}}"#), Ok(Some(7))),
            ("mined, no logs", format!(r#"{{{mined},"status":"0x1","logs":null}}"#), Ok(None)),
            ("mined, no status", format!(r#"{{{mined},"status":null,"logs":[]}}"#), Err(())),
            ("mined, no number", format!(r#"{{"blockHash":"{hash}","status":"0x1","gasUsed":"0x1"}}"#), Err(())),
        ] {
            let number = receipt(&json).map(|found| found.map(|found| found.block_number));
            assert_eq!(number, expected, "{source}");
        }
    }

    #[test]
    fn a_history_with_empty_blocks_is_read() {
        let history = |json: &str| serde_json::from_str::<RpcFeeHistory>(json).map(FeeHistory::from).ok();
        let read = |ratios: &str, reward: &str| {
            let json = format!(r#"{{"baseFeePerGas":["0x7","0x8","0x9"],"gasUsedRatio":{ratios},"reward":{reward}}}"#);
            history(&json).map(|history| (history.next_base_fee, history.low_tips.clone(), history.tips_paid()))
        };
        assert_eq!(read("[0.5,0]", r#"[["0x2"],["0x0"]]"#), Some((9, vec![2, 0], vec![2])));
        // ethermint, galadriel, and nodes that divide by a gas limit of zero.
        assert_eq!(read("[0.5,0]", r#"[["0x2"],[null]]"#), Some((9, vec![2, 0], vec![2])));
        assert_eq!(read("[0.5,0]", r#"[["0x2"],[]]"#), Some((9, vec![2, 0], vec![2])));
        assert_eq!(read("[0.5,0]", r#"[["0x2"],null]"#), Some((9, vec![2, 0], vec![2])));
        assert_eq!(read("[0.5,null]", r#"[["0x2"],["0x1"]]"#), Some((9, vec![2, 1], vec![2])));
        assert_eq!(read("[0.5,0]", "null"), Some((9, Vec::new(), Vec::new())));
        assert_eq!(history(r#"{"gasUsedRatio":[],"oldestBlock":"0x0"}"#), None);
    }
}
