//! Imports our own transactions that the store does not know because it was restored from an older backup. A foreign
//! transaction is never taken for ours: the sender is read from the signature, and the registrations from the
//! contract's records and events.

use super::{
    error::PollError,
    follower_inbox::FollowerInbox,
    head::HeadWatch,
    in_flight::{PendingTx, PendingTxs},
    resume::Tracker,
};
use crate::{
    chain::{BlockTag, Chain, MAX_LOG_RANGE, Receipt},
    clock::now,
    registration::{Block, Finality, Pair},
    store::{Attempt, FoundOnChain, ImportOutcome, ImportedTransaction, Store, UnfinalizedBlock},
    telemetry::{events, log_retry},
};
use alloy::primitives::{Address, B256};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

/// At this depth an own transaction that no endpoint has is stored as the contract's record has it, like a foreign one.
/// If an endpoint has it later, it is imported then.
const UNSEEN_TX_GIVE_UP_DEPTH: u64 = 100;
/// Transactions that are read concurrently.
const IMPORT_CONCURRENCY: usize = 8;
/// Two million blocks are 4.6 days of Base's 200 ms.
const MAX_LOG_RANGES: u64 = 200;
/// The registration event has its registrar in the fourth topic; the contract's other events have fewer topics.
const REGISTRAR_TOPIC_INDEX: usize = 3;
/// Transactions that may have registered the members of one batch: usually the one transaction sought, or a few earlier
/// ones.
const MAX_IMPORT_CANDIDATES: usize = 4;

/// Finds transactions of our signers on chain that the store does not know, and imports them.
#[derive(Clone, Debug)]
pub(super) struct Importer {
    chain: Chain,
    store: Store,
    in_flight: Arc<PendingTxs>,
    head: HeadWatch,
    follower_inbox: FollowerInbox,
    tracker: Tracker,
}

impl Importer {
    pub(super) fn new(
        (chain, store): (Chain, Store),
        in_flight: Arc<PendingTxs>,
        head: HeadWatch,
        follower_inbox: FollowerInbox,
        tracker: Tracker,
    ) -> Self {
        Self { chain, store, in_flight, head, follower_inbox, tracker }
    }

    /// Imports the transactions of our own signers among these. Those that are still open in the store are removed from
    /// `found`: the follower confirms them.
    pub(super) async fn import_found(&self, found: &mut Vec<FoundOnChain>) -> Result<(), PollError> {
        let ours: BTreeMap<B256, Address> = found
            .iter()
            .filter(|registration| self.store.holds_lease(registration.registrar))
            .map(|registration| (registration.hash, registration.registrar))
            .collect();
        let head = self.head.header().map_or(0, |head| head.block.number);
        let mut outcomes = BTreeMap::new();
        for tx in self.fetch_registrations(ours.clone()).await? {
            outcomes.insert(tx.attempt.hash, self.import_transaction(&tx).await?);
        }
        found.retain_mut(|registration| match outcomes.get(&registration.hash) {
            Some(ImportOutcome::Imported(id) | ImportOutcome::Present(id)) => {
                registration.own_transaction = Some(*id);
                true
            }
            Some(ImportOutcome::StillOpen) => false,
            Some(ImportOutcome::Conflicts) => true,
            // No endpoint has it now: it is searched again, and counts as foreign only at some depth.
            None => {
                let is_ours = ours.contains_key(&registration.hash);
                !is_ours || head > registration.block.number + UNSEEN_TX_GIVE_UP_DEPTH
            }
        });
        Ok(())
    }

    /// The transaction's nonce is consumed, and none of its known attempts has a receipt: imports the attempt that
    /// consumed it, if that registered a member. Returns the transaction as it is tracked from now on.
    pub(super) async fn import_attempt(
        &self,
        tx: &PendingTx,
    ) -> Result<Option<(Arc<PendingTx>, B256, Receipt)>, PollError> {
        let pairs: Vec<Pair> = tx.traces().iter().map(|trace| trace.member.pair.clone()).collect();
        let records = self.chain.records(&pairs).await?;
        let mut blocks = BTreeSet::new();
        let recorded = pairs.iter().zip(records).filter_map(|(pair, record)| Some((pair, record?)));
        let ours = recorded.filter(|(_, record)| record.registrar == tx.signer && blocks.insert(record.block_number));
        for (pair, record) in ours.take(MAX_IMPORT_CANDIDATES) {
            let Some(registered) = self.chain.find_registration(pair, record).await? else { continue };
            let hash = registered.transaction;
            if tx.versions().attempts.iter().any(|attempt| attempt.hash == hash) {
                continue;
            }
            let (sent, receipt) = tokio::try_join!(self.chain.transaction(hash), self.chain.receipt(hash))?;
            let (Some(sent), Some(receipt)) = (sent, receipt) else { continue };
            if (sent.from, sent.nonce) != (tx.signer, tx.nonce) {
                continue;
            }
            let attempt = Attempt { hash, raw: sent.raw, fees: sent.fees };
            self.store.import_attempt(tx.id, &attempt, now()).await?;
            let Some(open) = self.store.open_transaction(tx.id).await? else { continue };
            self.tracker.track(open, None);
            events::transaction_imported(tx.id, tx.signer, tx.nonce, hash, tx.members.len());
            return Ok(self.in_flight.get(tx.signer, tx.nonce).map(|tx| (tx, hash, receipt)));
        }
        Ok(None)
    }

