//! From confirmed to safe to finalized. A block stays canonical as long as each head descends from the previous one; a
//! poll that finds a reorg checks every tracked block first.

use super::{
    Follower,
    canonical_view::{CanonicalView, Canonicity},
};
use crate::{
    chain::{CallError, Header},
    pipeline::{error::PollError, now},
    registration::{Finality, TransactionId},
    store::{StoreError, UnfinalizedBlock},
    telemetry::events,
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// Between two reads of the safe and finalized heads while a confirmed block is not final. They advance by whole L1
/// batches, minutes apart on Base.
const FINALITY_POLL_IDLE: Duration = Duration::from_secs(20);
/// While a caller waits or a transaction is pending.
const FINALITY_POLL_BUSY: Duration = Duration::from_secs(1);
/// With other replicas, whose callers may wait without this one knowing: 24 calls a minute.
const FINALITY_POLL_SHARED: Duration = Duration::from_secs(5);

/// Transactions per commit: with 650 registrations each, about 50 ms of the database writer's time.
const FINALITY_WRITE_BATCH: usize = 8;

impl Follower {
    /// Reads the safe and finalized heads when that is due, and raises the finality of the blocks they have reached.
    pub(super) async fn check_finality(&mut self, canonical: &mut CanonicalView) -> Result<(), PollError> {
        if !self.is_finality_poll_due() {
            return Ok(());
        }
        self.last_finality_poll = Some(Instant::now());
        let (safe, finalized) = self.parts.chain.finality_heads().await?;
        let (safe, finalized) = (block_number(safe), block_number(finalized));
        self.resume_deep_blocks(canonical.head.block.number, finalized).await?;
        let reached = |block: &UnfinalizedBlock| match Some(block.number) {
            at if at <= finalized => Finality::Finalized,
            at if at <= safe => Finality::Safe,
            _ => Finality::Unsafe,
        };
        let raised: Vec<_> = self.unfinalized.iter().filter(|block| reached(block) > block.finality).copied().collect();
        match self.all_canonical(&raised, canonical).await? {
            Canonicity::Canonical => {}
            Canonicity::NotCanonical => {
                // The next poll checks every block before the finality of any is raised.
                (self.verified_head, self.last_finality_poll) = (None, None);
                return Ok(());
            }
            Canonicity::Unknown => {
                // The block may be gone: every poll checks again.
                self.last_finality_poll = None;
                return Ok(());
            }
        }
        let (mut newly_safe, mut newly_final) = (Vec::new(), Vec::new());
        for block in raised {
            match reached(&block) {
                Finality::Finalized => newly_final.push(block.id),
                Finality::Safe | Finality::Unsafe => newly_safe.push(block.id),
            }
        }
        self.raise_finality(&newly_safe, Finality::Safe).await?;
        self.raise_finality(&newly_final, Finality::Finalized).await?;
        self.unfinalized.retain(|block| block.finality != Finality::Finalized);
        self.stop_tracking_deep(canonical.head.block.number);
        Ok(())
    }

    /// In several commits: a whole L1 batch of transactions becomes final at once, and new registrations must not wait
    /// for all.
    async fn raise_finality(&mut self, ids: &[TransactionId], finality: Finality) -> Result<(), StoreError> {
        for batch in ids.chunks(FINALITY_WRITE_BATCH) {
            self.parts.store.raise_finality(batch, finality, now()).await?;
            for block in self.unfinalized.iter_mut().filter(|block| batch.contains(&block.id)) {
                block.finality = finality;
            }
            self.parts.waiters.notify_transactions_changed(batch).await;
        }
        Ok(())
    }

    /// Whether the safe and finalized heads are to be read, or blocks are to be verified.
    pub(super) fn is_finality_poll_due(&mut self) -> bool {
        self.drain_new_blocks();
        let interval = match (self.has_waiters_or_pending(), self.parts.store.is_shared()) {
            (true, _) => FINALITY_POLL_BUSY,
            (false, true) => FINALITY_POLL_SHARED,
            (false, false) => FINALITY_POLL_IDLE,
        };
        let due = self.last_finality_poll.is_none_or(|polled| polled.elapsed() >= interval);
        !self.unverified.is_empty() || due && (self.has_untracked_deep || !self.unfinalized.is_empty())
    }

    fn has_waiters_or_pending(&self) -> bool {
        !(self.parts.in_flight.is_empty() && self.parts.waiters.is_empty())
    }

    /// Our own blocks are all ancestors of the verified head, so that the newest proves the others. A foreign block was
    /// canonical only when a sender found it, between two polls, so each is checked.
    async fn all_canonical(
        &self,
        blocks: &[UnfinalizedBlock],
        canonical: &mut CanonicalView,
    ) -> Result<Canonicity, CallError> {
        let newest = blocks.iter().filter(|block| block.signer.is_some()).max_by_key(|block| block.number);
        for block in blocks.iter().filter(|block| block.signer.is_none()).chain(newest) {
            match canonical.is_canonical(block.number, block.hash).await? {
                Canonicity::Canonical => {}
                other @ (Canonicity::NotCanonical | Canonicity::Unknown) => return Ok(other),
            }
        }
        Ok(Canonicity::Canonical)
    }

    /// Verifies the blocks that came with a lease or were found by a sender. The blocks of one lease were on one branch
    /// when the newest was confirmed, so that the newest canonical one proves all below it.
    pub(super) async fn start_tracking(&mut self, canonical: &mut CanonicalView) -> Result<(), PollError> {
        self.drain_new_blocks();
        if self.unverified.is_empty() {
            return Ok(());
        }
        // They stay unverified until all are checked, because an endpoint may fail in between.
        let mut blocks = self.unverified.clone();
        blocks.sort_unstable_by_key(|block| (block.signer, std::cmp::Reverse(block.number)));
        canonical
            .prefetch_headers(blocks.iter().filter(|block| block.signer.is_none()).map(|block| block.number))
            .await?;
        let (mut verified, mut unknown, mut proved_signer) = (HashMap::new(), Vec::new(), None);
        for block in blocks {
            let is_proved = block.signer.is_some() && proved_signer == block.signer;
            let canonicity = match is_proved {
                true => Canonicity::Canonical,
                false => canonical.is_canonical(block.number, block.hash).await?,
            };
            match canonicity {
                Canonicity::Canonical => {
                    proved_signer = block.signer;
                    verified.insert(block.id, block);
                }
                Canonicity::NotCanonical => {
                    self.revert_confirmed_block(&block).await?;
                    self.unverified.retain(|other| other.id != block.id);
                }
                Canonicity::Unknown => unknown.push(block),
            }
        }
        if !canonical.is_head_canonical().await? {
            // A reorg happened meanwhile: the headers that verify these blocks may be of another branch.
            return Ok(());
        }
        self.unverified = unknown;
        self.unfinalized.retain(|tracked| !verified.contains_key(&tracked.id));
        self.unfinalized.extend(verified.into_values());
        Ok(())
    }

    fn drain_new_blocks(&mut self) {
        let new = self.parts.follower_inbox.take_blocks();
        if !new.is_empty() {
            let known = self.unfinalized.iter().chain(&self.unverified).map(|block| (block.id, block.hash));
            let known: HashSet<_> = known.collect();
            self.unverified.extend(new.into_iter().filter(|block| !known.contains(&(block.id, block.hash))));
        }
        // The replica that holds a block's lease tracks it.
        self.unverified.retain(|block| self.parts.store.holds_lease(block.lease_address()));
        self.unfinalized.retain(|block| self.parts.store.holds_lease(block.lease_address()));
    }

    /// Reverts the tracked blocks that a reorg removed, from the newest down to the first that is still canonical.
    /// Returns the number of blocks of which that is not known yet.
    pub(super) async fn revert_reorged(&mut self, canonical: &mut CanonicalView) -> Result<usize, PollError> {
        let mut undecided = 0;
        let mut newest_first = self.unfinalized.clone();
        newest_first.sort_unstable_by_key(|block| std::cmp::Reverse(block.number));
        for block in newest_first {
            match canonical.is_canonical(block.number, block.hash).await? {
                Canonicity::Canonical => break,
                Canonicity::NotCanonical => self.revert_confirmed_block(&block).await?,
                Canonicity::Unknown => undecided += 1,
            }
        }
        Ok(undecided)
    }

    /// A confirmed transaction's block is not canonical. Our own transaction is tracked again, and its bytes are
    /// rebroadcast; the registrations of a foreign one are queued. The block is forgotten last, after the writes.
    async fn revert_confirmed_block(&mut self, block: &UnfinalizedBlock) -> Result<(), PollError> {
        let store = &self.parts.store;
        if block.signer.is_some() {
            let at = now();
            store.mark_reorged(block.id, at).await?;
            let mut affected = (0, None, None);
            if let Some(open) = store.open_transaction(block.id).await? {
                let key = (open.signer, open.nonce);
                self.parts.tracker.track(open, Some(at));
                if let Some(tx) = self.parts.in_flight.get(key.0, key.1) {
                    affected = (tx.members.len(), tx.sample_affected(), Some(tx.latest().0));
                }
            }
            let (registrations, sample, hash) = affected;
            events::confirmed_transaction_reorged(
                block.id,
                block.signer,
                hash,
                block.number,
                registrations,
                sample.as_ref(),
            );
            self.parts.waiters.notify_transactions_changed(&[block.id]).await;
        } else {
            let queued = store.requeue_foreign_reorged(block.id, now()).await?;
            events::confirmed_transaction_reorged(block.id, None, None, block.number, queued.len(), None);
            self.parts.queue.notify();
            self.parts.waiters.notify_changed(&queued).await;
        }
        self.unfinalized.retain(|other| other.id != block.id);
        Ok(())
    }
}

fn block_number(header: Option<Header>) -> Option<u64> {
    header.map(|header| header.block.number)
}
