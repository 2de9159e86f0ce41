//! Compares the chain, the store and the answers that callers got, once all work is finished.

use super::{
    findings::{Findings, Inclusion, is_final},
    ledger::{Ledger, Pair},
};
use crate::harness::{
    Anvil, Proxy, Registration, Registry, Service, WaitFor,
    client::Client,
    registry::{DocumentRegistered, DocumentSkipped},
};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::Decodable2718,
    primitives::{Address, B256, Bytes, U64},
    sol_types::SolEvent,
};
use futures_util::future::join_all;
use registrar::api::proto::ListRegistrationsRequest;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Work that is unfinished this long after the last fault is stuck.
const QUIESCE_TIMEOUT: Duration = Duration::from_secs(90);
const QUIESCE_POLL_INTERVAL: Duration = Duration::from_millis(300);
/// The service's maximum.
const PAGE_SIZE: i32 = 500;

/// Waits until all work is final, or [`QUIESCE_TIMEOUT`], and compares.
pub async fn audit(
    services: &[Service],
    registry: &Registry,
    anvil: &Anvil,
    proxies: &[Proxy],
    redirect_target: &Proxy,
    ledger: &Ledger,
) -> Findings {
    let clients = join_all(services.iter().map(|service| Client::connect(service.grpc))).await;
    let started = Instant::now();
    let mut _watches = Vec::new();
    let rows = loop {
        let rows = rows(&clients[0]).await;
        if let Some(row) = rows.iter().find(|row| !is_final(row)) {
            // A replica polls finality less often while no caller waits for it.
            _watches = join_all(clients.iter().map(|client| client.watch(&row.id, WaitFor::Finalized, 0))).await;
        }
        if rows.iter().all(is_final) || started.elapsed() > QUIESCE_TIMEOUT {
            break rows;
        }
        sleep(QUIESCE_POLL_INTERVAL).await;
    };
    let mut findings = Findings { quiesced_after: started.elapsed(), ..Findings::default() };
    let took = |row: &Registration| {
        ledger.since(row.confirm_time.as_ref()?)?.checked_sub(ledger.since(row.create_time.as_ref()?)?)
    };
    findings.slowest = rows.iter().filter_map(took).max().unwrap_or_default();
    findings.confirm_times = rows.iter().filter_map(|row| ledger.since(row.confirm_time.as_ref()?)).collect();
    let inclusions = inclusions(registry).await;
    let transactions: BTreeSet<B256> = inclusions.values().flatten().map(|inclusion| inclusion.transaction).collect();
    findings.transactions = transactions.len();
    let skipped = registry.logs(DocumentSkipped::SIGNATURE_HASH).await;
    findings.redundant_sends =
        skipped.iter().map(|log| format!("{:?} in {:?}", log.topics(), log.transaction_hash)).collect();
    findings.compare(&rows, &inclusions, &ledger.entries().requested);
    findings.reused_nonces = reused_nonces(proxies);
    findings.rows = rows;
    findings.followed_redirects = redirect_target.counts().into_keys().collect();
    if findings.any_in_chain_or_store() {
        findings.missing_blocks = missing_blocks(anvil).await;
    }
    findings
}

/// Nonces with which two transactions of different content were sent. Transfers of nothing to the sender itself, which
/// fill nonce gaps, are excluded.
fn reused_nonces(proxies: &[Proxy]) -> Vec<String> {
    let mut done: BTreeMap<(Address, u64), Bytes> = BTreeMap::new();
    let (mut seen, mut reused) = (BTreeSet::new(), Vec::new());
    for raw in proxies.iter().flat_map(Proxy::sent).filter(|raw| seen.insert(raw.clone())) {
        let bytes: Bytes = raw.parse().unwrap();
        let sent = TxEnvelope::decode_2718_exact(&bytes).unwrap();
        let signer = sent.signature().recover_address_from_prehash(&sent.signature_hash()).unwrap();
        if sent.to() == Some(signer) {
            continue;
        }
        let first = done.entry((signer, sent.nonce())).or_insert_with(|| sent.input().clone());
        if first != sent.input() {
            reused.push(format!("{signer} signed two different transactions with nonce {}", sent.nonce()));
        }
    }
    reused
}

/// Every registration in the store.
async fn rows(client: &Client) -> Vec<Registration> {
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRegistrationsRequest { page_size: PAGE_SIZE, page_token, ..Default::default() };
        let page = client.list(request).await.unwrap();
        rows.extend(page.registrations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return rows;
        }
    }
}

/// Every `DocumentRegistered` event, by pair.
async fn inclusions(registry: &Registry) -> BTreeMap<Pair, Vec<Inclusion>> {
    let mut inclusions: BTreeMap<Pair, Vec<Inclusion>> = BTreeMap::new();
    for log in registry.logs(DocumentRegistered::SIGNATURE_HASH).await {
        let event = DocumentRegistered::decode_log(&log.inner).unwrap();
        let inclusion = Inclusion { transaction: log.transaction_hash.unwrap(), block_hash: log.block_hash.unwrap() };
        inclusions.entry((event.documentHash.to_string(), event.caseId.clone())).or_default().push(inclusion);
    }
    inclusions
}

/// Block numbers up to the head for which the node has no block.
async fn missing_blocks(anvil: &Anvil) -> Vec<u64> {
    let mut missing_blocks = Vec::new();
    for number in 0..=anvil.head().await {
        let block: Value = anvil.rpc().call("eth_getBlockByNumber", json!([U64::from(number), false])).await;
        if block.is_null() {
            missing_blocks.push(number);
        }
    }
    missing_blocks
}
