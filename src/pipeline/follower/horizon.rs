//! How far back confirmed blocks are followed. Where blocks become final, all that are not are few. Where that stays out, for a node
//! does not say what is final or L1 has stopped, they would fill memory without end; so the deepest are left to the store.

use super::Follower;
use crate::store::StoreError;
use std::collections::HashSet;
use tracing::info;

/// Blocks that are so much deeper than the newest are not followed: 13.9 hours of Base's 200 ms. No reorg reaches them: what a
/// batch has not put on L1 within the sequencing window of 12 hours is replaced by then, and what it has is reorged with L1 alone
/// (<https://specs.optimism.io/glossary.html#sequencing-window>).
pub(in crate::pipeline) const DEEPEST: u64 = 250_000;
/// How many of those that were left behind are taken up again at once, when they are final after all.
const AT_ONCE: u32 = 500;

impl Follower {
    /// Takes up what was left behind and is final by now, so that it is said of it too.
    pub(super) async fn catch_up(&mut self, head: u64, finalized: Option<u64>) -> Result<(), StoreError> {
        let (true, Some(finalized)) = (self.left_behind, finalized) else { return Ok(()) };
        let deepest = finalized.min(head.saturating_sub(DEEPEST));
        let left = self.tools.store.unfinalized_below(deepest, AT_ONCE).await?;
        self.left_behind = left.len() == AT_ONCE as usize;
        let followed: HashSet<_> = self.unfinalized.iter().map(|block| block.id).collect();
        let store = &self.tools.store;
        let ours = left.into_iter().filter(|block| store.holds(block.lease()) && !followed.contains(&block.id));
        self.unfinalized.extend(ours);
        Ok(())
    }

    /// Leaves the deepest behind.
    pub(super) fn leave_behind(&mut self, head: u64) {
        let before = self.unfinalized.len();
        self.unfinalized.retain(|block| block.number + DEEPEST > head);
        let left = before - self.unfinalized.len();
        if left > 0 {
            self.left_behind = true;
            info!(transactions = left, blocks = DEEPEST, "transactions so deep are not followed until they are final");
        }
    }
}
