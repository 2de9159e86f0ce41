//! What was requested and what callers were answered: the audit compares it with the chain and the store.

use crate::harness::{Registration, State};
use fastrand::Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Document hash and case id.
pub type Pair = (String, String);

/// Every requested pair, with the ids that callers were answered: one, or none when no call got an answer.
pub type Requested = BTreeMap<Pair, BTreeSet<String>>;

/// Number of recent documents that are requested again.
const REPEATED_DOCUMENTS: u64 = 60;

pub struct Ledger {
    started: SystemTime,
    entries: Mutex<LedgerEntries>,
}

#[derive(Clone, Default)]
pub struct LedgerEntries {
    pub requested: Requested,
    /// Ids that a caller got as confirmed.
    pub confirmed: BTreeSet<String>,
    /// Confirmation times that callers got, since the start of the run.
    pub confirm_times: BTreeSet<Duration>,
    /// Errors that the service returned, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Calls that ended with a broken connection because the replica was killed.
    pub disconnected: u64,
    /// Requests that were not answered in time on an intact connection, or that were never accepted.
    pub unanswered: Vec<String>,
    documents: u64,
}

impl Ledger {
    pub fn new() -> Self {
        Self { started: SystemTime::now(), entries: Mutex::default() }
    }

    /// Time since the start of the run, on the clock that the service uses for its timestamps.
    pub fn now(&self) -> Duration {
        self.started.elapsed().unwrap_or_default()
    }

    /// A timestamp of the service as time since the start of the run; `None` before it.
    pub fn since(&self, time: &prost_types::Timestamp) -> Option<Duration> {
        let since_epoch = Duration::new(u64::try_from(time.seconds).ok()?, u32::try_from(time.nanos).ok()?);
        since_epoch.checked_sub(self.started.duration_since(UNIX_EPOCH).ok()?)
    }

    pub fn entries(&self) -> MutexGuard<'_, LedgerEntries> {
        self.entries.lock().unwrap()
    }

    /// The next pair to request: mostly a new document, sometimes another case of a recent one, or the same pair again.
    pub fn choose(&self, rng: &mut Rng) -> Pair {
        let mut entries = self.entries();
        let known = entries.documents.saturating_sub(REPEATED_DOCUMENTS)..entries.documents;
        let (number, case) = match rng.u8(0..10) {
            0 | 1 if !known.is_empty() => (rng.u64(known), rng.u8(2..5)),
            2 if !known.is_empty() => (rng.u64(known), 1),
            _ => {
                entries.documents += 1;
                (entries.documents - 1, 1)
            }
        };
        let pair = (crate::harness::document(number), format!("case-{case}"));
        entries.requested.entry(pair.clone()).or_default();
        pair
    }

    /// Records that a caller got this id as accepted.
    pub fn accepted(&self, pair: &Pair, id: &str) {
        self.entries().requested.entry(pair.clone()).or_default().insert(id.to_owned());
    }

    /// Records a registration that a caller got.
    pub fn reported(&self, pair: &Pair, registration: &Registration) {
        self.accepted(pair, &registration.id);
        if registration.state() == State::Confirmed {
            let time = registration.confirm_time.as_ref().and_then(|time| self.since(time));
            let mut entries = self.entries();
            entries.confirmed.insert(registration.id.clone());
            entries.confirm_times.extend(time);
        }
    }
}

impl LedgerEntries {
    /// Number of registrations that callers got as accepted.
    pub fn accepted(&self) -> usize {
        self.requested.values().map(BTreeSet::len).sum()
    }
}
