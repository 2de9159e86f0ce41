//! The node's own limit: transactions that are signed in advance, sent as fast as the node accepts them.

use crate::{
    harness::{
        account,
        anvil::{CHAIN_ID, KEYS},
        rpc::http_client,
    },
    observer::Observer,
    report::progress,
    stack::{BenchChain, REGISTRARS, pair},
};
use alloy::primitives::Bytes;
use registrar::{
    chain::{Signer, UnsignedTransaction, register_calldata},
    registration::{
        Pair,
        policy::{batching, fees::Fees},
    },
};
use serde_json::{Value, json};
use std::{ops::Range, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// Above any base fee that full blocks reach during a run.
const FEES: Fees = Fees { max_fee_per_gas: 100_000_000_000_000, max_priority_fee_per_gas: 1_000_000_000 };
/// Transactions per request. More at once is not faster.
const PER_REQUEST: usize = 100;

pub struct Raw {
    /// Per second.
    pub rate: f64,
    pub registered: u64,
}

/// Registers these documents from all accounts but the service's, `per_transaction` at a time.
pub async fn limit(chain: &BenchChain, numbers: Range<u64>, per_transaction: usize) -> Raw {
    let signed = presign(chain, numbers.clone(), per_transaction).await;
    let wanted = numbers.end - numbers.start;
    let mut observer = Observer::start(&chain.anvil, Duration::from_millis(5)).await;
    // Starts at a block that arrived on time, so that the first block of the run is complete; signing may have delayed
    // the block before.
    observer.next().await;
    let before = observer.next().await;
    let started = Instant::now();
    let mut senders = JoinSet::new();
    for account in signed {
        senders.spawn(send(chain.anvil.url().to_owned(), account));
    }
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    while chain.anvil.pending().await > 0 {
        observer.next().await;
    }
    // Transactions that just left the pool are in a block that the observer may not have seen yet.
    observer.next().await;
    let (mut registered, mut blocks) = (0, Vec::new());
    for block in before + 1..=observer.head() {
        let (documents, _) = chain.registered(block..=block).await;
        if let (false, Some(seen)) = (documents.is_empty(), observer.seen(block)) {
            registered += documents.len() as u64;
            blocks.push((registered, (seen - started).as_secs_f64()));
        }
    }
    let seen = |(registered, seconds): &(u64, f64)| format!("{registered} at {seconds:.2} s");
    progress(format!("on chain: {}", blocks.iter().map(seen).collect::<Vec<_>>().join(", ")));
    if registered != wanted {
        progress(format!("the node mined {registered} of {wanted} raw registrations"));
    }
    Raw { rate: rate(&blocks), registered }
}

/// Registrations per second up to the last full block. The rest of the work ends inside the next block; counting that
/// as a whole block would underestimate the node.
fn rate(blocks: &[(u64, f64)]) -> f64 {
    let full = if blocks.len() > 1 { &blocks[..blocks.len() - 1] } else { blocks };
    full.last().map(|(registered, seconds)| *registered as f64 / seconds).unwrap_or_default()
}

/// Signed transactions by account, in nonce order.
async fn presign(chain: &BenchChain, numbers: Range<u64>, per_transaction: usize) -> Vec<Vec<Bytes>> {
    let numbers: Vec<u64> = numbers.collect();
    let accounts = REGISTRARS - 1;
    let share = numbers.len().div_ceil(accounts).next_multiple_of(per_transaction);
    let mut tasks = Vec::new();
    for (index, numbers) in numbers.chunks(share).enumerate() {
        let number = index + 2;
        let nonce = chain.anvil.nonce(account(number)).await;
        let signer = Signer::parse(KEYS[number]).unwrap();
        let contract = chain.registry.address;
        let batches: Vec<Vec<u64>> = numbers.chunks(per_transaction).map(<[u64]>::to_vec).collect();
        let runtime = tokio::runtime::Handle::current();
        tasks.push(tokio::task::spawn_blocking(move || {
            let signed = batches.iter().zip(nonce..).map(|(batch, nonce)| {
                let pairs: Vec<Pair> = batch.iter().map(|number| pair(*number)).collect();
                let calldata = register_calldata(&pairs);
                let gas_limit = batching::gas_limit(&calldata, pairs.iter().map(|pair| pair.case_id.as_str().len()));
                let unsigned = UnsignedTransaction {
                    chain_id: CHAIN_ID,
                    nonce,
                    to: Some(contract),
                    calldata,
                    gas_limit,
                    fees: FEES,
                };
                runtime.block_on(signer.sign(&unsigned)).unwrap().1
            });
            signed.collect::<Vec<Bytes>>()
        }));
    }
    let mut signed = Vec::new();
    for task in tasks {
        signed.push(task.await.unwrap());
    }
    signed
}

/// Sends one account's transactions in order, in batch requests.
async fn send(url: String, transactions: Vec<Bytes>) {
    let http = http_client();
    for chunk in transactions.chunks(PER_REQUEST) {
        let calls: Vec<Value> = chunk
            .iter()
            .enumerate()
            .map(|(id, raw)| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw] }))
            .collect();
        let body = Value::from(calls).to_string();
        let request = http.post(&url).header("content-type", "application/json").body(body);
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let answers: Vec<Value> = serde_json::from_slice(&answer).unwrap();
        if let Some(refused) = answers.iter().find(|answer| answer.get("error").is_some()) {
            panic!("the node refuses a raw transaction: {refused}");
        }
    }
}