    /// The chain has consumed nonces of this signer that the store does not know: imports our own transactions among
    /// them, and reports the others.
    pub(super) async fn account_for_nonces(&self, signer: Address, nonces: Range<u64>, head: u64) {
        match self.find_unknown_nonces(signer, nonces, head).await {
            Ok(Some((first, count))) => events::external_nonce_use(signer, first, count),
            Ok(None) => {}
            Err(error) => {
                log_retry!(error, %signer, "failed to find the transactions that consumed the signer's nonces")
            }
        }
    }

    /// The first nonce that none of our transactions consumed, and how many there are. `nonces` comes from an endpoint
    /// and may be any range: memory and time depend only on our own transactions in it.
    async fn find_unknown_nonces(
        &self,
        signer: Address,
        nonces: Range<u64>,
        head: u64,
    ) -> Result<Option<(u64, u64)>, PollError> {
        let mut known: BTreeSet<u64> = self.store.nonces_from(signer, nonces.start).await?.into_iter().collect();
        known.retain(|nonce| nonces.contains(nonce));
        let oldest = head.saturating_sub(MAX_LOG_RANGE * MAX_LOG_RANGES);
        let mut from = self.store.newest_block(signer).await?.map_or(oldest, |newest| newest.max(oldest));
        while unknown_nonces(&nonces, &known).is_some() && from <= head {
            let to = head.min(from + MAX_LOG_RANGE - 1);
            let hashes = self.chain.registrations_by(signer, from, to).await?;
            for tx in self.fetch_registrations(hashes.into_iter().map(|hash| (hash, signer)).collect()).await? {
                if nonces.contains(&tx.nonce) && known.insert(tx.nonce) {
                    self.import_transaction(&tx).await?;
                }
            }
            from = to + 1;
        }
        Ok(unknown_nonces(&nonces, &known))
    }

    async fn import_transaction(&self, tx: &ImportedTransaction) -> Result<ImportOutcome, PollError> {
        let outcome = self.store.import_transaction(tx, now()).await?;
        if let ImportOutcome::Imported(id) = outcome {
            let Block { number, hash, .. } = tx.block;
            let block = UnfinalizedBlock { id, signer: Some(tx.signer), finality: Finality::Unsafe, number, hash };
            self.follower_inbox.add_blocks([block]);
            events::transaction_imported(id, tx.signer, tx.nonce, tx.attempt.hash, tx.batch_size);
        }
        Ok(outcome)
    }

    /// The transactions among these that their signers sent to the contract, and that succeeded in a canonical block.
    async fn fetch_registrations(
        &self,
        hashes: BTreeMap<B256, Address>,
    ) -> Result<Vec<ImportedTransaction>, PollError> {
        let reads = hashes.into_iter().map(|(hash, signer)| self.fetch_registration(hash, signer));
        let found: Vec<_> = stream::iter(reads).buffer_unordered(IMPORT_CONCURRENCY).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn fetch_registration(&self, hash: B256, signer: Address) -> Result<Option<ImportedTransaction>, PollError> {
        let (sent, receipt) = tokio::try_join!(self.chain.transaction(hash), self.chain.receipt(hash))?;
        let (Some(sent), Some(receipt)) = (sent, receipt) else { return Ok(None) };
        let header = self.chain.header(BlockTag::Number(receipt.block_number)).await?;
        let Some(header) = header.filter(|header| header.block.hash == receipt.block_hash) else { return Ok(None) };
        let ours = sent.from == signer && sent.to == Some(self.chain.contract()) && receipt.succeeded;
        Ok(ours.then(|| ImportedTransaction {
            signer,
            nonce: sent.nonce,
            gas_limit: sent.gas_limit,
            batch_size: receipt.events.iter().filter(|topics| topics.len() > REGISTRAR_TOPIC_INDEX).count(),
            attempt: Attempt { hash, raw: sent.raw, fees: sent.fees },
            block: header.block,
            cost: receipt.cost(),
        }))
    }
}

/// The first of these nonces that is not known, and how many are not. All of `known` are in the range.
fn unknown_nonces(nonces: &Range<u64>, known: &BTreeSet<u64>) -> Option<(u64, u64)> {
    let count = (nonces.end - nonces.start).saturating_sub(known.len() as u64);
    let first = nonces.clone().find(|nonce| !known.contains(nonce))?;
    (count > 0).then_some((first, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_nonces_are_counted_without_listing_them() {
        for (nonces, known, expected) in [
            (5..8, vec![], Some((5, 3))),
            (5..8, vec![5, 7], Some((6, 1))),
            (5..8, vec![5, 6, 7], None),
            (5..5, vec![], None),
            (0..1 << 40, vec![0, 1, 9], Some((2, (1 << 40) - 3))),
        ] {
            assert_eq!(unknown_nonces(&nonces, &known.iter().copied().collect()), expected, "{nonces:?} {known:?}");
        }
    }
}
