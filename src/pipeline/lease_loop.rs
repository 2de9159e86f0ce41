//! Acting for a signer, from acquiring its lease until losing it or shutdown. A new holder first resumes the
//! transactions that the last holder left, and only then signs anything new. A holder that loses the lease drops them:
//! another replica has them.

use super::{
    blockers::SenderBlockers,
    follower::tracking_depth::MAX_TRACKED_DEPTH,
    follower_inbox::FollowerInbox,
    in_flight::PendingTxs,
    resume::Tracker,
    sender::{Sender, SenderParts},
};
use crate::{
    chain::{Backoff, Signer},
    store::{Lease, Store, StoreError, UnfinalizedBlock},
    telemetry::{events, log_retry},
};
use alloy::primitives::Address;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Between two attempts to acquire a lease that another replica holds: its signers are served within two seconds of its
/// death.
const LEASE_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Several times within `LEASE_TTL`.
const LEASE_RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// Between two reads of the foreign blocks that other replicas have found.
const FOREIGN_BLOCKS_INTERVAL: Duration = Duration::from_secs(5);

/// What a lease is for.
#[derive(Debug)]
enum LeaseScope {
    /// A configured signer: its sender and its pending transactions.
    Signer(Box<SenderParts>, Signer),
    /// Blocks in which another sender's transaction registered a pair of ours, until they are final.
    ForeignBlocks,
    /// A signer that is no longer configured: the blocks with its last transactions, until they are final.
    RetiredSigner(Address),
}

impl LeaseScope {
    /// The signer, and the role as the log names it.
    fn describe(&self) -> (Option<Address>, &'static str) {
        match self {
            Self::Signer(_, signer) => (Some(signer.address()), "signer"),
            Self::ForeignBlocks => (None, "foreign blocks"),
            Self::RetiredSigner(signer) => (Some(*signer), "retired signer"),
        }
    }
}

enum LeaseAttempt {
    /// This replica held it, and has it no longer.
    Held,
    HeldElsewhere,
}

/// What every lease loop of a process uses.
#[derive(Clone, Debug)]
pub(super) struct LeaseParts {
    pub(super) store: Store,
    pub(super) in_flight: Arc<PendingTxs>,
    pub(super) blockers: SenderBlockers,
    pub(super) follower_inbox: FollowerInbox,
    pub(super) tracker: Tracker,
}

/// A role that one replica has at a time.
#[derive(Debug)]
pub(super) struct LeaseLoop {
    parts: LeaseParts,
    scope: LeaseScope,
    backoff: Backoff,
}

impl LeaseLoop {
    pub(super) fn for_signer(parts: LeaseParts, sender_parts: SenderParts, signer: Signer) -> Self {
        Self::new(parts, LeaseScope::Signer(Box::new(sender_parts), signer))
    }

    pub(super) fn for_foreign_blocks(parts: LeaseParts) -> Self {
        Self::new(parts, LeaseScope::ForeignBlocks)
    }

    pub(super) fn for_retired_signer(parts: LeaseParts, signer: Address) -> Self {
        Self::new(parts, LeaseScope::RetiredSigner(signer))
    }

    fn new(parts: LeaseParts, scope: LeaseScope) -> Self {
        Self { parts, scope, backoff: Backoff::new() }
    }

