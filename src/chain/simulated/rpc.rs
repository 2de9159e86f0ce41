//! The RPC methods that the service uses.

use super::{
    contract,
    ledger::{CHAIN_ID, CONTRACT_ADDRESS, FUNDS, Ledger, MinedTransaction, SimulatedBlock, TIP},
    mempool::SimulatedTransaction,
};
use crate::chain::contract::DocumentRegistry;
use alloy::{
    consensus::transaction::Recovered,
    primitives::{Address, B256, Bytes, U64, U128, U256, keccak256},
    rpc::types::Transaction,
    sol_types::SolEvent,
};
use serde_json::{Value, json};

/// The error has the JSON-RPC code, message and data.
pub(super) type RpcResult = Result<Value, (i64, String, Option<Bytes>)>;

#[derive(Clone, Copy)]
pub(super) struct NodeView<'l> {
    pub(super) ledger: &'l Ledger,
    /// Position of the node's head, which may be older than the ledger's.
    pub(super) head: usize,
}

pub(super) fn read(view: NodeView<'_>, method: &str, params: &Value) -> RpcResult {
    let NodeView { ledger, head } = view;
    let latest = &ledger.blocks[head];
    Ok(match method {
        "eth_chainId" => json!(U64::from(CHAIN_ID)),
        "eth_syncing" => json!(false),
        "eth_getCode" => json!(if parsed::<Address>(&params[0])? == CONTRACT_ADDRESS { "0x60" } else { "0x" }),
        "eth_maxPriorityFeePerGas" => json!(U128::from(TIP)),
        "eth_getBalance" => json!(if ledger.funded { FUNDS } else { U256::ZERO }),
        "eth_getTransactionCount" => {
            let account: Address = parsed(&params[0])?;
            let pending = params[1] == "pending";
            let block = ledger.at(head, resolve_block_number(view, &params[1])?).ok_or_else(unknown_block)?;
            let nonce = block.state.nonce(account);
            json!(U64::from(if pending { nonce + ledger.mempool.pending_from(account).count() as u64 } else { nonce }))
        }
        "eth_getBlockByNumber" => {
            let number = resolve_block_number(view, &params[0])?;
            // The newest block is never missing.
            let is_visible =
                |block: &&SimulatedBlock| block.hash == latest.hash || !ledger.missing_blocks.contains(&block.hash);
            ledger.at(head, number).filter(is_visible).map_or(Value::Null, |block| header(ledger, block))
        }
        "eth_getTransactionReceipt" => {
            let hash: B256 = parsed(&params[0])?;
            latest.state.mined.get(&hash).map_or(Value::Null, |mined| receipt(ledger, hash, mined))
        }
        "eth_getTransactionByHash" => {
            let hash: B256 = parsed(&params[0])?;
            transaction(view, hash)
        }
        "eth_call" => return call(view, params),
        "eth_getLogs" => return logs(view, &params[0]),
        "eth_feeHistory" => fee_history(view, params)?,
        _ => return Err((-32601, format!("the method {method} does not exist"), None)),
    })
}

/// All nodes forward to one sequencer.
pub(super) fn broadcast(ledger: &mut Ledger, raw: &Bytes) -> RpcResult {
    let signed = SimulatedTransaction::decode(raw)
        .ok_or_else(|| (-32602, "failed to decode signed transaction".to_owned(), None))?;
    ledger.submit(signed).map(|hash| json!(hash)).map_err(|(code, message)| (code, message.to_owned(), None))
}

fn call(view: NodeView<'_>, params: &Value) -> RpcResult {
    if parsed::<Address>(&params[0]["to"])? != CONTRACT_ADDRESS {
        return Ok(json!("0x"));
    }
    let number = resolve_block_number(view, &params[1])?;
    let block = view.ledger.at(view.head, number).ok_or_else(unknown_block)?;
    let input: Bytes = parsed(&params[0]["data"])?;
    match contract::call(&block.state, &view.ledger.rejected_pairs, &input, block.time) {
        Ok(answer) => Ok(json!(answer)),
        Err(data) => Err((3, "execution reverted".to_owned(), Some(data))),
    }
}

fn logs(view: NodeView<'_>, filter: &Value) -> RpcResult {
    let (from, to) =
        (resolve_block_number(view, &filter["fromBlock"])?, resolve_block_number(view, &filter["toBlock"])?);
    let filter: Vec<Option<B256>> = parsed(&filter["topics"])?;
    let matches = |log: &Value| {
        let topics: Vec<B256> = parsed(&log["topics"]).unwrap_or_default();
        filter.len() <= topics.len()
            && filter.iter().zip(&topics).all(|(filter, topic)| filter.is_none_or(|filter| filter == *topic))
    };
    let mut found = Vec::new();
    for number in from..=to {
        let block = view.ledger.at(view.head, number).ok_or_else(unknown_block)?;
        for transaction in &block.transactions {
            if let Some(mined) = block.state.mined.get(&transaction.hash) {
                found.extend(events(view.ledger, transaction.hash, mined).into_iter().filter(matches));
            }
        }
    }
    Ok(found.into())
}

