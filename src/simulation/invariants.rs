//! The invariants of `src/lib.rs`, by their numbers, checked after every event and at the end of every scenario.

use crate::{
    chain::simulated::{Ledger, PairKey, SimulatedChain, SimulatedTransaction},
    registration::{Registration, RegistrationId, State},
    store::{Audit, TransactionMembership},
};
use alloy::primitives::{Address, B256};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// I10.
const MAX_IN_FLIGHT_PER_SIGNER: u64 = 15;

/// In wei per gas: ten times the highest base fee below the cap, and a few raises.
const MAX_TIP: u128 = 2_000_000_000;

/// Broadcasts whose bytes were not on disk (I2).
#[derive(Clone, Default)]
pub(super) struct BroadcastViolations(Arc<Mutex<Vec<String>>>);

impl BroadcastViolations {
    pub(super) fn add(&self, what: String) {
        self.0.lock().push(what);
    }

    fn first(&self) -> Option<String> {
        self.0.lock().first().cloned()
    }
}

#[derive(Default)]
pub(super) struct Invariants {
    pub(super) violations: BroadcastViolations,
    /// After a reorg, more transactions may be pending again than were ever sent at once.
    pub(super) reorged: bool,
    /// An endpoint reported a nonce that is too high for so long that it is believed.
    pub(super) lied_for_long: bool,
    /// Whether several replicas share the database.
    shared: bool,
    queue_timeout: Duration,
    /// Every nonce that a broadcast used.
    broadcast_nonces: HashSet<(Address, u64)>,
    promised: BTreeMap<RegistrationId, PairKey>,
    /// The promises at the last backup.
    promised_at_backup: BTreeMap<RegistrationId, PairKey>,
    revisions: HashMap<RegistrationId, i64>,
    /// Registrations whose confirmation was checked, with their block.
    confirmed: HashSet<(RegistrationId, B256)>,
    nonce_assignments: Vec<TransactionMembership>,
    first_use_of_nonce: HashMap<(Address, u64), SimulatedTransaction>,
    checked_broadcasts: usize,
}

impl Invariants {
    pub(super) fn new(shared: bool, queue_timeout: Duration) -> Self {
        Self { shared, queue_timeout, ..Self::default() }
    }

    /// A caller has received the acceptance of this registration.
    pub(super) fn promise(&mut self, id: RegistrationId, key: PairKey) {
        self.promised.insert(id, key);
    }

    pub(super) fn record_backup(&mut self) {
        self.promised_at_backup.clone_from(&self.promised);
    }

    /// The backup was restored: later promises are lost with it, and nonces that it does not know may be used again.
    /// Returns the lost pairs.
    pub(super) async fn record_restore(
        &mut self,
        audit: &Audit,
        chain: &SimulatedChain,
    ) -> Result<Vec<PairKey>, String> {
        self.check_nonce_reuse(&chain.ledger())?;
        let mut lost = std::mem::replace(&mut self.promised, self.promised_at_backup.clone());
        lost.retain(|id, _| !self.promised.contains_key(id));
        self.revisions.clear();
        self.nonce_assignments = audit.memberships().await.map_err(|error| error.to_string())?;
        let assigned = audit.nonces().await.map_err(|error| error.to_string())?;
        self.first_use_of_nonce.retain(|nonce, _| assigned.contains(nonce));
        Ok(lost.into_values().collect())
    }

