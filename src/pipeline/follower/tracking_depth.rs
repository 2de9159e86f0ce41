//! How far back confirmed blocks are tracked. While blocks become final, few are not. When finality stops, because a
//! node does not report it or L1 has stopped, the tracked blocks would fill memory without bound; so the deepest are
//! left to the store.

use super::Follower;
use crate::store::StoreError;
use std::collections::HashSet;
use tracing::info;

/// Blocks below the head: 13.9 hours of Base's 200 ms. No reorg is deeper: a block that is not on L1 within the
/// sequencing window of 12 hours is replaced by then, and one that is on L1 is reorged only with L1
/// (<https://specs.optimism.io/glossary.html#sequencing-window>).
pub(in crate::pipeline) const MAX_TRACKED_DEPTH: u64 = 250_000;
/// Blocks that one finality poll resumes from the store.
const MAX_RESUMED_AT_ONCE: u32 = 500;

impl Follower {
    /// Tracks the deep blocks that have become final in the meantime, so that their finality is raised too.
    pub(super) async fn resume_deep_blocks(&mut self, head: u64, finalized: Option<u64>) -> Result<(), StoreError> {
        let (true, Some(finalized)) = (self.has_untracked_deep, finalized) else { return Ok(()) };
        let oldest_tracked = head.saturating_sub(MAX_TRACKED_DEPTH);
        let deep = self.parts.store.unfinalized_up_to(finalized.min(oldest_tracked), MAX_RESUMED_AT_ONCE).await?;
        self.has_untracked_deep = deep.len() == MAX_RESUMED_AT_ONCE as usize || finalized < oldest_tracked;
        let tracked: HashSet<_> = self.unfinalized.iter().map(|block| block.id).collect();
        let store = &self.parts.store;
        let ours =
            deep.into_iter().filter(|block| store.holds_lease(block.lease_address()) && !tracked.contains(&block.id));
        self.unfinalized.extend(ours);
        Ok(())
    }

    pub(super) fn stop_tracking_deep(&mut self, head: u64) {
        let before = self.unfinalized.len();
        self.unfinalized.retain(|block| block.number + MAX_TRACKED_DEPTH > head);
        let removed = before - self.unfinalized.len();
        if removed > 0 {
            self.has_untracked_deep = true;
            info!(
                transactions = removed,
                blocks = MAX_TRACKED_DEPTH,
                "transactions too deep to be reorged are not tracked until they are final"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{self, Chain, EndpointUrl},
        pipeline::{Pipeline, Settings, now},
        registration::{Block, Cost, DocumentHash, NewRegistration, Pair, TransactionId, policy::fees::Fees},
        store::{self, AcceptHandle, Attempt, Inclusion, NewTransaction, Store},
        telemetry::propagation,
    };
    use alloy::primitives::{Address, B256};
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    const SIGNER: Address = Address::repeat_byte(9);

    /// A new follower, on a store with a confirmed transaction in each of these blocks.
    async fn follower(folder: &tempfile::TempDir, blocks: &[u64]) -> Follower {
        let settings = store::Settings::parse(&format!("sqlite://{}/r.db", folder.path().display())).unwrap();
        let store = Store::open(&settings, 100).await.unwrap();
        store.acquire_lease(SIGNER).await.unwrap().unwrap();
        let (acceptor, intake) = AcceptHandle::new(store.clone());
        tokio::spawn(intake.run(CancellationToken::new(), || {}));
        for (nonce, number) in (0_u8..).zip(blocks) {
            let registration = NewRegistration {
                pair: Pair {
                    document_hash: DocumentHash::new([nonce + 1; 32]).unwrap(),
                    case_id: "case".parse().unwrap(),
                },
                submitted_as: String::new(),
                user_id: None,
                caller: None,
                trace: propagation::extract(&http::HeaderMap::new()).into(),
            };
            let member = acceptor.accept(registration).await.unwrap().registration.id;
            let (id, at, hash) = (TransactionId::from(Uuid::now_v7()), now(), B256::repeat_byte(nonce));
            let fees = Fees { max_fee_per_gas: 1, max_priority_fee_per_gas: 1 };
            let attempt = Attempt { hash, raw: vec![nonce].into(), fees };
            let (gas_limit, nonce) = (1, u64::from(nonce));
            let new = NewTransaction {
                id,
                signer: SIGNER,
                nonce,
                gas_limit,
                prepared_at: at,
                signed_at: at,
                attempt,
                max_cost: 0,
                daily_budget: None,
            };
            store.insert_signed_transaction(&new, &[member]).await.unwrap();
            let block = Block { number: *number, hash, time: at };
            let cost = Cost { gas_used: 1, effective_gas_price: 1, l1_fee: None };
            store.mark_included(id, &Inclusion { hash, block, cost }, &[], true, at).await.unwrap();
        }
        // Fails when another test has installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoints = vec![EndpointUrl::parse("http://127.0.0.1:1").unwrap()];
        let (signers, contract) = (chain::SignerSettings::default(), Address::repeat_byte(1));
        let chain = chain::Settings { chain_id: 31337, endpoints, signers, contract, max_fee_per_gas: 1 };
        let settings = Settings {
            confirmations: 1,
            confirmation_timeout: Duration::from_secs(30),
            queue_timeout: Duration::from_secs(60),
            queue_limit: 100,
            daily_budget: None,
            keep_signed_bytes: Duration::from_secs(1),
        };
        Follower::new(Pipeline::new(Chain::new(&chain).unwrap(), store, settings, 1).follower_parts())
    }

    fn tracked(follower: &Follower) -> Vec<u64> {
        let mut numbers: Vec<u64> = follower.unfinalized.iter().map(|block| block.number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[tokio::test]
    async fn blocks_too_deep_for_a_reorg_are_not_tracked_until_they_are_final() {
        let folder = tempfile::tempdir().unwrap();
        let mut follower = follower(&folder, &[10, 20, MAX_TRACKED_DEPTH]).await;
        let store = follower.parts.store.clone();
        follower.unfinalized = store.unfinalized_up_to(u64::MAX >> 1, 10).await.unwrap();
        let head = MAX_TRACKED_DEPTH + 20;

        follower.stop_tracking_deep(head);

        assert_eq!(tracked(&follower), [MAX_TRACKED_DEPTH]);
        follower.resume_deep_blocks(head, None).await.unwrap();
        assert_eq!(tracked(&follower), [MAX_TRACKED_DEPTH], "nothing is final");
        follower.resume_deep_blocks(head, Some(15)).await.unwrap();
        assert_eq!(tracked(&follower), [10, MAX_TRACKED_DEPTH], "its finality can be raised");
        follower.resume_deep_blocks(head, Some(head)).await.unwrap();
        assert_eq!(tracked(&follower), [10, 20, MAX_TRACKED_DEPTH]);
    }

    #[tokio::test]
    async fn a_start_resumes_the_deep_blocks_of_an_earlier_run_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut follower = follower(&folder, &[10, MAX_TRACKED_DEPTH]).await;
        assert!(follower.has_untracked_deep);

        follower.resume_deep_blocks(MAX_TRACKED_DEPTH + 20, Some(MAX_TRACKED_DEPTH + 20)).await.unwrap();

        assert_eq!(tracked(&follower), [10], "the other block is tracked by the holder of the lease");
        assert!(!follower.has_untracked_deep);
    }
}
