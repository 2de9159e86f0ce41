//! Answers of a node whose head is behind the chain, or ahead of it.

use super::node::{Lost, Node, result};
use alloy::primitives::{B256, U64, keccak256};
use serde_json::{Value, json};

/// The index of the block parameter of each method.
const BLOCK_PARAMETER: [(&str, usize); 7] = [
    ("eth_getBlockByNumber", 0),
    ("eth_getTransactionCount", 1),
    ("eth_getBalance", 1),
    ("eth_getCode", 1),
    ("eth_call", 1),
    ("eth_estimateGas", 1),
    ("eth_feeHistory", 1),
];

/// Answers like a node that knows no block after `head`.
pub(super) async fn behind(node: &Node, call: &Value, head: u64) -> Result<Value, Lost> {
    let method = call["method"].as_str().unwrap_or_default();
    let newest = json!(U64::from(head));
    if method == "eth_blockNumber" {
        return Ok(result(call, newest));
    }
    let mut call = call.clone();
    if method == "eth_getLogs" {
        return logs_until(node, call, head).await;
    }
    if let Some((_, at)) = BLOCK_PARAMETER.iter().find(|(name, _)| *name == method) {
        match height(&call["params"][at]) {
            Height::Newest => call["params"][at] = newest.clone(),
            Height::Number(number) if number > head && method == "eth_getBlockByNumber" => {
                return Ok(result(&call, Value::Null));
            }
            Height::Number(number) if number > head => {
                let error = json!({ "code": -32001, "message": format!("block not found: {number:#x}") });
                return Ok(json!({ "jsonrpc": "2.0", "id": call["id"], "error": error }));
            }
            Height::Number(_) | Height::Other => {}
        }
    }
    let answer = node.ask(&call).await?;
    let of = ["number", "blockNumber"].into_iter().find_map(|name| number(&answer["result"][name]));
    let unmined = method == "eth_getTransactionByHash" && answer["result"]["blockNumber"].is_null();
    match of {
        // `safe` and `finalized` are at most the newest block.
        Some(of)
            if of > head && matches!(height(&call["params"][0]), Height::Other) && method == BLOCK_PARAMETER[0].0 =>
        {
            call["params"][0] = newest;
            node.ask(&call).await
        }
        Some(of) if of > head => Ok(result(&call, Value::Null)),
        None if unmined => Ok(result(&call, Value::Null)),
        Some(_) | None => Ok(answer),
    }
}

/// Answers like a node whose newest block is invented.
pub(super) async fn ahead(node: &Node, call: &Value, blocks: u64, seconds: u64) -> Result<Value, Lost> {
    let mut answer = node.ask(call).await?;
    let later = |value: &Value, by: u64| json!(U64::from(number(value).unwrap_or_default() + by));
    match call["method"].as_str().unwrap_or_default() {
        "eth_blockNumber" => answer["result"] = later(&answer["result"], blocks),
        "eth_getBlockByNumber" if matches!(height(&call["params"][0]), Height::Newest) => {
            let block = &mut answer["result"];
            let true_hash: B256 = serde_json::from_value(block["hash"].clone()).unwrap_or_default();
            block["number"] = later(&block["number"], blocks);
            block["timestamp"] = later(&block["timestamp"], seconds);
            block["hash"] = json!(keccak256(true_hash));
            block["parentHash"] = json!(keccak256(keccak256(true_hash)));
        }
        _ => {}
    }
    Ok(answer)
}

async fn logs_until(node: &Node, mut call: Value, head: u64) -> Result<Value, Lost> {
    let filter = &mut call["params"][0];
    if let Height::Number(from) = height(&filter["fromBlock"])
        && from > head
    {
        return Ok(result(&call, json!([])));
    }
    match height(&filter["toBlock"]) {
        Height::Number(to) if to <= head => {}
        Height::Newest | Height::Number(_) | Height::Other => filter["toBlock"] = json!(U64::from(head)),
    }
    node.ask(&call).await
}

/// How many blocks an `eth_getLogs` covers.
pub(super) fn log_range(call: &Value) -> u64 {
    let block = |name: &str| number(&call["params"][0][name]).unwrap_or_default();
    block("toBlock").saturating_sub(block("fromBlock")) + 1
}

enum Height {
    /// `latest`, `pending` or no block parameter.
    Newest,
    Number(u64),
    Other,
}

fn height(block: &Value) -> Height {
    match block.as_str() {
        Some("latest" | "pending") => Height::Newest,
        None if block.is_null() => Height::Newest,
        _ => number(block).map_or(Height::Other, Height::Number),
    }
}

fn number(value: &Value) -> Option<u64> {
    serde_json::from_value::<U64>(value.clone()).ok().map(|number| number.to())
}
