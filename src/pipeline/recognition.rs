//! Our own transactions that the store does not know, for it was restored from an older backup: found on chain and taken into the
//! store, as if it had made them. A stranger's is never taken for one of ours: who signed it is read from its signature, and what
//! it did from the contract's own records and events.

use super::{
    Tools,
    flights::{Flight, lock},
    follower::PollError,
    now, recovery,
};
use crate::{
    chain::{BlockTag, Pair, Receipt},
    registration::{Block, Finality},
    store::{Attempt, Found, Known, Recognised, UnfinalizedBlock},
    telemetry::events,
};
use alloy::primitives::{Address, B256};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};
use tracing::warn;

/// A transaction whose block is so much deeper than the newest, and that no endpoint shows, never will be: it is written down as the
/// contract's record has it. Should it be shown after all, it is known for ours then.
const SHOWN_WITHIN: u64 = 100;
/// How many transactions are looked up at once.
const LOOKUPS: usize = 8;
/// Of so many blocks at once public nodes tell the events.
const BLOCKS: u64 = 10_000;
/// And so often they are asked for more: two million blocks are 4.6 days of Base's 200 ms.
const PAGES: u64 = 200;
/// An event that registers names its registrar in the fourth topic; no other event of the contract has so many.
const REGISTRAR: usize = 3;
/// A transaction's work was registered by itself alone, or some of it by a few others before.
const CANDIDATES: usize = 4;

impl Tools {
    /// Takes those that our own signers registered for ours. What is still open here is left out: the follower settles it.
    pub(super) async fn recognise_found(&self, found: &mut Vec<Found>) -> Result<(), PollError> {
        let ours: BTreeMap<B256, Address> =
            found.iter().filter(|one| self.store.holds(one.registrar)).map(|one| (one.hash, one.registrar)).collect();
        let head = self.head().map_or(0, |head| head.block.number);
        let mut known = BTreeMap::new();
        for one in self.look_up(ours.clone()).await? {
            known.insert(one.attempt.hash, self.recognise(&one).await?);
        }
        found.retain_mut(|one| match known.get(&one.hash) {
            Some(Known::New(id) | Known::Already(id)) => {
                one.ours = Some(*id);
                true
            }
            Some(Known::Open) => false,
            Some(Known::Otherwise) => true,
            // One of our own that nobody shows just now is looked for again, and not taken for a stranger's so soon.
            None => !ours.contains_key(&one.hash) || head > one.block.number + SHOWN_WITHIN,
        });
        Ok(())
    }

    /// The nonce of this transaction is consumed, and by none of the versions that are known: finds the version that did it, if it
    /// registered what we carry. Returns the transaction as it is followed from now on.
    pub(super) async fn recognise_version(
        &self,
        flight: &Flight,
    ) -> Result<Option<(Arc<Flight>, B256, Receipt)>, PollError> {
        let pairs: Vec<Pair> =
            flight.journeys().iter().map(|one| (one.member.document_hash, one.member.case_id.clone())).collect();
        let records = self.chain.records(&pairs).await?;
        let mut blocks = BTreeSet::new();
        let by_us = pairs.iter().zip(records).filter_map(|(pair, record)| Some((pair, record?)));
        let by_us = by_us.filter(|(_, record)| record.registrar == flight.signer && blocks.insert(record.block_number));
        for ((document, case), record) in by_us.take(CANDIDATES) {
            let Some(registered) = self.chain.registered(*document, case, record).await? else { continue };
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
            self.store.recognise_attempt(flight.id, &attempt, now()).await?;
            let Some(open) = self.store.open_transaction(flight.id).await? else { continue };
            recovery::take_up(self, open, None);
            events::transaction_recognised(flight.id, flight.signer, flight.nonce, hash, flight.members.len());
            return Ok(self.flights.get(flight.signer, flight.nonce).map(|flight| (flight, hash, receipt)));
        }
        Ok(None)
    }

    /// The chain has taken nonces of this signer that we did not give out: finds the transactions of ours among them, and says
    /// loudly how many are none.
    pub(super) async fn explain_nonces(&self, signer: Address, nonces: Range<u64>, head: u64) {
        match self.unexplained(signer, nonces, head).await {
            Ok(unexplained) => {
                if let Some(first) = unexplained.first() {
                    events::foreign_transactions(signer, *first, unexplained.len());
                }
            }
            Err(error) => warn!(%signer, error = %error, "it is not known what consumed some of the signer's nonces"),
        }
    }

    async fn unexplained(&self, signer: Address, nonces: Range<u64>, head: u64) -> Result<BTreeSet<u64>, PollError> {
        let known = self.store.nonces_from(signer, nonces.start).await?;
        let mut unexplained: BTreeSet<u64> = nonces.collect();
        unexplained.retain(|nonce| known.binary_search(nonce).is_err());
        let oldest = head.saturating_sub(BLOCKS * PAGES);
        let mut from = self.store.newest_block(signer).await?.map_or(oldest, |newest| newest.max(oldest));
        while !unexplained.is_empty() && from <= head {
            let to = head.min(from + BLOCKS - 1);
            let hashes = self.chain.registered_by(signer, from, to).await?;
            for one in self.look_up(hashes.into_iter().map(|hash| (hash, signer)).collect()).await? {
                if unexplained.remove(&one.nonce) {
                    self.recognise(&one).await?;
                }
            }
            from = to + 1;
        }
        Ok(unexplained)
    }

    async fn recognise(&self, one: &Recognised) -> Result<Known, PollError> {
        let known = self.store.recognise(one, now()).await?;
        if let Known::New(id) = known {
            let Block { number, hash, .. } = one.block;
            let block = UnfinalizedBlock { id, signer: Some(one.signer), finality: Finality::Unsafe, number, hash };
            lock(&self.found).push(block);
            events::transaction_recognised(id, one.signer, one.nonce, one.attempt.hash, one.batch_size);
        }
        Ok(known)
    }

    /// Those of these transactions that the signers beside them made, called the contract, and are in a canonical block.
    async fn look_up(&self, hashes: BTreeMap<B256, Address>) -> Result<Vec<Recognised>, PollError> {
        let looked = hashes.into_iter().map(|(hash, signer)| self.look_up_one(hash, signer));
        let looked: Vec<_> = stream::iter(looked).buffer_unordered(LOOKUPS).try_collect().await?;
        Ok(looked.into_iter().flatten().collect())
    }

    async fn look_up_one(&self, hash: B256, signer: Address) -> Result<Option<Recognised>, PollError> {
        let (sent, receipt) = tokio::try_join!(self.chain.transaction(hash), self.chain.receipt(hash))?;
        let (Some(sent), Some(receipt)) = (sent, receipt) else { return Ok(None) };
        let header = self.chain.header(BlockTag::Number(receipt.block_number)).await?;
        let Some(header) = header.filter(|header| header.block.hash == receipt.block_hash) else { return Ok(None) };
        let ours = sent.from == signer && sent.to == Some(self.chain.contract()) && receipt.succeeded;
        Ok(ours.then(|| Recognised {
            signer,
            nonce: sent.nonce,
            gas_limit: sent.gas_limit,
            batch_size: receipt.events.iter().filter(|topics| topics.len() > REGISTRAR).count(),
            attempt: Attempt { hash, raw: sent.raw, fees: sent.fees },
            block: header.block,
            cost: receipt.cost(),
        }))
    }
}
