//! Acting for a signer: from taking its lease until losing it, or the end. Whoever takes the lease takes up the work that the last
//! holder left, and only then signs anything new; whoever loses it forgets that work, for it is another replica's now.

use super::{Context, follower::MAX_TRACKED_DEPTH, in_flight::lock, resume, sender::Sender};
use crate::{
    chain::{Backoff, Signer},
    store::{Lease, StoreError, UnfinalizedBlock},
    telemetry::{events, log_retry},
};
use alloy::primitives::Address;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often a lease that another replica holds is asked for: so its signers move within two seconds of its death.
const LEASE_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How often a holder says that it lives: several times in a lease's lifetime.
const LEASE_RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// How often what other replicas have found of other people's transactions is looked for, by the one that watches it.
const FOREIGN_BLOCKS_INTERVAL: Duration = Duration::from_secs(5);

/// What is leased.
#[derive(Debug)]
enum LeaseScope {
    /// A signer: its lane, and what it has out.
    Signer(Signer),
    /// The blocks of other people's transactions that settled work of ours, until they are final.
    ForeignBlocks,
    /// A signer that is not among the settings any more: the blocks that hold its last transactions, until they are final.
    RetiredSigner(Address),
}

impl LeaseScope {
    /// As the log says it: whose it is, and what is done for it.
    fn describe(&self) -> (Option<Address>, &'static str) {
        match self {
            Self::Signer(signer) => (Some(signer.address()), "signer"),
            Self::ForeignBlocks => (None, "watcher of what others registered"),
            Self::RetiredSigner(signer) => (Some(*signer), "watcher of a signer that is not used any more"),
        }
    }
}

/// A place that one replica fills at a time.
#[derive(Debug)]
pub struct LeaseLoop {
    context: Context,
    scope: LeaseScope,
    backoff: Backoff,
}

impl LeaseLoop {
    /// For this signer.
    pub fn for_signer(tools: Context, signer: Signer) -> Self {
        Self { context: tools, scope: LeaseScope::Signer(signer), backoff: Backoff::new() }
    }

    /// For what other people registered.
    pub fn for_foreign_blocks(tools: Context) -> Self {
        Self { context: tools, scope: LeaseScope::ForeignBlocks, backoff: Backoff::new() }
    }

    /// For a signer whose key is not needed any more, and whose last blocks are not final yet.
    pub fn for_retired_signer(tools: Context, signer: Address) -> Self {
        Self { context: tools, scope: LeaseScope::RetiredSigner(signer), backoff: Backoff::new() }
    }