    /// Everything that holds at all times.
    pub(super) async fn check(
        &mut self,
        audit: &Audit,
        chain: &SimulatedChain,
        signers: &[Address],
    ) -> Result<(), String> {
        if let Some(violation) = self.violations.first() {
            return Err(format!("I2: {violation}"));
        }
        if self.shared
            && let Some(stale) = audit.stale_writes().await.map_err(|error| error.to_string())?.first()
        {
            return Err(format!("I5: a replica that does not hold the signer's lease wrote for it: {stale}"));
        }
        let rows = audit.registrations().await.map_err(|error| error.to_string())?;
        let memberships = audit.memberships().await.map_err(|error| error.to_string())?;
        let mut open = Vec::with_capacity(signers.len());
        for signer in signers {
            open.push(audit.open_transactions(*signer).await.map_err(|error| error.to_string())?);
        }
        let ledger = chain.ledger();
        self.check_nonce_reuse(&ledger)?;
        self.check_promises(&rows, &ledger)?;
        self.check_nonce_reassignment(memberships, &ledger)?;
        match open.iter().find(|count| **count > MAX_IN_FLIGHT_PER_SIGNER && !self.reorged) {
            Some(count) => Err(format!("I10: {count} transactions of one signer are in flight")),
            None => Ok(()),
        }
    }

    /// I2: no nonce is used for two different things, none is used that the chain does not support, and the priority fee is
    /// bounded. A batch that is too large may be replaced by a part of it, and an
    /// empty self-transfer may fill a nonce gap.
    fn check_nonce_reuse(&mut self, ledger: &Ledger) -> Result<(), String> {
        for signed in &ledger.broadcasts[self.checked_broadcasts..] {
            self.broadcast_nonces.insert((signed.from, signed.nonce));
            let is_supported = |nonce: &u64| self.broadcast_nonces.contains(&(signed.from, *nonce));
            let unsupported = (ledger.highest_nonce(signed.from)..signed.nonce).find(|nonce| !is_supported(nonce));
            if let Some(missing) = unsupported.filter(|_| !self.lied_for_long) {
                return Err(format!(
                    "a transaction of {} has nonce {}, although nothing consumed or was sent for nonce {missing}",
                    signed.from, signed.nonce
                ));
            }
            if signed.tip > MAX_TIP {
                return Err(format!("nonce {} of {} pays a priority fee of {}", signed.nonce, signed.from, signed.tip));
            }
            let first = self.first_use_of_nonce.entry((signed.from, signed.nonce)).or_insert_with(|| signed.clone());
            let same = (first.to, &first.input) == (signed.to, &signed.input);
            let is_part = first.to == signed.to && signed.pairs.iter().all(|pair| first.pairs.contains(pair));
            let fills_gap = signed.to == Some(signed.from) && signed.input.is_empty();
            if !(same || is_part && !signed.pairs.is_empty() || fills_gap) {
                return Err(format!("I2: nonce {} of {} is used for two things", signed.nonce, signed.from));
            }
        }
        self.checked_broadcasts = ledger.broadcasts.len();
        Ok(())
    }

    /// I1, I4 and I6: an accepted registration is stored, once; revisions never decrease; a confirmed one was at depth,
    /// and a failed one had a reason.
    fn check_promises(&mut self, rows: &[Registration], ledger: &Ledger) -> Result<(), String> {
        let by_id: HashMap<_, _> = rows.iter().map(|row| (row.id, row)).collect();
        if let Some((id, key)) =
            self.promised.iter().find(|(id, key)| by_id.get(id).map(|row| key_of(row)) != Some((*key).clone()))
        {
            return Err(format!("I1: {id} was accepted for {key:?} and is not in the store"));
        }
        for row in rows {
            let revision = self.revisions.insert(row.id, row.revision).unwrap_or_default();
            if row.revision < revision {
                return Err(format!("the revision of {} fell from {revision} to {}", row.id, row.revision));
            }
            self.check_timeouts(row)?;
            match row.state {
                State::Confirmed => self.check_confirmation_depth(row, ledger)?,
                State::Failed if !ledger.is_rejected_pair(&key_of(row)) => {
                    return Err(format!("I1: {} failed without a reason: {:?}", describe(row), row.failure));
                }
                State::Failed | State::Queued | State::Signed | State::Submitted | State::Included => {}
            }
        }
        Ok(())
    }

