//! From confirmed to safe to finalized. A block that was canonical is so as long as each head descends from the one before; a
//! poll that finds the line broken looks at every block again first.

use super::{Canonical, Follower, PollError};
use crate::{
    chain::{BlockTag, CallError, Header},
    pipeline::{flights::lock, now, recovery},
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
const LOOK: Duration = Duration::from_secs(20);
/// How often while somebody waits or work is out.
const BUSY_LOOK: Duration = Duration::from_secs(1);
/// How often where somebody may wait on another replica, of which nobody hears here: 24 calls a minute.
const SHARED_LOOK: Duration = Duration::from_secs(5);

/// How many transactions share a commit that says how final they are: with 650 registrations each, some 50 ms of the writer's time.
const PER_COMMIT: usize = 8;

impl Follower {
    /// Raises the finality of confirmed blocks, and finds those that were reorged out.
    pub(super) async fn check_finality(&mut self, canonical: &mut Canonical) -> Result<(), PollError> {
        if !self.finality_is_due() {
            return Ok(());
        }
        self.finality_looked = Some(Instant::now());
        let (safe, finalized) =
            tokio::try_join!(self.tools.chain.header(BlockTag::Safe), self.tools.chain.header(BlockTag::Finalized))?;
        let (safe, finalized) = (number(safe), number(finalized));
        self.catch_up(canonical.head.block.number, finalized).await?;
        let reached = |block: &UnfinalizedBlock| match Some(block.number) {
            at if at <= finalized => Finality::Finalized,
            at if at <= safe => Finality::Safe,
            _ => Finality::Unsafe,
        };
        let risen: Vec<_> = self.unfinalized.iter().filter(|block| reached(block) > block.finality).copied().collect();
        match self.still_hold(&risen, canonical).await? {
            Some(true) => {}
            Some(false) => {
                // Some are gone: all are looked at with the next poll, before any of them is called safe.
                (self.followed, self.finality_looked) = (None, None);
                return Ok(());
            }
            None => {
                // It may be gone although nobody says so: whether that stays so is looked at with every poll.
                self.finality_looked = None;
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
        self.raise(&made_safe, Finality::Safe).await?;
        self.raise(&made_final, Finality::Finalized).await?;
        self.unfinalized.retain(|block| block.finality != Finality::Finalized);
        self.leave_behind(canonical.head.block.number);
        Ok(())
    }

    /// Writes it of a few at a time: a whole L1 batch of them becomes final at once, and what is accepted must not wait for all.
    async fn raise(&mut self, ids: &[TransactionId], finality: Finality) -> Result<(), StoreError> {
        for some in ids.chunks(PER_COMMIT) {
            self.tools.store.finality(some, finality, now()).await?;
            for block in self.unfinalized.iter_mut().filter(|block| some.contains(&block.id)) {
                block.finality = finality;
            }
            self.tools.waiters.changed_transactions(&self.tools.store, some).await;
        }
        Ok(())
    }

    /// Whether the safe and finalized heads are to be asked for.
    pub(super) fn finality_is_due(&mut self) -> bool {
        self.take_over_found();
        let every = match (self.is_awaited(), self.tools.store.is_shared()) {
            (true, _) => BUSY_LOOK,
            (false, true) => SHARED_LOOK,
            (false, false) => LOOK,
        };
        let due = self.finality_looked.is_none_or(|looked| looked.elapsed() >= every);
        !self.arrived.is_empty() || due && (self.left_behind || !self.unfinalized.is_empty())
    }

    /// Whether work is out here, or somebody waits.
    fn is_awaited(&self) -> bool {
        !(self.tools.flights.is_empty() && self.tools.waiters.is_empty())
    }

    /// Whether the canonical chain holds these still; `None` when that cannot be said just now. Ours are all on the line that is
    /// followed, so that the newest speaks for all; what a lane found was canonical when it was found, between two polls.
    async fn still_hold(
        &self,
        blocks: &[UnfinalizedBlock],
        canonical: &mut Canonical,
    ) -> Result<Option<bool>, CallError> {
        let newest = blocks.iter().filter(|block| block.signer.is_some()).max_by_key(|block| block.number);
        for block in blocks.iter().filter(|block| block.signer.is_none()).chain(newest) {
            let holds = canonical.holds(block.number, block.hash).await?;
            if holds != Some(true) {
                return Ok(holds);
            }
        }
        Ok(Some(true))
    }

    /// Looks once at the blocks that come with a lease, or that a lane found: nobody has followed them here until now. Those of one
    /// lease were on one line when the newest of them was confirmed, so that of these the newest that is canonical speaks for all
    /// below it.
    pub(super) async fn take_over(&mut self, canonical: &mut Canonical) -> Result<(), PollError> {
        self.take_over_found();
        if self.arrived.is_empty() {
            return Ok(());
        }
        // They stay arrived until all are looked at, for an endpoint may fail in the middle.
        let mut arrived = self.arrived.clone();
        arrived.sort_unstable_by_key(|block| (block.signer, std::cmp::Reverse(block.number)));
        canonical.fetch(arrived.iter().filter(|block| block.signer.is_none()).map(|block| block.number)).await?;
        let (mut held, mut unknown, mut proved) = (HashMap::new(), Vec::new(), None);
        for block in arrived {
            let spoken_for = block.signer.is_some() && proved == block.signer;
            match if spoken_for { Some(true) } else { canonical.holds(block.number, block.hash).await? } {
                Some(true) => {
                    proved = block.signer;
                    held.insert(block.id, block);
                }
                Some(false) => {
                    self.reorged_after_confirmation(&block).await?;
                    self.arrived.retain(|other| other.id != block.id);
                }
                None => unknown.push(block),
            }
        }
        if !canonical.head_stands().await? {
            // The line that is followed may have been left: what was found on another one would speak for what is gone.
            return Ok(());
        }
        self.arrived = unknown;
        self.unfinalized.retain(|known| !held.contains_key(&known.id));
        self.unfinalized.extend(held.into_values());
        Ok(())
    }

    fn take_over_found(&mut self) {
        let found = std::mem::take(&mut *lock(&self.tools.found));
        if !found.is_empty() {
            let known = self.unfinalized.iter().chain(&self.arrived).map(|block| (block.id, block.hash));
            let known: HashSet<_> = known.collect();
            self.arrived.extend(found.into_iter().filter(|block| !known.contains(&(block.id, block.hash))));
        }
        // What another replica acts for by now is watched there.
        self.arrived.retain(|block| self.tools.store.holds(block.lease()));
        self.unfinalized.retain(|block| self.tools.store.holds(block.lease()));
    }

    /// Finds what a reorg took away, from the newest block down to the first that is still canonical. Returns whether that is known
    /// of each: one that nobody shows just now is looked at again.
    pub(super) async fn demote_unfinalized(&mut self, canonical: &mut Canonical) -> Result<bool, PollError> {
        let mut known = true;
        let mut newest_first = self.unfinalized.clone();
        newest_first.sort_unstable_by_key(|block| std::cmp::Reverse(block.number));
        for block in newest_first {
            match canonical.holds(block.number, block.hash).await? {
                Some(true) => break,
                Some(false) => self.reorged_after_confirmation(&block).await?,
                None => known = false,
            }
        }
        Ok(known)
    }

    /// What was reported as confirmed is not on the canonical chain: our own bytes go out again, and what somebody else had
    /// registered is queued. Only what is written is forgotten here.
    async fn reorged_after_confirmation(&mut self, block: &UnfinalizedBlock) -> Result<(), PollError> {
        let store = &self.tools.store;
        if block.signer.is_some() {
            let at = now();
            store.reorged(block.id, at).await?;
            let mut affected = (0, None, None);
            if let Some(open) = store.open_transaction(block.id).await? {
                let key = (open.signer, open.nonce);
                recovery::take_up(&self.tools, open, Some(at));
                if let Some(flight) = self.tools.flights.get(key.0, key.1) {
                    affected = (flight.members.len(), flight.first_affected(), Some(flight.latest().0));
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
            self.tools.waiters.changed_transactions(store, &[block.id]).await;
        } else {
            let queued = store.lost(block.id, now()).await?;
            events::confirmed_transaction_reorged(block.id, None, None, block.number, queued.len(), None);
            self.tools.queue.tell();
            self.tools.waiters.changed(store, &queued).await;
        }
        self.unfinalized.retain(|other| other.id != block.id);
        Ok(())
    }
}

fn number(header: Option<Header>) -> Option<u64> {
    header.map(|header| header.block.number)
}
