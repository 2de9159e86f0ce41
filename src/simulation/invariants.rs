//! What holds after every step of every story, and at its end. The numbers are those of `src/lib.rs`.

use crate::{
    chain::simulated::{Ledger, PairKey, SimulatedChain, SimulatedTransaction},
    registration::{Registration, RegistrationId, State},
    store::{Audit, TransactionMembership},
};
use alloy::primitives::{Address, B256};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

/// Most transactions of one signer that are out at a time (I10).
const MAX_IN_FLIGHT_PER_SIGNER: u64 = 15;

/// What nodes have seen that was not on disk (I2).
#[derive(Clone, Default)]
pub(super) struct BroadcastViolations(Arc<Mutex<Vec<String>>>);

impl BroadcastViolations {
    pub(super) fn add(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }
}

/// What was promised and seen so far.
#[derive(Default)]
pub(super) struct Invariants {
    pub(super) violations: BroadcastViolations,
    /// Whether the chain has lost blocks: then more may be out again than was ever sent at once.
    pub(super) reorged: bool,
    /// Whether several replicas share the database.
    shared: bool,
    promised: BTreeMap<RegistrationId, PairKey>,
    /// What was promised when the database was copied.
    promised_at_backup: BTreeMap<RegistrationId, PairKey>,
    revisions: HashMap<RegistrationId, i64>,
    /// What was found to be confirmed already, in which block.
    confirmed: HashSet<(RegistrationId, B256)>,
    nonce_assignments: Vec<TransactionMembership>,
    /// What each nonce was first used for.
    first_use_of_nonce: HashMap<(Address, u64), SimulatedTransaction>,
    checked_broadcasts: usize,
}

impl Invariants {
    /// For one replica, or several that share the database.
    pub(super) fn new(shared: bool) -> Self {
        Self { shared, ..Self::default() }
    }

    /// Somebody was told that this is accepted.
    pub(super) fn promise(&mut self, id: RegistrationId, key: PairKey) {
        self.promised.insert(id, key);
    }

    /// The database was copied.
    pub(super) fn record_backup(&mut self) {
        self.promised_at_backup.clone_from(&self.promised);
    }

    /// The database was put back to its copy: what was promised later is lost with it, and what it does not know may be done again.
    /// Returns what is lost.
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
        let given = audit.nonces().await.map_err(|error| error.to_string())?;
        self.first_use_of_nonce.retain(|nonce, _| given.contains(nonce));
        Ok(lost.into_values().collect())
    }

    /// Looks at everything that holds at all times.
    pub(super) async fn check(
        &mut self,
        audit: &Audit,
        chain: &SimulatedChain,
        signers: &[Address],
    ) -> Result<(), String> {
        if let Some(leak) = self.violations.first() {
            return Err(format!("I2: {leak}"));
        }
        if self.shared
            && let Some(stale) = audit.stale_writes().await.map_err(|error| error.to_string())?.first()
        {
            return Err(format!("I5: a replica that does not hold the signer's lease wrote for it: {stale}"));
        }
        let rows = audit.registrations().await.map_err(|error| error.to_string())?;
        let carried = audit.memberships().await.map_err(|error| error.to_string())?;
        let mut out = Vec::with_capacity(signers.len());
        for signer in signers {
            out.push(audit.open_transactions(*signer).await.map_err(|error| error.to_string())?);
        }
        let ledger = chain.ledger();
        self.check_nonce_reuse(&ledger)?;
        self.check_promises(&rows, &ledger)?;
        self.check_nonce_reassignment(carried, &ledger)?;
        match out.iter().find(|out| **out > MAX_IN_FLIGHT_PER_SIGNER && !self.reorged) {
            Some(out) => Err(format!("I10: {out} transactions of one signer are out")),
            None => Ok(()),
        }
    }

    /// I2: no nonce is used for two different things. A batch that is too large may be signed again with less of it, and a
    /// self-transfer that says nothing may fill a gap.
    fn check_nonce_reuse(&mut self, ledger: &Ledger) -> Result<(), String> {
        for signed in &ledger.broadcasts[self.checked_broadcasts..] {
            let first = self.first_use_of_nonce.entry((signed.from, signed.nonce)).or_insert_with(|| signed.clone());
            let same = (first.to, &first.input) == (signed.to, &signed.input);
            let less = first.to == signed.to && signed.pairs.iter().all(|pair| first.pairs.contains(pair));
            let cancels = signed.to == Some(signed.from) && signed.input.is_empty();
            if !(same || less && !signed.pairs.is_empty() || cancels) {
                return Err(format!("I2: nonce {} of {} is used for two things", signed.nonce, signed.from));
            }
        }
        self.checked_broadcasts = ledger.broadcasts.len();
        Ok(())
    }

    /// I1, I4 and I6: what was accepted is there, once; revisions grow; what is confirmed was at depth, and what failed had a reason.
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

    fn check_confirmation_depth(&mut self, row: &Registration, ledger: &Ledger) -> Result<(), String> {
        let block = row.transaction.as_ref().and_then(|transaction| transaction.block);
        let block = block.ok_or_else(|| format!("I6: {} is confirmed in no block", describe(row)))?;
        if self.confirmed.insert((row.id, block.hash)) && !ledger.was_confirmed(&block.hash) {
            return Err(format!("I6: {} is confirmed in a block that was never at depth", describe(row)));
        }
        Ok(())
    }

    /// I3: work gets a new nonce only when the old one was consumed at confirmation depth.
    fn check_nonce_reassignment(&mut self, carried: Vec<TransactionMembership>, ledger: &Ledger) -> Result<(), String> {
        for new in carried.iter().filter(|new| !self.nonce_assignments.contains(new)) {
            let older = |old: &&TransactionMembership| old.registration == new.registration && *old != new;
            for old in self.nonce_assignments.iter().filter(older) {
                if !ledger.was_consumed(old.signer, old.nonce) {
                    let (signer, nonce) = (old.signer, old.nonce);
                    return Err(format!(
                        "I3: {} is carried by nonce {} although nonce {nonce} of {signer} was never consumed at depth",
                        new.registration, new.nonce
                    ));
                }
            }
        }
        self.nonce_assignments = carried;
        Ok(())
    }

    /// What keeps a story from being at its end: `None` when everything accepted is on the canonical chain once and at depth, or
    /// failed.
    pub(super) async fn find_unfinished(
        &self,
        audit: &Audit,
        chain: &SimulatedChain,
        signers: &[Address],
    ) -> Result<Option<String>, String> {
        // A replica that holds another signer cannot tell: the one that acts for this signer can, when it signs again.
        let is_known = !self.shared || signers.len() == 1;
        if is_known
            && let Some(ours) = audit.foreign_transactions_of(signers).await.map_err(|error| error.to_string())?.first()
        {
            return Ok(Some(format!("our own transaction {ours} is taken for a stranger's")));
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