    /// Every timeout names its cause, and none is reported early.
    fn check_timeouts(&self, row: &Registration) -> Result<(), String> {
        let times = &row.times;
        if times.timed_out.or(times.delayed).is_some() && row.diagnosis.is_none() {
            return Err(format!("{} is late for no cause", describe(row)));
        }
        match times.delayed {
            Some(delayed) if delayed.since(times.queued) < self.queue_timeout => {
                Err(format!("{} is reported as delayed after {:?}", describe(row), delayed.since(times.queued)))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_confirmation_depth(&mut self, row: &Registration, ledger: &Ledger) -> Result<(), String> {
        let block = row.transaction.as_ref().and_then(|transaction| transaction.block);
        let block = block.ok_or_else(|| format!("I6: {} is confirmed in no block", describe(row)))?;
        if self.confirmed.insert((row.id, block.hash)) && !ledger.was_confirmed(&block.hash) {
            return Err(format!("I6: {} is confirmed in a block that was never at depth", describe(row)));
        }
        Ok(())
    }

    /// I3: a registration gets a new nonce only after the old one was consumed at confirmation depth.
    fn check_nonce_reassignment(
        &mut self,
        memberships: Vec<TransactionMembership>,
        ledger: &Ledger,
    ) -> Result<(), String> {
        for new in memberships.iter().filter(|new| !self.nonce_assignments.contains(new)) {
            let older = |old: &&TransactionMembership| old.registration == new.registration && *old != new;
            for old in self.nonce_assignments.iter().filter(older) {
                if !ledger.was_consumed(old.signer, old.nonce) {
                    let (signer, nonce) = (old.signer, old.nonce);
                    return Err(format!(
                        "I3: {} has nonce {} although nonce {nonce} of {signer} was never consumed at depth",
                        new.registration, new.nonce
                    ));
                }
            }
        }
        self.nonce_assignments = memberships;
        Ok(())
    }

    /// A registration that is neither failed nor on the canonical chain, once and at depth.
    pub(super) async fn find_unfinished(
        &self,
        audit: &Audit,
        chain: &SimulatedChain,
        signers: &[Address],
    ) -> Result<Option<String>, String> {
        // A replica with another signer cannot know; the holder of this signer finds out when it signs again.
        let is_known = !self.shared || signers.len() == 1;
        if is_known
            && let Some(ours) = audit.foreign_transactions_of(signers).await.map_err(|error| error.to_string())?.first()
        {
            return Ok(Some(format!("our own transaction {ours} is recorded as foreign")));
        }
        let rows = audit.registrations().await.map_err(|error| error.to_string())?;
        let ledger = chain.ledger();
        Ok(rows.iter().find_map(|row| unfinished_reason(row, &ledger)))
    }
}

fn unfinished_reason(row: &Registration, ledger: &Ledger) -> Option<String> {
    let (key, what) = (key_of(row), describe(row));
    match row.state {
        State::Failed => (ledger.registration_event_count(&key) > 0).then(|| format!("{what} failed and is on chain")),
        State::Queued | State::Signed | State::Submitted | State::Included => Some(format!("{what} is not finished")),
        State::Confirmed => {
            let transaction = row.transaction.as_ref()?;
            let block = transaction.block?;
            if !ledger.is_confirmed(block.number, &block.hash) {
                return Some(format!("{what} is confirmed in block {}, which is not canonical", block.number));
            }
            match (ledger.registration_event_count(&key), ledger.has_registered(&transaction.hash, &key)) {
                (1, true) => None,
                (events, by_it) => Some(format!("{what} has {events} events, its own: {by_it}")),
            }
        }
    }
}

fn key_of(row: &Registration) -> PairKey {
    (row.request.pair.document_hash.as_b256(), row.request.pair.case_id.as_str().to_owned())
}

fn describe(row: &Registration) -> String {
    let nonce = row.transaction.as_ref().and_then(|transaction| Some(transaction.own.as_ref()?.nonce));
    let document = row.request.pair.document_hash.as_b256()[0];
    format!("document {document} ({}, nonce {nonce:?}, blocked {:?})", row.state.code(), row.blocked_reason)
}
