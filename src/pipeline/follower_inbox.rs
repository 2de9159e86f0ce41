//! What others hand to the follower, and how they wait until it has seen it.

use crate::store::UnfinalizedBlock;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Clone, Debug, Default)]
pub(super) struct FollowerInbox {
    blocks: Arc<Mutex<Vec<UnfinalizedBlock>>>,
    polls: Arc<watch::Sender<u64>>,
}

impl FollowerInbox {
    /// Blocks with registrations of ours that the follower tracks until they are final.
    pub(super) fn add_blocks(&self, blocks: impl IntoIterator<Item = UnfinalizedBlock>) {
        self.blocks.lock().extend(blocks);
    }

    pub(super) fn take_blocks(&self) -> Vec<UnfinalizedBlock> {
        std::mem::take(&mut *self.blocks.lock())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.lock().is_empty()
    }

    pub(super) fn on_polled(&self) {
        self.polls.send_modify(|count| *count += 1);
    }

    /// Waits for two polls: the first one may have started before what the caller wants to be seen.
    pub(super) async fn wait_for_poll(&self) {
        let mut polls = self.polls.subscribe();
        for _ in 0..2 {
            polls.mark_unchanged();
            // Fails only when the follower is gone, at shutdown.
            let _ = polls.changed().await;
        }
    }
}
