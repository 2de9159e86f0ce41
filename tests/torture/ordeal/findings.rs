//! What an audit finds: the chain against the store against what callers were told.

use super::ledger::{Asked, Pair};
use crate::harness::{Finality, Registration, State};
use alloy::primitives::B256;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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
    /// On the chain or in the store, and nobody asked for it.
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
#[derive(Clone, Copy)]
pub struct Place {
    /// Its transaction.
    pub transaction: B256,
    /// Its block.
    pub block_hash: B256,
}

/// Confirmed or failed, and final.
pub fn is_over(row: &Registration) -> bool {
    row.state() == State::Failed || row.state() == State::Confirmed && row.finality() == Finality::Finalized
}

impl Findings {
    /// Whether anything is not as it must be on the chain or in the store.
    pub fn anything(&self) -> bool {
        let all =
            [&self.lost, &self.duplicated, &self.stuck, &self.failed, &self.unasked, &self.misreported, &self.in_vain];
        all.iter().any(|found| !found.is_empty())
    }

    /// The rows against the chain, and both against what callers were told.
    pub fn compare(&mut self, rows: &[Registration], places: &BTreeMap<Pair, Vec<Place>>, asked: &Asked) {
        let mut by_pair: BTreeMap<Pair, Vec<&Registration>> = BTreeMap::new();
        for row in rows {
            let pair = (row.document_hash.clone(), row.case_id.clone());
            if !asked.contains_key(&pair) {
                self.unasked.push(tell(row));
            }
            by_pair.entry(pair).or_default().push(row);
            if row.state() == State::Failed {
                self.failed.push(tell(row));
            } else if !is_over(row) {
                self.stuck.push(tell(row));
            }
        }
        for (pair, ids) in asked {
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
            if !asked.contains_key(pair) {
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
