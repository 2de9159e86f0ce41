//! Acting for a signer: from taking its lease until losing it, or the end. Whoever takes the lease takes up the work that the last
//! holder left, and only then signs anything new; whoever loses it forgets that work, for it is another replica's now.

use super::{Lane, Tools, flights::lock, follower::DEEPEST, recovery};
use crate::{
    chain::{Delays, Signer},
    store::{Lease, StoreError, UnfinalizedBlock},
    telemetry::{events, hindered},
};
use alloy::primitives::Address;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often a lease that another replica holds is asked for: so its signers move within two seconds of its death.
const LOOK: Duration = Duration::from_millis(500);
/// How often a holder says that it lives: several times in a lease's lifetime.
const RENEW: Duration = Duration::from_secs(1);
/// How often what other replicas have found of other people's transactions is looked for, by the one that watches it.
const LOOK_FOR_FOUND: Duration = Duration::from_secs(5);
/// The longest time between two tries while the database cannot be used.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is leased.
#[derive(Debug)]
enum Charge {
    /// A signer: its lane, and what it has out.
    Signer(Signer),
    /// The blocks of other people's transactions that settled work of ours, until they are final.
    Strangers,
    /// A signer that is not among the settings any more: the blocks that hold its last transactions, until they are final.
    Retired(Address),
}

impl Charge {
    /// As the log says it: whose it is, and what is done for it.
    fn told(&self) -> (Option<Address>, &'static str) {
        match self {
            Self::Signer(signer) => (Some(signer.address()), "signer"),
            Self::Strangers => (None, "watcher of what others registered"),
            Self::Retired(signer) => (Some(*signer), "watcher of a signer that is not used any more"),
        }
    }
}

/// A place that one replica fills at a time.
#[derive(Debug)]
pub struct Tenure {
    tools: Tools,
    charge: Charge,
    delays: Delays,
}

impl Tenure {
    /// For this signer.
    pub fn of(tools: Tools, signer: Signer) -> Self {
        Self { tools, charge: Charge::Signer(signer), delays: Delays::up_to(LONGEST_PAUSE) }
    }

    /// For what other people registered.
    pub fn of_strangers(tools: Tools) -> Self {
        Self { tools, charge: Charge::Strangers, delays: Delays::up_to(LONGEST_PAUSE) }
    }

    /// For a signer whose key is not needed any more, and whose last blocks are not final yet.
    pub fn of_retired(tools: Tools, signer: Address) -> Self {
        Self { tools, charge: Charge::Retired(signer), delays: Delays::up_to(LONGEST_PAUSE) }
    }

    /// Until `stop`. The lease is given up with the store, when what is under way has been written.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.serve(&stop).await {
                Ok(true) => self.delays.reset(),
                Ok(false) => drop(stop.run_until_cancelled(tokio::time::sleep(LOOK)).await),
                Err(error) => {
                    hindered!(error, role = self.charge.told().1, "a lease waits for the database");
                    stop.run_until_cancelled(tokio::time::sleep(self.delays.next_delay())).await;
                }
            }
        }
    }

    fn address(&self) -> Address {
        match &self.charge {
            Charge::Signer(signer) => signer.address(),
            Charge::Strangers => UnfinalizedBlock::STRANGERS,
            Charge::Retired(signer) => *signer,
        }
    }

    /// Serves one time, from taking the lease to its end. Returns `false` while another replica has it.
    async fn serve(&self, stop: &CancellationToken) -> Result<bool, StoreError> {
        let address = self.address();
        let Some(lease) = self.tools.store.acquire(address).await? else { return Ok(false) };
        let (signer, role) = self.charge.told();
        events::lease_taken(signer, role);
        let lost = stop.child_token();
        let result = tokio::join!(self.keep(lease, &lost), self.work(&lost)).1;
        if !stop.is_cancelled() {
            events::lease_lost(signer, role);
            self.forget(address);
        }
        result.map(|()| true)
    }

    /// What is another replica's to follow.
    fn forget(&self, signer: Address) {
        for flight in self.tools.flights.of(signer) {
            self.tools.flights.remove(&flight);
        }
        self.tools.set_full(signer, false);
    }

    /// Says that we live, until the lease turns out to be another replica's. While the database does not answer nothing is known,
    /// and nothing can be written either.
    async fn keep(&self, lease: Lease, lost: &CancellationToken) {
        if !self.tools.store.is_shared() {
            return lost.cancelled().await;
        }
        let mut said = false;
        while lost.run_until_cancelled(tokio::time::sleep(RENEW)).await.is_some() {
            match self.tools.store.renew(lease).await {
                Ok(true) => said = false,
                Ok(false) => lost.cancel(),
                Err(error) if !said => {
                    hindered!(error, signer = %lease.signer, "a lease could not be renewed: until it is, nothing is signed");
                    said = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn work(&self, lost: &CancellationToken) -> Result<(), StoreError> {
        let result = match &self.charge {
            Charge::Signer(signer) => self.sign(signer, lost).await,
            Charge::Strangers => self.watch_strangers(lost).await,
            Charge::Retired(signer) => self.watch_retired(*signer, lost).await,
        };
        if result.is_err() {
            // What was not taken up must not be acted for; the next try takes the lease again.
            lost.cancel();
        }
        result
    }

    async fn sign(&self, signer: &Signer, lost: &CancellationToken) -> Result<(), StoreError> {
        recovery::adopt(&self.tools, signer.address()).await?;
        let blocks = self.take_over_blocks(signer.address()).await?;
        let is_work = blocks > 0 || self.tools.in_flight_of(signer.address()) > 0;
        if is_work && lost.run_until_cancelled(self.reconciled()).await.is_none() {
            return Ok(());
        }
        Lane::new(self.tools.clone(), signer.clone()).run(lost.clone()).await;
        Ok(())
    }

    async fn watch_strangers(&self, lost: &CancellationToken) -> Result<(), StoreError> {
        self.take_over_blocks(UnfinalizedBlock::STRANGERS).await?;
        if !self.tools.store.is_shared() {
            lost.cancelled().await;
        }
        while lost.run_until_cancelled(tokio::time::sleep(LOOK_FOR_FOUND)).await.is_some() {
            if let Err(error) = self.take_over_blocks(UnfinalizedBlock::STRANGERS).await {
                hindered!(error, "what others have found could not be looked for");
            }
        }
        Ok(())
    }

    /// A reorg that takes something back is mended with the bytes that are on disk, for which no key is needed.
    async fn watch_retired(&self, signer: Address, lost: &CancellationToken) -> Result<(), StoreError> {
        recovery::adopt(&self.tools, signer).await?;
        self.take_over_blocks(signer).await?;
        lost.cancelled().await;
        Ok(())
    }

    /// Hands what is confirmed and not final to the follower. Returns how much that is.
    async fn take_over_blocks(&self, address: Address) -> Result<usize, StoreError> {
        let blocks = self.tools.store.unfinalized_blocks(address, DEEPEST).await?;
        let count = blocks.len();
        lock(&self.tools.found).extend(blocks);
        if count > 0 {
            self.tools.flights.tell();
        }
        Ok(count)
    }

    /// Waits until the follower has looked at everything once: the first of two polls may have begun before.
    async fn reconciled(&self) {
        let mut polls = self.tools.polls.subscribe();
        for _ in 0..2 {
            polls.mark_unchanged();
            // The sender lives as long as the tools do.
            let _ = polls.changed().await;
        }
    }
}
