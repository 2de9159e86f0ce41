//! From confirmed to safe to finalized. A block that was canonical is so as long as each head descends from the one before; a
//! poll that finds the line broken looks at every block again first.

use super::{CanonicalView, Follower};
use crate::{
    chain::{BlockTag, CallError, Header},
    pipeline::{error::PollError, now, resume},
    registration::{Finality, TransactionId},
    store::{StoreError, UnfinalizedBlock},
    telemetry::events,
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// How often the safe and finalized heads are asked for while a confirmed block is not final. They advance by whole L1
/// batches, minutes apart on Base.
const FINALITY_POLL_IDLE: Duration = Duration::from_secs(20);
/// How often while somebody waits or work is out.
const FINALITY_POLL_BUSY: Duration = Duration::from_secs(1);
/// How often where somebody may wait on another replica, of which nobody hears here: 24 calls a minute.
const FINALITY_POLL_SHARED: Duration = Duration::from_secs(5);

/// How many transactions share a commit that says how final they are: with 650 registrations each, some 50 ms of the writer's time.
const FINALITY_WRITE_BATCH: usize = 8;

impl Follower {
    /// Raises the finality of confirmed blocks, and finds those that were reorged out.
    pub(super) async fn check_finality(&mut self, canonical: &mut CanonicalView) -> Result<(), PollError> {
        if !self.is_finality_poll_due() {
            return Ok(());
        }
        self.last_finality_poll = Some(Instant::now());
        let (safe, finalized) = tokio::try_join!(
            self.context.chain.header(BlockTag::Safe),
            self.context.chain.header(BlockTag::Finalized)
        )?;
        let (safe, finalized) = (block_number(safe), block_number(finalized));
        self.resume_deep_blocks(canonical.head.block.number, finalized).await?;
        let reached = |block: &UnfinalizedBlock| match Some(block.number) {
            at if at <= finalized => Finality::Finalized,
            at if at <= safe => Finality::Safe,
            _ => Finality::Unsafe,
        };
        let risen: Vec<_> = self.unfinalized.iter().filter(|block| reached(block) > block.finality).copied().collect();
        match self.all_canonical(&risen, canonical).await? {
            Some(true) => {}
            Some(false) => {
                // Some are gone: all are looked at with the next poll, before any of them is called safe.
                (self.verified_head, self.last_finality_poll) = (None, None);
                return Ok(());
            }
            None => {
                // It may be gone although nobody says so: whether that stays so is looked at with every poll.
                self.last_finality_poll = None;
                return Ok(());
            }
        }
        let (mut made_safe, mut made_final) = (Vec::new(), Vec::new());
        for block in risen {
            match reached(&block) {
                Finality::Finalized => made_final.push(block.id),
                Finality::Safe | Finality::Unsafe => made_safe.push(block.id),
            }
        }
        self.raise_finality(&made_safe, Finality::Safe).await?;
        self.raise_finality(&made_final, Finality::Finalized).await?;
        self.unfinalized.retain(|block| block.finality != Finality::Finalized);
        self.stop_tracking_deep(canonical.head.block.number);
        Ok(())
    }

    /// Writes it of a few at a time: a whole L1 batch of them becomes final at once, and what is accepted must not wait for all.
    async fn raise_finality(&mut self, ids: &[TransactionId], finality: Finality) -> Result<(), StoreError> {
        for some in ids.chunks(FINALITY_WRITE_BATCH) {
            self.context.store.raise_finality(some, finality, now()).await?;
            for block in self.unfinalized.iter_mut().filter(|block| some.contains(&block.id)) {
                block.finality = finality;
            }
            self.context.waiters.notify_transactions_changed(some).await;
        }
        Ok(())
    }

    /// Whether the safe and finalized heads are to be asked for.
    pub(super) fn is_finality_poll_due(&mut self) -> bool {
        self.drain_new_blocks();
        let every = match (self.has_waiters_or_pending(), self.context.store.is_shared()) {
            (true, _) => FINALITY_POLL_BUSY,
            (false, true) => FINALITY_POLL_SHARED,
            (false, false) => FINALITY_POLL_IDLE,
        };
        let due = self.last_finality_poll.is_none_or(|looked| looked.elapsed() >= every);
        !self.unverified.is_empty() || due && (self.has_untracked_deep || !self.unfinalized.is_empty())
    }

    /// Whether work is out here, or somebody waits.
    fn has_waiters_or_pending(&self) -> bool {
        !(self.context.in_flight.is_empty() && self.context.waiters.is_empty())
    }

    /// Whether the canonical chain holds these still; `None` when that cannot be said just now. Ours are all on the line that is
    /// followed, so that the newest speaks for all; what a lane found was canonical when it was found, between two polls.
    async fn all_canonical(
        &self,
        blocks: &[UnfinalizedBlock],
        canonical: &mut CanonicalView,
    ) -> Result<Option<bool>, CallError> {
        let newest = blocks.iter().filter(|block| block.signer.is_some()).max_by_key(|block| block.number);
        for block in blocks.iter().filter(|block| block.signer.is_none()).chain(newest) {
            let holds = canonical.is_canonical(block.number, block.hash).await?;
            if holds != Some(true) {
                return Ok(holds);
            }
        }
        Ok(Some(true))
    }

    /// Looks once at the blocks that come with a lease, or that a lane found: nobody has followed them here until now. Those of one
    /// lease were on one line when the newest of them was confirmed, so that of these the newest that is canonical speaks for all
    /// below it.
    pub(super) async fn start_tracking(&mut self, canonical: &mut CanonicalView) -> Result<(), PollError> {
        self.drain_new_blocks();
        if self.unverified.is_empty() {
            return Ok(());
        }
        // They stay arrived until all are looked at, for an endpoint may fail in the middle.
        let mut arrived = self.unverified.clone();
        arrived.sort_unstable_by_key(|block| (block.signer, std::cmp::Reverse(block.number)));
        canonical
            .prefetch_headers(arrived.iter().filter(|block| block.signer.is_none()).map(|block| block.number))
            .await?;
        let (mut held, mut unknown, mut proved) = (HashMap::new(), Vec::new(), None);
        for block in arrived {
            let spoken_for = block.signer.is_some() && proved == block.signer;
            match if spoken_for { Some(true) } else { canonical.is_canonical(block.number, block.hash).await? } {
                Some(true) => {
                    proved = block.signer;
                    held.insert(block.id, block);
                }
                Some(false) => {
                    self.revert_confirmed_block(&block).await?;
                    self.unverified.retain(|other| other.id != block.id);
                }
                None => unknown.push(block),
            }
        }
        if !canonical.is_head_canonical().await? {
            // The line that is followed may have been left: what was found on another one would speak for what is gone.
            return Ok(());
        }
        self.unverified = unknown;
        self.unfinalized.retain(|known| !held.contains_key(&known.id));
        self.unfinalized.extend(held.into_values());
        Ok(())
    }

    fn drain_new_blocks(&mut self) {
        let found = std::mem::take(&mut *self.context.new_unfinalized.lock());
        if !found.is_empty() {
            let known = self.unfinalized.iter().chain(&self.unverified).map(|block| (block.id, block.hash));
            let known: HashSet<_> = known.collect();
            self.unverified.extend(found.into_iter().filter(|block| !known.contains(&(block.id, block.hash))));
        }
        // What another replica acts for by now is watched there.
        self.unverified.retain(|block| self.context.store.holds_lease(block.lease_address()));
        self.unfinalized.retain(|block| self.context.store.holds_lease(block.lease_address()));
    }

    /// Finds what a reorg took away, from the newest block down to the first that is still canonical. Returns whether that is known
    /// of each: one that nobody shows just now is looked at again.
    pub(super) async fn revert_reorged(&mut self, canonical: &mut CanonicalView) -> Result<bool, PollError> {
        let mut known = true;
        let mut newest_first = self.unfinalized.clone();
        newest_first.sort_unstable_by_key(|block| std::cmp::Reverse(block.number));
        for block in newest_first {
            match canonical.is_canonical(block.number, block.hash).await? {
                Some(true) => break,
                Some(false) => self.revert_confirmed_block(&block).await?,
                None => known = false,
            }
        }
        Ok(known)
    }

    /// What was reported as confirmed is not on the canonical chain: our own bytes go out again, and what somebody else had
    /// registered is queued. Only what is written is forgotten here.
    async fn revert_confirmed_block(&mut self, block: &UnfinalizedBlock) -> Result<(), PollError> {
        let store = &self.context.store;
        if block.signer.is_some() {
            let at = now();
            store.mark_reorged(block.id, at).await?;
            let mut affected = (0, None, None);
            if let Some(open) = store.open_transaction(block.id).await? {
                let key = (open.signer, open.nonce);
                resume::track(&self.context, open, Some(at));
                if let Some(flight) = self.context.in_flight.get(key.0, key.1) {
                    affected = (flight.members.len(), flight.sample_affected(), Some(flight.latest().0));
                }
            }
            let (registrations, first, hash) = affected;
            events::confirmed_transaction_reorged(
                block.id,
                block.signer,
                hash,
                block.number,
                registrations,
                first.as_ref(),
            );
            self.context.waiters.notify_transactions_changed(&[block.id]).await;
        } else {
            let queued = store.requeue_foreign_reorged(block.id, now()).await?;
            events::confirmed_transaction_reorged(block.id, None, None, block.number, queued.len(), None);
            self.context.queue.notify();
            self.context.waiters.notify_changed(&queued).await;
        }
        self.unfinalized.retain(|other| other.id != block.id);
        Ok(())
    }
}

fn block_number(header: Option<Header>) -> Option<u64> {
    header.map(|header| header.block.number)
}
