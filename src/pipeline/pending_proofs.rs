//! Proofs of blocks that are not final yet, until they are. In memory: after a restart they are taken again.

use crate::{certificate::Evidence, registration::Block};
use alloy::primitives::B256;
use parking_lot::Mutex;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// About 15 KiB each. Beyond that the oldest one is dropped, and taken again when its caller comes back.
const MAX_PENDING: usize = 500;
/// A block of Base is final after 20 minutes. A proof that no caller has come back for is dropped.
const TTL: Duration = Duration::from_secs(4 * 3_600);

/// By the storage slots of their records.
#[derive(Debug, Default)]
pub(super) struct PendingProofs(Mutex<HashMap<B256, PendingProof>>);

#[derive(Debug)]
struct PendingProof {
    block: Block,
    evidence: Evidence,
    taken_at: Instant,
}

impl PendingProofs {
    pub(super) fn get(&self, slot: B256) -> Option<(Block, Evidence)> {
        let proofs = self.0.lock();
        proofs.get(&slot).map(|pending| (pending.block, pending.evidence.clone()))
    }

    pub(super) fn insert(&self, slot: B256, block: Block, evidence: Evidence) {
        let mut proofs = self.0.lock();
        proofs.retain(|_, pending| pending.taken_at.elapsed() < TTL);
        if proofs.len() >= MAX_PENDING
            && let Some(oldest) = proofs.iter().min_by_key(|(_, pending)| pending.taken_at).map(|(slot, _)| *slot)
        {
            proofs.remove(&oldest);
        }
        proofs.insert(slot, PendingProof { block, evidence, taken_at: Instant::now() });
    }

    pub(super) fn remove(&self, slot: B256) {
        self.0.lock().remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Timestamp;
    use alloy::primitives::{Bytes, U256};

    #[tokio::test(start_paused = true)]
    async fn as_many_as_fit_in_memory_are_kept_for_a_while() {
        let pending = PendingProofs::default();
        let block = Block { number: 7, hash: B256::ZERO, time: Timestamp::from_seconds(7) };
        let empty = Evidence {
            header: Bytes::new(),
            block_hash: B256::ZERO,
            account_proof: Vec::new(),
            storage_proof: Vec::new(),
        };
        let slot = |number: usize| B256::from(U256::from(number));
        for number in 0..=MAX_PENDING {
            pending.insert(slot(number), block, empty.clone());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!((pending.get(slot(0)), pending.0.lock().len()), (None, MAX_PENDING));
        assert_eq!(pending.get(slot(MAX_PENDING)), Some((block, empty.clone())));
        tokio::time::advance(TTL).await;
        pending.insert(slot(0), block, empty);
        assert_eq!(pending.0.lock().len(), 1);
        pending.remove(slot(0));
        assert_eq!(pending.get(slot(0)), None);
    }
}