/// Pending or included. A foreign transaction has no bytes, so that only its hash and sender are returned.
fn transaction(NodeView { ledger, head }: NodeView<'_>, hash: B256) -> Value {
    let mined = ledger.blocks[head].state.mined.get(&hash);
    let block = mined.map(|mined| &ledger.blocks[mined.block]);
    let in_block = block.and_then(|block| block.transactions.iter().position(|transaction| transaction.hash == hash));
    let signed = match (block, in_block) {
        (Some(block), Some(index)) => Some(&block.transactions[index]),
        (_, _) => ledger.mempool.get(&hash),
    };
    let Some(signed) = signed else { return Value::Null };
    let Some(envelope) = signed.envelope() else { return json!({ "hash": hash, "from": signed.from }) };
    json!(Transaction {
        inner: Recovered::new_unchecked(envelope, signed.from),
        block_hash: block.map(|block| block.hash),
        block_number: block.map(|block| block.number),
        transaction_index: in_block.map(|index| index as u64),
        effective_gas_price: mined.map(|mined| mined.price),
        block_timestamp: block.map(|block| block.time),
    })
}

fn header(ledger: &Ledger, block: &SimulatedBlock) -> Value {
    json!({
        "number": U64::from(block.number),
        "hash": block.hash,
        "parentHash": ledger.blocks[block.parent].hash,
        "timestamp": U64::from(block.time),
        "gasLimit": U64::from(block.gas_limit),
        "baseFeePerGas": U128::from(block.base_fee),
        "transactions": block.transactions.iter().map(|transaction| transaction.hash).collect::<Vec<_>>(),
    })
}

fn receipt(ledger: &Ledger, hash: B256, mined: &MinedTransaction) -> Value {
    let block = &ledger.blocks[mined.block];
    json!({
        "transactionHash": hash,
        "from": mined.from,
        "blockHash": block.hash,
        "blockNumber": U64::from(block.number),
        "status": U64::from(u64::from(mined.succeeded)),
        "gasUsed": U64::from(mined.gas_used),
        "effectiveGasPrice": U128::from(mined.price),
        "l1Fee": U128::from(1_000_u64),
        "logs": events(ledger, hash, mined),
    })
}

fn events(ledger: &Ledger, hash: B256, mined: &MinedTransaction) -> Vec<Value> {
    let block = &ledger.blocks[mined.block];
    let event = |(document, case): &(B256, String)| {
        let signature = DocumentRegistry::DocumentRegistered::SIGNATURE_HASH;
        json!({
            "address": CONTRACT_ADDRESS,
            "topics": [signature, *document, keccak256(case), mined.from.into_word()],
            "transactionHash": hash,
            "blockHash": block.hash,
        })
    };
    mined.registered_pairs.iter().map(event).collect()
}

fn fee_history(view: NodeView<'_>, params: &Value) -> RpcResult {
    let count = parsed::<U64>(&params[0])?.to::<u64>();
    let newest = view.ledger.blocks[view.head].number;
    let oldest = (newest + 1).saturating_sub(count);
    let blocks: Vec<_> = (oldest..=newest).filter_map(|number| view.ledger.at(view.head, number)).collect();
    let mut fees: Vec<_> = blocks.iter().map(|block| U128::from(block.base_fee)).collect();
    fees.push(U128::from(view.ledger.base_fee));
    let percentiles = params[2].as_array().map_or(0, Vec::len);
    Ok(json!({
        "oldestBlock": U64::from(oldest),
        "baseFeePerGas": fees,
        "gasUsedRatio": vec![0.5; blocks.len()],
        "reward": vec![vec![U128::from(TIP); percentiles]; blocks.len()],
    }))
}

fn resolve_block_number(view: NodeView<'_>, tag: &Value) -> Result<u64, (i64, String, Option<Bytes>)> {
    let latest = view.ledger.blocks[view.head].number;
    match tag.as_str().unwrap_or_default() {
        "latest" | "pending" => Ok(latest),
        "safe" => Ok(view.ledger.safe().min(latest)),
        "finalized" => Ok(view.ledger.finalized.min(latest)),
        _ => Ok(parsed::<U64>(tag)?.to()),
    }
}

fn unknown_block() -> (i64, String, Option<Bytes>) {
    (-32001, "block not found".to_owned(), None)
}

fn parsed<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, (i64, String, Option<Bytes>)> {
    serde_json::from_value(value.clone()).map_err(|error| (-32602, format!("invalid params: {error}"), None))
}