    /// Runs until `stop`. The lease is released with the store, after what is under way has been written.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.hold_lease(&stop).await {
                Ok(LeaseAttempt::Held) => self.backoff.reset(),
                Ok(LeaseAttempt::HeldElsewhere) => {
                    stop.run_until_cancelled(tokio::time::sleep(LEASE_RETRY_INTERVAL)).await;
                }
                Err(error) => {
                    log_retry!(error, role = self.scope.describe().1, "lease acquisition failed, retrying");
                    stop.run_until_cancelled(tokio::time::sleep(self.backoff.next_delay())).await;
                }
            }
        }
    }

    fn address(&self) -> Address {
        match &self.scope {
            LeaseScope::Signer(_, signer) => signer.address(),
            LeaseScope::ForeignBlocks => UnfinalizedBlock::FOREIGN_LEASE,
            LeaseScope::RetiredSigner(signer) => *signer,
        }
    }

    /// Holds the lease once, from acquiring to losing it.
    async fn hold_lease(&self, stop: &CancellationToken) -> Result<LeaseAttempt, StoreError> {
        let address = self.address();
        let Some(lease) = self.parts.store.acquire_lease(address).await? else {
            return Ok(LeaseAttempt::HeldElsewhere);
        };
        let (signer, role) = self.scope.describe();
        events::lease_acquired(signer, role);
        let lost = stop.child_token();
        let result = tokio::join!(self.renew_loop(lease, &lost), self.run_scope(&lost)).1;
        if !stop.is_cancelled() {
            events::lease_lost(signer, role);
            self.drop_tracked(address);
        }
        result.map(|()| LeaseAttempt::Held)
    }

    /// Another replica tracks these from now on.
    fn drop_tracked(&self, signer: Address) {
        for pending_tx in self.parts.in_flight.of_signer(signer) {
            self.parts.in_flight.remove(&pending_tx);
        }
        self.parts.blockers.set_at_limit(signer, false);
    }

    /// Renews until another replica has the lease. While the database does not answer, the lease's state is unknown;
    /// nothing can be written then either.
    async fn renew_loop(&self, lease: Lease, lost: &CancellationToken) {
        if !self.parts.store.is_shared() {
            return lost.cancelled().await;
        }
        let mut is_reported = false;
        while lost.run_until_cancelled(tokio::time::sleep(LEASE_RENEW_INTERVAL)).await.is_some() {
            match self.parts.store.renew_lease(lease).await {
                Ok(true) => is_reported = false,
                Ok(false) => lost.cancel(),
                Err(error) if !is_reported => {
                    log_retry!(error, signer = %lease.signer, "failed to renew a lease; nothing is signed until it succeeds");
                    is_reported = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn run_scope(&self, lost: &CancellationToken) -> Result<(), StoreError> {
        let result = match &self.scope {
            LeaseScope::Signer(parts, signer) => self.run_sender(parts, signer, lost).await,
            LeaseScope::ForeignBlocks => self.watch_foreign_blocks(lost).await,
            LeaseScope::RetiredSigner(signer) => self.watch_retired_signer(*signer, lost).await,
        };
        if result.is_err() {
            // The work of the last holder is not resumed: give the lease up, and acquire it again.
            lost.cancel();
        }
        result
    }

    async fn run_sender(
        &self,
        parts: &SenderParts,
        signer: &Signer,
        lost: &CancellationToken,
    ) -> Result<(), StoreError> {
        self.parts.tracker.resume_signer(signer.address()).await?;
        let blocks = self.load_unfinalized_blocks(signer.address()).await?;
        let is_work = blocks > 0 || self.parts.in_flight.count_of_signer(signer.address()) > 0;
        if is_work && lost.run_until_cancelled(self.parts.follower_inbox.wait_for_poll()).await.is_none() {
            return Ok(());
        }
        Sender::new(parts.clone(), signer.clone()).run(lost.clone()).await;
        Ok(())
    }

    async fn watch_foreign_blocks(&self, lost: &CancellationToken) -> Result<(), StoreError> {
        self.load_unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE).await?;
        if !self.parts.store.is_shared() {
            lost.cancelled().await;
        }
        while lost.run_until_cancelled(tokio::time::sleep(FOREIGN_BLOCKS_INTERVAL)).await.is_some() {
            if let Err(error) = self.load_unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE).await {
                log_retry!(error, "failed to read foreign blocks");
            }
        }
        Ok(())
    }

    /// After a reorg the signed bytes on disk are rebroadcast, which needs no key.
    async fn watch_retired_signer(&self, signer: Address, lost: &CancellationToken) -> Result<(), StoreError> {
        self.parts.tracker.resume_signer(signer).await?;
        self.load_unfinalized_blocks(signer).await?;
        lost.cancelled().await;
        Ok(())
    }

    /// Hands the blocks that are confirmed and not final to the follower, and returns how many there are.
    async fn load_unfinalized_blocks(&self, address: Address) -> Result<usize, StoreError> {
        let blocks = self.parts.store.unfinalized_blocks(address, MAX_TRACKED_DEPTH).await?;
        let count = blocks.len();
        self.parts.follower_inbox.add_blocks(blocks);
        if count > 0 {
            self.parts.in_flight.wake();
        }
        Ok(count)
    }
}
