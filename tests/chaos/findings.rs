//! Compares the chain, the store and the answers that callers got.

use super::ledger::{Pair, Requested};
use crate::harness::{Finality, Registration, State};
use alloy::primitives::B256;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Violations, each formatted as one line, and figures for the summary.
#[derive(Default)]
pub struct Findings {
    /// Accepted, but missing on the chain or in the store.
    pub lost: Vec<String>,
    /// On the chain twice, or with two ids.
    pub duplicated: Vec<String>,
    /// Unfinished long after the last fault.
    pub stuck: Vec<String>,
    /// Failed, although every request is valid.
    pub failed: Vec<String>,
    /// On the chain or in the store, but never requested.
    pub unrequested: Vec<String>,
    /// Stored with another transaction or block than on the chain.
    pub misreported: Vec<String>,
    /// What the change feed never said, or said in the wrong order.
    pub unseen: Vec<String>,
    /// Streams that its client opened.
    pub feed_streams: u64,
    /// Every registration at the end.
    pub rows: Vec<Registration>,
    /// Nonces that were signed for two different transactions.
    pub reused_nonces: Vec<String>,
    /// Methods of the calls that a redirect led to another host.
    pub followed_redirects: Vec<String>,
    /// Sent in a transaction although already on the chain: the work got a second nonce too early.
    pub redundant_sends: Vec<String>,
    /// Block numbers for which the node has no block, which makes the node a possible cause. Collected only with other
    /// findings.
    pub missing_blocks: Vec<u64>,
    /// Number of transactions that registered something.
    pub transactions: usize,
    pub confirm_times: Vec<Duration>,
    /// Longest time from accepted to confirmed.
    pub slowest: Duration,
    /// Time until all work was final.
    pub quiesced_after: Duration,
}

/// Where a pair was included.
#[derive(Clone, Copy)]
pub struct Inclusion {
    pub transaction: B256,
    pub block_hash: B256,
}

/// Confirmed and final, or failed.
pub fn is_final(row: &Registration) -> bool {
    row.state() == State::Failed || row.state() == State::Confirmed && row.finality() == Finality::Finalized
}

impl Findings {
    /// Whether the chain or the store has any violation.
    pub fn any_in_chain_or_store(&self) -> bool {
        let all = [
            &self.lost,
            &self.duplicated,
            &self.stuck,
            &self.failed,
            &self.unrequested,
            &self.misreported,
            &self.redundant_sends,
        ];
        all.iter().any(|found| !found.is_empty())
    }

    pub fn compare(
        &mut self,
        rows: &[Registration],
        inclusions: &BTreeMap<Pair, Vec<Inclusion>>,
        requested: &Requested,
    ) {
        let mut by_pair: BTreeMap<Pair, Vec<&Registration>> = BTreeMap::new();
        for row in rows {
            let pair = (row.document_hash.clone(), row.case_id.clone());
            if !requested.contains_key(&pair) {
                self.unrequested.push(describe(row));
            }
            by_pair.entry(pair).or_default().push(row);
            if row.state() == State::Failed {
                self.failed.push(describe(row));
            } else if !is_final(row) {
                self.stuck.push(describe(row));
            }
        }
        for (pair, ids) in requested {
            let stored: BTreeSet<&String> = by_pair.get(pair).into_iter().flatten().map(|row| &row.id).collect();
            if ids.len() > 1 || stored.len() > 1 {
                self.duplicated.push(format!("{pair:?} was answered with the ids {ids:?} and is stored as {stored:?}"));
            }
            for id in ids.iter().filter(|id| !stored.contains(id)) {
                self.lost.push(format!("{pair:?} was accepted as {id}, but the store has {stored:?}"));
            }
            let on_chain = inclusions.get(pair).map_or(0, Vec::len);
            if on_chain > 1 {
                self.duplicated.push(format!("{pair:?} is on the chain {on_chain} times"));
            }
            // Unfinished work counts as stuck, not as lost.
            let finished = by_pair.get(pair).into_iter().flatten().find(|row| row.state() == State::Confirmed);
            if let Some(row) = finished.filter(|_| on_chain == 0) {
                self.lost.push(format!("{pair:?} is not on the chain: {}", describe(row)));
            }
        }
        for (pair, on_chain) in inclusions {
            if !requested.contains_key(pair) {
                self.unrequested.push(format!("{pair:?}"));
            }
            for row in by_pair.get(pair).into_iter().flatten().filter(|row| row.state() == State::Confirmed) {
                let reported = row.transaction.as_ref().map(|stored| (stored.hash.clone(), stored.block_hash.clone()));
                let matches_chain = |inclusion: &Inclusion| {
                    Some((inclusion.transaction.to_string(), inclusion.block_hash.to_string())) == reported
                };
                if !on_chain.iter().any(matches_chain) {
                    self.misreported.push(describe(row));
                }
            }
        }
    }
}

fn describe(row: &Registration) -> String {
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
