//! Our own transactions that the store does not know, for it was restored from an older backup: found on chain and taken into the
//! store, as if it had made them. A stranger's is never taken for one of ours: who signed it is read from its signature, and what
//! it did from the contract's own records and events.

use super::{
    error::PollError,
    follower_inbox::FollowerInbox,
    head::HeadWatch,
    in_flight::{PendingTx, PendingTxs},
    resume::Tracker,
};
use crate::{
    chain::{BlockTag, Chain, Receipt},
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

/// A transaction whose block is so much deeper than the newest, and that no endpoint shows, never will be: it is written down as the
/// contract's record has it. Should it be shown after all, it is known for ours then.
const UNSEEN_TX_GIVE_UP_DEPTH: u64 = 100;
/// How many transactions are looked up at once.
const IMPORT_CONCURRENCY: usize = 8;
/// Of so many blocks at once public nodes tell the events.
const LOG_RANGE_BLOCKS: u64 = 10_000;
/// And so often they are asked for more: two million blocks are 4.6 days of Base's 200 ms.
const MAX_LOG_RANGES: u64 = 200;
/// An event that registers names its registrar in the fourth topic; no other event of the contract has so many.
const REGISTRAR_TOPIC_INDEX: usize = 3;
/// A transaction's work was registered by itself alone, or some of it by a few others before.
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

    /// Takes those that our own signers registered for ours. What is still open here is left out: the follower settles it.
    pub(super) async fn import_found(&self, found: &mut Vec<FoundOnChain>) -> Result<(), PollError> {
        let ours: BTreeMap<B256, Address> = found
            .iter()
            .filter(|one| self.store.holds_lease(one.registrar))
            .map(|one| (one.hash, one.registrar))
            .collect();
        let head = self.head.header().map_or(0, |head| head.block.number);
        let mut known = BTreeMap::new();
        for one in self.fetch_registrations(ours.clone()).await? {
            known.insert(one.attempt.hash, self.import_transaction(&one).await?);
        }
        found.retain_mut(|one| match known.get(&one.hash) {
            Some(ImportOutcome::Imported(id) | ImportOutcome::Present(id)) => {
                one.own_transaction = Some(*id);
                true
            }
            Some(ImportOutcome::StillOpen) => false,
            Some(ImportOutcome::Conflicts) => true,
            // One of our own that nobody shows just now is looked for again, and not taken for a stranger's so soon.
            None => !ours.contains_key(&one.hash) || head > one.block.number + UNSEEN_TX_GIVE_UP_DEPTH,
        });
        Ok(())
    }

    /// The nonce of this transaction is consumed, and by none of the versions that are known: finds the version that did it, if it
    /// registered what we carry. Returns the transaction as it is followed from now on.
    pub(super) async fn import_attempt(
        &self,
        flight: &PendingTx,
    ) -> Result<Option<(Arc<PendingTx>, B256, Receipt)>, PollError> {
        let pairs: Vec<Pair> = flight.traces().iter().map(|one| one.member.pair.clone()).collect();
        let records = self.chain.records(&pairs).await?;
        let mut blocks = BTreeSet::new();
        let by_us = pairs.iter().zip(records).filter_map(|(pair, record)| Some((pair, record?)));
        let by_us = by_us.filter(|(_, record)| record.registrar == flight.signer && blocks.insert(record.block_number));
        for (pair, record) in by_us.take(MAX_IMPORT_CANDIDATES) {
            let Some(registered) = self.chain.find_registration(pair, record).await? else { continue };
            let hash = registered.transaction;
            if flight.versions().attempts.iter().any(|attempt| attempt.hash == hash) {
                continue;
            }
            let (sent, receipt) = tokio::try_join!(self.chain.transaction(hash), self.chain.receipt(hash))?;
            let (Some(sent), Some(receipt)) = (sent, receipt) else { continue };
            if (sent.from, sent.nonce) != (flight.signer, flight.nonce) {
                continue;
            }
            let attempt = Attempt { hash, raw: sent.raw, fees: sent.fees };
            self.store.import_attempt(flight.id, &attempt, now()).await?;
            let Some(open) = self.store.open_transaction(flight.id).await? else { continue };
            self.tracker.track(open, None);
            events::transaction_imported(flight.id, flight.signer, flight.nonce, hash, flight.members.len());
            return Ok(self.in_flight.get(flight.signer, flight.nonce).map(|flight| (flight, hash, receipt)));
        }
        Ok(None)
    }

    /// The chain has taken nonces of this signer that we did not give out: finds the transactions of ours among them, and says
    /// loudly how many are none.
    pub(super) async fn account_for_nonces(&self, signer: Address, nonces: Range<u64>, head: u64) {
        match self.find_unknown_nonces(signer, nonces, head).await {
            Ok(unexplained) => {
                if let Some(first) = unexplained.first() {
                    events::external_nonce_use(signer, *first, unexplained.len());
                }
            }
            Err(error) => log_retry!(error, %signer, "it is not known what consumed some of the signer's nonces"),
        }
    }

    async fn find_unknown_nonces(
        &self,
        signer: Address,
        nonces: Range<u64>,
        head: u64,
    ) -> Result<BTreeSet<u64>, PollError> {
        let known = self.store.nonces_from(signer, nonces.start).await?;
        let mut unexplained: BTreeSet<u64> = nonces.collect();
        unexplained.retain(|nonce| known.binary_search(nonce).is_err());
        let oldest = head.saturating_sub(LOG_RANGE_BLOCKS * MAX_LOG_RANGES);
        let mut from = self.store.newest_block(signer).await?.map_or(oldest, |newest| newest.max(oldest));
        while !unexplained.is_empty() && from <= head {
            let to = head.min(from + LOG_RANGE_BLOCKS - 1);
            let hashes = self.chain.registrations_by(signer, from, to).await?;
            for one in self.fetch_registrations(hashes.into_iter().map(|hash| (hash, signer)).collect()).await? {
                if unexplained.remove(&one.nonce) {
                    self.import_transaction(&one).await?;
                }
            }
            from = to + 1;
        }
        Ok(unexplained)
    }

    async fn import_transaction(&self, one: &ImportedTransaction) -> Result<ImportOutcome, PollError> {
        let known = self.store.import_transaction(one, now()).await?;
        if let ImportOutcome::Imported(id) = known {
            let Block { number, hash, .. } = one.block;
            let block = UnfinalizedBlock { id, signer: Some(one.signer), finality: Finality::Unsafe, number, hash };
            self.follower_inbox.add_blocks([block]);
            events::transaction_imported(id, one.signer, one.nonce, one.attempt.hash, one.batch_size);
        }
        Ok(known)
    }

    /// Those of these transactions that the signers beside them made, called the contract, and are in a canonical block.
    async fn fetch_registrations(
        &self,
        hashes: BTreeMap<B256, Address>,
    ) -> Result<Vec<ImportedTransaction>, PollError> {
        let looked = hashes.into_iter().map(|(hash, signer)| self.fetch_registration(hash, signer));
        let looked: Vec<_> = stream::iter(looked).buffer_unordered(IMPORT_CONCURRENCY).try_collect().await?;
        Ok(looked.into_iter().flatten().collect())
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