    /// Until `stop`. The lease is given up with the store, when what is under way has been written.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.hold_lease(&stop).await {
                Ok(true) => self.backoff.reset(),
                Ok(false) => drop(stop.run_until_cancelled(tokio::time::sleep(LEASE_RETRY_INTERVAL)).await),
                Err(error) => {
                    log_retry!(error, role = self.scope.describe().1, "a lease waits for the database");
                    stop.run_until_cancelled(tokio::time::sleep(self.backoff.next_delay())).await;
                }
            }
        }
    }

    fn address(&self) -> Address {
        match &self.scope {
            LeaseScope::Signer(signer) => signer.address(),
            LeaseScope::ForeignBlocks => UnfinalizedBlock::FOREIGN_LEASE,
            LeaseScope::RetiredSigner(signer) => *signer,
        }
    }

    /// Serves one time, from taking the lease to its end. Returns `false` while another replica has it.
    async fn hold_lease(&self, stop: &CancellationToken) -> Result<bool, StoreError> {
        let address = self.address();
        let Some(lease) = self.context.store.acquire_lease(address).await? else { return Ok(false) };
        let (signer, role) = self.scope.describe();
        events::lease_acquired(signer, role);
        let lost = stop.child_token();
        let result = tokio::join!(self.renew_loop(lease, &lost), self.run_scope(&lost)).1;
        if !stop.is_cancelled() {
            events::lease_lost(signer, role);
            self.drop_tracked(address);
        }
        result.map(|()| true)
    }

    /// What is another replica's to follow.
    fn drop_tracked(&self, signer: Address) {
        for flight in self.context.in_flight.of_signer(signer) {
            self.context.in_flight.remove(&flight);
        }
        self.context.blockers.set_at_limit(signer, false);
    }

    /// Says that we live, until the lease turns out to be another replica's. While the database does not answer nothing is known,
    /// and nothing can be written either.
    async fn renew_loop(&self, lease: Lease, lost: &CancellationToken) {
        if !self.context.store.is_shared() {
            return lost.cancelled().await;
        }
        let mut said = false;
        while lost.run_until_cancelled(tokio::time::sleep(LEASE_RENEW_INTERVAL)).await.is_some() {
            match self.context.store.renew_lease(lease).await {
                Ok(true) => said = false,
                Ok(false) => lost.cancel(),
                Err(error) if !said => {
                    log_retry!(error, signer = %lease.signer, "a lease could not be renewed: until it is, nothing is signed");
                    said = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn run_scope(&self, lost: &CancellationToken) -> Result<(), StoreError> {
        let result = match &self.scope {
            LeaseScope::Signer(signer) => self.run_sender(signer, lost).await,
            LeaseScope::ForeignBlocks => self.watch_foreign_blocks(lost).await,
            LeaseScope::RetiredSigner(signer) => self.watch_retired_signer(*signer, lost).await,
        };
        if result.is_err() {
            // What was not taken up must not be acted for; the next try takes the lease again.
            lost.cancel();
        }
        result
    }

    async fn run_sender(&self, signer: &Signer, lost: &CancellationToken) -> Result<(), StoreError> {
        resume::resume_signer(&self.context, signer.address()).await?;
        let blocks = self.load_unfinalized_blocks(signer.address()).await?;
        let is_work = blocks > 0 || self.context.in_flight_count(signer.address()) > 0;
        if is_work && lost.run_until_cancelled(self.wait_until_reconciled()).await.is_none() {
            return Ok(());
        }
        Sender::new(self.context.clone(), signer.clone()).run(lost.clone()).await;
        Ok(())
    }

    async fn watch_foreign_blocks(&self, lost: &CancellationToken) -> Result<(), StoreError> {
        self.load_unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE).await?;
        if !self.context.store.is_shared() {
            lost.cancelled().await;
        }
        while lost.run_until_cancelled(tokio::time::sleep(FOREIGN_BLOCKS_INTERVAL)).await.is_some() {
            if let Err(error) = self.load_unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE).await {
                log_retry!(error, "what others have found could not be looked for");
            }
        }
        Ok(())
    }

    /// A reorg that takes something back is mended with the bytes that are on disk, for which no key is needed.
    async fn watch_retired_signer(&self, signer: Address, lost: &CancellationToken) -> Result<(), StoreError> {
        resume::resume_signer(&self.context, signer).await?;
        self.load_unfinalized_blocks(signer).await?;
        lost.cancelled().await;
        Ok(())
    }

    /// Hands what is confirmed and not final to the follower. Returns how much that is.
    async fn load_unfinalized_blocks(&self, address: Address) -> Result<usize, StoreError> {
        let blocks = self.context.store.unfinalized_blocks(address, MAX_TRACKED_DEPTH).await?;
        let count = blocks.len();
        lock(&self.context.new_unfinalized).extend(blocks);
        if count > 0 {
            self.context.in_flight.wake();
        }
        Ok(count)
    }

    /// Waits until the follower has looked at everything once: the first of two polls may have begun before.
    async fn wait_until_reconciled(&self) {
        let mut polls = self.context.poll_count.subscribe();
        for _ in 0..2 {
            polls.mark_unchanged();
            // The sender lives as long as the tools do.
            let _ = polls.changed().await;
        }
    }
}
