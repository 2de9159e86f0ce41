//! Chain against store against what callers were told, when all is quiet.

use super::{
    findings::{Findings, Place, is_over},
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

/// What is not finished so long after the last trouble is stuck.
const QUIET_LIMIT: Duration = Duration::from_secs(90);
/// How often it is looked whether all is quiet.
const LOOK: Duration = Duration::from_millis(300);
/// The most that a page may hold.
const PAGE: i32 = 500;

/// Waits until everything is finished for good, but not for ever, and compares.
pub async fn audit(
    services: &[Service],
    registry: &Registry,
    anvil: &Anvil,
    proxies: &[Proxy],
    ledger: &Ledger,
) -> Findings {
    let clients = join_all(services.iter().map(|service| Client::connect(service.grpc))).await;
    let begun = Instant::now();
    let mut _somebody_waits = Vec::new();
    let rows = loop {
        let rows = rows(&clients[0]).await;
        if let Some(row) = rows.iter().find(|row| !is_over(row)) {
            // How final a block is, a replica asks more seldom while nobody waits there.
            _somebody_waits = join_all(clients.iter().map(|client| client.watch(&row.id, WaitFor::Finalized, 0))).await;
        }
        if rows.iter().all(is_over) || begun.elapsed() > QUIET_LIMIT {
            break rows;
        }
        sleep(LOOK).await;
    };
    let mut findings = Findings { quiet_after: begun.elapsed(), ..Findings::default() };
    let took = |row: &Registration| {
        ledger.since(row.confirm_time.as_ref()?)?.checked_sub(ledger.since(row.create_time.as_ref()?)?)
    };
    findings.slowest = rows.iter().filter_map(took).max().unwrap_or_default();
    findings.confirm_times = rows.iter().filter_map(|row| ledger.since(row.confirm_time.as_ref()?)).collect();
    let places = places(registry).await;
    let transactions: BTreeSet<B256> = places.values().flatten().map(|place| place.transaction).collect();
    findings.transactions = transactions.len();
    let skipped = registry.logs(DocumentSkipped::SIGNATURE_HASH).await;
    findings.in_vain = skipped.iter().map(|log| format!("{:?} in {:?}", log.topics(), log.transaction_hash)).collect();
    findings.compare(&rows, &places, &ledger.kept().asked);
    findings.reused_nonces = reused_nonces(proxies);
    if findings.anything() {
        findings.holes = holes(anvil).await;
    }
    findings
}

/// Nonces for which bytes left the service that do two different things. A transfer to oneself of nothing is how one is given up.
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
            reused.push(format!("{signer} signed two different things with nonce {}", sent.nonce()));
        }
    }
    reused
}

/// Everything in the store.
async fn rows(client: &Client) -> Vec<Registration> {
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListRegistrationsRequest { page_size: PAGE, page_token, ..Default::default() };
        let page = client.list(request).await.unwrap();
        rows.extend(page.registrations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return rows;
        }
    }
}

/// Every event of the contract, by pair.
async fn places(registry: &Registry) -> BTreeMap<Pair, Vec<Place>> {
    let mut places: BTreeMap<Pair, Vec<Place>> = BTreeMap::new();
    for log in registry.logs(DocumentRegistered::SIGNATURE_HASH).await {
        let event = DocumentRegistered::decode_log(&log.inner).unwrap();
        let place = Place { transaction: log.transaction_hash.unwrap(), block_hash: log.block_hash.unwrap() };
        places.entry((event.documentHash.to_string(), event.caseId.clone())).or_default().push(place);
    }
    places
}

/// The numbers up to the head for which the node has no block.
async fn holes(anvil: &Anvil) -> Vec<u64> {
    let mut holes = Vec::new();
    for number in 0..=anvil.head().await {
        let block: Value = anvil.rpc().call("eth_getBlockByNumber", json!([U64::from(number), false])).await;
        if block.is_null() {
            holes.push(number);
        }
    }
    holes
}
