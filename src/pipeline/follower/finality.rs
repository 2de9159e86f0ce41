//! From confirmed to safe to finalized: each step checks that the block is still the canonical one.

use super::{Canonical, Follower, PollError};
use crate::{
    chain::{BlockTag, Header},
    pipeline::{flights::lock, now, recovery},
    registration::Finality,
    store::UnfinalizedBlock,
};
use std::time::Duration;
use tokio::time::Instant;
use tracing::error;

/// How often the safe and finalized heads are asked for while a confirmed block is not final. They advance by whole L1
/// batches, minutes apart on Base.
const LOOK: Duration = Duration::from_secs(10);
/// How many blocks are checked in one poll.
const AT_ONCE: usize = 16;
/// How often while somebody waits or work is out.
const BUSY_LOOK: Duration = Duration::from_secs(1);

impl Follower {
    /// Raises the finality of confirmed blocks, and finds those that were reorged out.
    pub(super) async fn check_finality(&mut self, canonical: &mut Canonical) -> Result<(), PollError> {
        self.take_over_found();
        let every = if self.tools.flights.is_empty() && self.tools.waiters.is_empty() { LOOK } else { BUSY_LOOK };
        let due = self.finality_looked.is_none_or(|looked| looked.elapsed() >= every);
        if self.unfinalized.is_empty() || !due {
            return Ok(());
        }
        self.finality_looked = Some(Instant::now());
        let (safe, finalized) =
            tokio::try_join!(self.tools.chain.header(BlockTag::Safe), self.tools.chain.header(BlockTag::Finalized))?;
        let (safe, finalized) = (number(safe), number(finalized));
        let reached = |block: &UnfinalizedBlock| match Some(block.number) {
            at if at <= finalized => Finality::Finalized,
            at if at <= safe => Finality::Safe,
            _ => Finality::Unsafe,
        };
        let mut risen: Vec<_> =
            self.unfinalized.iter().filter(|block| reached(block) > block.finality).copied().collect();
        if risen.len() > AT_ONCE {
            // The safe head advances by hundreds of blocks at once; inclusion must not wait for all of them.
            risen.truncate(AT_ONCE);
            self.finality_looked = None;
        }
        canonical.fetch(risen.iter().map(|block| block.number)).await?;
        let (mut made_safe, mut made_final) = (Vec::new(), Vec::new());
        for block in risen {
            let Some(header) = canonical.header(block.number).await? else { continue };
            if header.block.hash != block.hash {
                self.reorged_after_confirmation(&block).await?;
            } else if reached(&block) == Finality::Finalized {
                made_final.push(block.id);
            } else {
                made_safe.push(block.id);
            }
        }
        let at = now();
        for (ids, finality) in [(&made_safe, Finality::Safe), (&made_final, Finality::Finalized)] {
            if ids.is_empty() {
                continue;
            }
            self.tools.store.finality(ids, finality, at).await?;
            for block in self.unfinalized.iter_mut().filter(|block| ids.contains(&block.id)) {
                block.finality = finality;
            }
            self.tools.waiters.changed_transactions(&self.tools.store, ids).await;
        }
        self.unfinalized.retain(|block| block.finality != Finality::Finalized);
        Ok(())
    }

    fn take_over_found(&mut self) {
        let found = std::mem::take(&mut *lock(&self.tools.found));
        for block in found {
            self.unfinalized.retain(|known| known.id != block.id);
            self.unfinalized.push(block);
        }
    }

    /// Finds what a reorg took away, from the newest block down to the first that is still canonical.
    pub(super) async fn demote_unfinalized(&mut self, canonical: &mut Canonical) -> Result<(), PollError> {
        self.take_over_found();
        let mut newest_first = self.unfinalized.clone();
        newest_first.sort_unstable_by_key(|block| std::cmp::Reverse(block.number));
        for block in newest_first {
            match canonical.header(block.number).await? {
                Some(header) if header.block.hash == block.hash => break,
                Some(_) => self.reorged_after_confirmation(&block).await?,
                None => {}
            }
        }
        Ok(())
    }

    /// What was reported as confirmed is not on the canonical chain: our own bytes go out again, and what somebody else had
    /// registered is queued. Only what is written is forgotten here.
    async fn reorged_after_confirmation(&mut self, block: &UnfinalizedBlock) -> Result<(), PollError> {
        error!(transaction_id = %block.id, block_number = block.number, "a confirmed transaction was reorged out");
        let store = &self.tools.store;
        if block.ours {
            store.reorged(block.id, now()).await?;
            if let Some(open) = store.open_transaction(block.id).await? {
                recovery::take_up(&self.tools, open);
            }
            self.tools.waiters.changed_transactions(store, &[block.id]).await;
        } else {
            let queued = store.lost(block.id, now()).await?;
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
