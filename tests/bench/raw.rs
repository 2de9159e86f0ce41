//! What the node does without us: transactions that were signed before the clock starts, sent as fast as it takes them.

use crate::{
    harness::{
        account,
        anvil::{CHAIN_ID, KEYS},
        rpc::http_client,
    },
    observer::Observer,
    report::progress,
    stack::{Ground, REGISTRARS, pair},
};
use alloy::primitives::Bytes;
use registrar::{
    chain::{Pair, Signer, Unsigned, register_calldata, sign},
    registration::policy::{batching, fees::Fees},
};
use serde_json::{Value, json};
use std::{ops::Range, time::Duration};
use tokio::{task::JoinSet, time::Instant};

/// Far above what full blocks make of the base fee in a run.
const FEES: Fees = Fees { max_fee_per_gas: 100_000_000_000_000, max_priority_fee_per_gas: 1_000_000_000 };
/// Transactions per request. More at once is not faster.
const PER_REQUEST: usize = 100;

/// What one raw run showed.
pub struct Raw {
    /// Registrations per second.
    pub rate: f64,
    /// How many arrived on chain.
    pub registered: u64,
}

/// Registers these documents from all accounts but the service's, `per_transaction` at a time.
pub async fn limit(ground: &Ground, numbers: Range<u64>, per_transaction: usize) -> Raw {
    let signed = presign(ground, numbers.clone(), per_transaction).await;
    let wanted = numbers.end - numbers.start;
    let mut observer = Observer::start(&ground.anvil, Duration::from_millis(5)).await;
    // From a block on that came in time, so that the first block of the run is a whole one: signing may have held up the one
    // before it.
    observer.next().await;
    let before = observer.next().await;
    let begun = Instant::now();
    let mut senders = JoinSet::new();
    for account in signed {
        senders.spawn(send(ground.anvil.url().to_owned(), account));
    }
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    while ground.anvil.pending().await > 0 {
        observer.next().await;
    }
    // What left the pool a moment ago is in a block that the observer may not have seen yet.
    observer.next().await;
    let (mut registered, mut blocks) = (0, Vec::new());
    for block in before + 1..=observer.head() {
        let (documents, _) = ground.registered(block..=block).await;
        if let (false, Some(seen)) = (documents.is_empty(), observer.seen(block)) {
            registered += documents.len() as u64;
            blocks.push((registered, (seen - begun).as_secs_f64()));
        }
    }
    let seen = |(registered, seconds): &(u64, f64)| format!("{registered} at {seconds:.2} s");
    progress(format!("on chain: {}", blocks.iter().map(seen).collect::<Vec<_>>().join(", ")));
    if registered != wanted {
        progress(format!("the node mined {registered} of {wanted} raw registrations"));
    }
    Raw { rate: rate(&blocks), registered }
}

/// Registrations per second up to the last block that was full: the rest of the work ends somewhere inside the next one, and
/// counting that as a whole block would make the node slower than it is.
fn rate(blocks: &[(u64, f64)]) -> f64 {
    let full = if blocks.len() > 1 { &blocks[..blocks.len() - 1] } else { blocks };
    full.last().map(|(registered, seconds)| *registered as f64 / seconds).unwrap_or_default()
}

/// The signed bytes by account, each in the order of its nonces.
async fn presign(ground: &Ground, numbers: Range<u64>, per_transaction: usize) -> Vec<Vec<Bytes>> {
    let numbers: Vec<u64> = numbers.collect();
    let accounts = REGISTRARS - 1;
    let share = numbers.len().div_ceil(accounts).next_multiple_of(per_transaction);
    let mut tasks = Vec::new();
    for (index, numbers) in numbers.chunks(share).enumerate() {
        let number = index + 2;
        let nonce = ground.anvil.nonce(account(number)).await;
        let signer = Signer::parse(KEYS[number]).unwrap();
        let contract = ground.registry.address;
        let batches: Vec<Vec<u64>> = numbers.chunks(per_transaction).map(<[u64]>::to_vec).collect();
        tasks.push(tokio::task::spawn_blocking(move || {
            let signed = batches.iter().zip(nonce..).map(|(batch, nonce)| {
                let pairs: Vec<Pair> = batch.iter().map(|number| pair(*number)).collect();
                let calldata = register_calldata(&pairs);
                let gas_limit = batching::gas_limit(&calldata, pairs.iter().map(|(_, case)| case.as_str().len()));
                let unsigned =
                    Unsigned { chain_id: CHAIN_ID, nonce, to: Some(contract), calldata, gas_limit, fees: FEES };
                sign(&signer, &unsigned).unwrap().1
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

/// Sends an account's transactions in order, many to a request.
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
