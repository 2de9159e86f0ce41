//! Chain against store against what callers were told, when all is quiet.

use super::ledger::{Kept, Ledger, Pair};
use crate::harness::{
    Anvil, Finality, Proxy, Registration, Registry, Service, State, WaitFor,
    client::Client,
    registry::{DocumentRegistered, DocumentSkipped},
};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::Decodable2718,
    primitives::{Address, B256, Bytes, U64},
    sol_types::SolEvent,
};
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

/// Everything that is not as it must be; each finding is one line for a reader.
#[derive(Default)]
pub struct Findings {
    /// Accepted, and not on the chain or not in the store.
    pub lost: Vec<String>,
    /// On the chain twice, or with two ids.
    pub duplicated: Vec<String>,
    /// Not finished, long after the last trouble.
    pub stuck: Vec<String>,
    /// Given up, although nothing that was asked for is impossible.
    pub failed: Vec<String>,
    /// On the chain, and nobody asked for it.
    pub unasked: Vec<String>,
    /// Said to be in another transaction or block than the chain has it in.
    pub misreported: Vec<String>,
    /// Nonces that were signed for two different things.
    pub reused_nonces: Vec<String>,
    /// Carried by a transaction although they were on the chain: work that was given a second nonce too early.
    pub in_vain: Vec<String>,
    /// Numbers for which the node has no block: then nobody could have done better. Looked for when anything is found.
    pub holes: Vec<u64>,
    /// How many transactions registered something.
    pub transactions: usize,
    /// When each was confirmed.
    pub confirm_times: Vec<Duration>,
    /// The longest time from accepted to confirmed.
    pub slowest: Duration,
    /// How long it took until all was quiet.
    pub quiet_after: Duration,
}

/// Where the chain has a pair.
struct Place {
    transaction: B256,
    block_hash: B256,
}

/// Waits until everything is finished for good, but not for ever, and compares.
pub async fn audit(
    service: &Service,
    registry: &Registry,
    anvil: &Anvil,
    proxies: &[Proxy],
    ledger: &Ledger,
) -> Findings {
    let client = Client::connect(service.grpc).await;
    let begun = Instant::now();
    let mut _somebody_waits = None;
    let rows = loop {
        let rows = rows(&client).await;
        if let Some(row) = rows.iter().find(|row| !is_over(row)) {
            // How final a block is, is asked for more seldom while nobody waits for it.
            _somebody_waits = client.watch(&row.id, WaitFor::Finalized, 0).await.ok();
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
    let kept = ledger.kept().clone();
    findings.compare(&rows, &places, &kept);
    findings.look_at_nonces(proxies);
    if findings.anything() {
        findings.holes = holes(anvil).await;
    }
    findings
}

/// Confirmed or failed, and final.
fn is_over(row: &Registration) -> bool {
    row.state() == State::Failed || row.state() == State::Confirmed && row.finality() == Finality::Finalized
}

impl Findings {
    fn anything(&self) -> bool {
        let all =
            [&self.lost, &self.duplicated, &self.stuck, &self.failed, &self.unasked, &self.misreported, &self.in_vain];
        all.iter().any(|found| !found.is_empty())
    }

    /// The rows against the chain, and both against what callers were told.
    fn compare(&mut self, rows: &[Registration], places: &BTreeMap<Pair, Vec<Place>>, kept: &Kept) {
        let mut by_pair: BTreeMap<Pair, Vec<&Registration>> = BTreeMap::new();
        for row in rows {
            by_pair.entry((row.document_hash.clone(), row.case_id.clone())).or_default().push(row);
            let is_known = State::Confirmed == row.state();
            if !is_known || row.finality() != Finality::Finalized {
                let story = tell(row);
                if row.state() == State::Failed { self.failed.push(story) } else { self.stuck.push(story) }
            }
        }
        for (pair, ids) in &kept.asked {
            let stored: BTreeSet<&String> = by_pair.get(pair).into_iter().flatten().map(|row| &row.id).collect();
            if ids.len() > 1 || stored.len() > 1 {
                self.duplicated.push(format!("{pair:?} was told as {ids:?} and is stored as {stored:?}"));
            }
            for id in ids.iter().filter(|id| !stored.contains(id)) {
                self.lost.push(format!("{pair:?} was accepted as {id}, and the store has {stored:?}"));
            }
            let there = places.get(pair).map_or(0, Vec::len);
            if there > 1 {
                self.duplicated.push(format!("{pair:?} is on the chain {there} times"));
            }
            // What is not finished is stuck, and not lost yet.
            let finished = by_pair.get(pair).into_iter().flatten().find(|row| row.state() == State::Confirmed);
            if let Some(row) = finished.filter(|_| there == 0) {
                self.lost.push(format!("{pair:?} is not on the chain: {}", tell(row)));
            }
        }
        for (pair, there) in places {
            if !kept.asked.contains_key(pair) {
                self.unasked.push(format!("{pair:?}"));
            }
            for row in by_pair.get(pair).into_iter().flatten().filter(|row| row.state() == State::Confirmed) {
                let told = row.transaction.as_ref().map(|told| (told.hash.clone(), told.block_hash.clone()));
                let is_there =
                    |place: &Place| Some((place.transaction.to_string(), place.block_hash.to_string())) == told;
                if !there.iter().any(is_there) {
                    self.misreported.push(tell(row));
                }
            }
        }
    }

    /// All bytes that left the service for the same nonce of a signer do the same.
    fn look_at_nonces(&mut self, proxies: &[Proxy]) {
        let mut done: BTreeMap<(Address, u64), Bytes> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for raw in proxies.iter().flat_map(Proxy::sent).filter(|raw| seen.insert(raw.clone())) {
            let bytes: Bytes = raw.parse().unwrap();
            let sent = TxEnvelope::decode_2718_exact(&bytes).unwrap();
            let signer = sent.signature().recover_address_from_prehash(&sent.signature_hash()).unwrap();
            let first = done.entry((signer, sent.nonce())).or_insert_with(|| sent.input().clone());
            if first != sent.input() {
                self.reused_nonces.push(format!("{signer} signed two different things with nonce {}", sent.nonce()));
            }
        }
    }
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

fn tell(row: &Registration) -> String {
    let transaction = row.transaction.as_ref();
    format!(
        "{} is {} {} (blocked: {:?}, failure: {:?}, transaction: {:?}, diagnosis: {:?})",
        row.id,
        row.state().as_str_name(),
        row.finality().as_str_name(),
        row.blocked_reason,
        row.failure.as_ref().map(|failure| &failure.reason),
        transaction.map(|transaction| (&transaction.hash, transaction.nonce, transaction.block_number)),
        row.diagnosis.as_ref().map(|diagnosis| &diagnosis.explanation),
    )
}
