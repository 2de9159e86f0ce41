//! What was asked for, and what the callers were told about it: the other side of the audit.

use crate::harness::{Registration, State};
use fastrand::Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A document's hash and a case.
pub type Pair = (String, String);

/// Every pair that a request was sent for, with the ids that callers were told: one, or none when nobody was told anything.
pub type Asked = BTreeMap<Pair, BTreeSet<String>>;

/// So many of the last documents are asked for again.
const RECENT: u64 = 60;

/// What callers keep.
pub struct Ledger {
    began: SystemTime,
    kept: Mutex<Kept>,
}

/// Everything in it.
#[derive(Clone, Default)]
pub struct Kept {
    /// What was asked for.
    pub asked: Asked,
    /// The ids that callers were told are confirmed.
    pub confirmed: BTreeSet<String>,
    /// When registrations were confirmed, as far as callers were told.
    pub confirm_times: BTreeSet<Duration>,
    /// Calls that the service ended with an error, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Calls that broke off: whoever served them was killed.
    pub broken_off: u64,
    /// Requests that were not answered in time although nobody was killed, or never accepted at all.
    pub unanswered: Vec<String>,
    documents: u64,
}

impl Ledger {
    /// An empty one.
    pub fn new() -> Self {
        Self { began: SystemTime::now(), kept: Mutex::default() }
    }

    /// The time since the run began, on the clock that the service writes its times by.
    pub fn now(&self) -> Duration {
        self.began.elapsed().unwrap_or_default()
    }

    /// A time of the service as one since the run began; `None` before that.
    pub fn since(&self, time: &prost_types::Timestamp) -> Option<Duration> {
        let since_epoch = Duration::new(u64::try_from(time.seconds).ok()?, u32::try_from(time.nanos).ok()?);
        since_epoch.checked_sub(self.began.duration_since(UNIX_EPOCH).ok()?)
    }

    /// What is in it.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// The pair that a caller asks for next: mostly a new document, else another case of a known one, or the same pair again.
    pub fn choose(&self, rng: &mut Rng) -> Pair {
        let mut kept = self.kept();
        let known = kept.documents.saturating_sub(RECENT)..kept.documents;
        let (number, case) = match rng.u8(0..10) {
            0 | 1 if !known.is_empty() => (rng.u64(known), rng.u8(2..5)),
            2 if !known.is_empty() => (rng.u64(known), 1),
            _ => {
                kept.documents += 1;
                (kept.documents - 1, 1)
            }
        };
        let pair = (crate::harness::document(number), format!("case-{case}"));
        kept.asked.entry(pair.clone()).or_default();
        pair
    }

    /// A caller was told that this is on disk.
    pub fn accepted(&self, pair: &Pair, id: &str) {
        self.kept().asked.entry(pair.clone()).or_default().insert(id.to_owned());
    }

    /// A caller was told how this registration stands.
    pub fn told(&self, pair: &Pair, registration: &Registration) {
        self.accepted(pair, &registration.id);
        if registration.state() == State::Confirmed {
            let time = registration.confirm_time.as_ref().and_then(|time| self.since(time));
            let mut kept = self.kept();
            kept.confirmed.insert(registration.id.clone());
            kept.confirm_times.extend(time);
        }
    }
}

impl Kept {
    /// How many registrations callers were told are accepted.
    pub fn accepted(&self) -> usize {
        self.asked.values().map(BTreeSet::len).sum()
    }
}
