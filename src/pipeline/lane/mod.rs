//! One signer's lane: claim, prepare, sign, write, send; strictly in the order of its nonces.
//!
//! A lane sends a transaction before it signs the next: what a node refuses for now never leaves a gap behind it.

mod prepare;
mod send;

use super::{
    Tools,
    flights::{Flight, Phase, lock},
    recovery,
};
use crate::{
    chain::{Delays, Signer},
    registration::{
        Blocked, RegistrationId,
        policy::{batching, window::Window},
    },
    store::StoreError,
    telemetry::{events, spans},
};
use prepare::Obstacle;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// More registrations than fit into any transaction.
const MAX_CLAIM: usize = 650;
/// The longest time until a lane that met an obstacle tries again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Queued work whose time has come is looked for this often when nothing tells of new work.
const IDLE_LOOK: Duration = Duration::from_millis(500);

/// One signer's lane.
#[derive(Debug)]
pub struct Lane {
    tools: Tools,
    signer: Signer,
    /// The nonce after the last one given out; `None` before the first.
    next_nonce: Option<u64>,
    /// At most this many registrations together: halved while a batch reverts, to find the one that is at fault.
    most: usize,
    /// Whether a write failed, so that what is on disk may be more than what is in memory.
    unsure: bool,
    /// How many transactions may be out.
    window: Window,
    delays: Delays,
    /// What it was said to wait for, so that it is reported once.
    told: Option<Blocked>,
}

enum Step {
    Moved,
    Nothing,
    Paused,
}

impl Lane {
    /// A lane for this signer.
    pub fn new(tools: Tools, signer: Signer) -> Self {
        let (window, delays) = (Window::default(), Delays::up_to(LONGEST_PAUSE));
        Self { tools, signer, next_nonce: None, most: MAX_CLAIM, unsure: false, window, delays, told: None }
    }

    /// Works until `stop`; ends between two steps, so that everything it began is either on disk or undone.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut news = self.tools.queue.news();
        self.send_what_is_signed(&stop).await;
        while !stop.is_cancelled() {
            if stop.run_until_cancelled(self.room()).await.is_none() {
                break;
            }
            news.mark_unchanged();
            match self.step(&stop).await {
                Step::Moved => {
                    self.delays.reset();
                    self.told = None;
                }
                Step::Nothing => {
                    let look = tokio::time::timeout(IDLE_LOOK, news.changed());
                    stop.run_until_cancelled(look).await;
                }
                Step::Paused => {
                    let pause = tokio::time::sleep(self.delays.next_delay());
                    stop.run_until_cancelled(pause).await;
                }
            }
        }
    }

    /// Waits until another transaction may go out, and a little more while others are out, for company.
    async fn room(&self) {
        let mut changes = self.tools.flights.changes();
        loop {
            changes.mark_unchanged();
            let in_flight = self.tools.in_flight_of(self.signer.address());
            let full = in_flight >= self.window.size();
            self.tools.set_full(self.signer.address(), full);
            if !full {
                let carried: usize = self.tools.flights.all().iter().map(|flight| flight.members.len()).sum();
                let queued = usize::try_from(self.tools.store.unfinished()).unwrap_or(usize::MAX);
                let linger = batching::linger(in_flight, queued.saturating_sub(carried), MAX_CLAIM);
                return tokio::time::sleep(linger).await;
            }
            // The sender lives as long as the tools do.
            let _ = changes.changed().await;
        }
    }

    async fn step(&mut self, stop: &CancellationToken) -> Step {
        if self.unsure {
            if let Err(error) = recovery::adopt(&self.tools, self.signer.address()).await {
                return self.store_failed(&error);
            }
            self.unsure = false;
            self.send_what_is_signed(stop).await;
        }
        let mut claim = match self.tools.queue.claim(self.signer.address(), self.most).await {
            Ok(claim) if claim.registrations.is_empty() => return Step::Nothing,
            Ok(claim) => claim,
            Err(error) => return self.store_failed(&error),
        };
        let batch = spans::batch(claim.registrations.first().and_then(|first| first.trace.sampled).unwrap_or(false));
        let prepared = batch.run(self.prepare(&mut claim, &batch)).await;
        self.remember(&prepared);
        match prepared {
            Ok(Some(flight)) => {
                drop(claim);
                self.most = (self.most * 2).min(MAX_CLAIM);
                batch.run(self.send(&flight, stop)).await;
                Step::Moved
            }
            Ok(None) => Step::Moved,
            Err(Obstacle::Held(hindrance)) => {
                if self.told == Some(hindrance.blocked()) {
                    batch.repeats();
                }
                self.block(&claim.ids(), hindrance.blocked(), &hindrance.to_string()).await;
                Step::Paused
            }
            Err(Obstacle::PoisonedBatch) => {
                self.most = (claim.registrations.len() / 2).max(1);
                Step::Moved
            }
            Err(Obstacle::Store(error)) => self.store_failed(&error),
        }
    }

    /// What stands in the way now, for whoever asks why.
    fn remember(&self, prepared: &Result<Option<Arc<Flight>>, Obstacle>) {
        let mut hindrances = lock(&self.tools.hindrances);
        match prepared {
            Err(Obstacle::Held(hindrance)) => drop(hindrances.insert(self.signer.address(), hindrance.clone())),
            Ok(_) => drop(hindrances.remove(&self.signer.address())),
            Err(Obstacle::PoisonedBatch | Obstacle::Store(_)) => {}
        }
    }

    fn store_failed(&mut self, error: &StoreError) -> Step {
        warn!(signer = %self.signer.address(), error = %error, "the lane waits for the store");
        // Another writer may have given out nonces; the store knows.
        self.next_nonce = None;
        self.unsure = true;
        Step::Paused
    }

    async fn block(&mut self, ids: &[RegistrationId], blocked: Blocked, detail: &str) {
        let now = super::now();
        match self.tools.store.block(ids, blocked, now, now).await {
            Ok(0) => {}
            Ok(_) => {
                let news = self.told != Some(blocked);
                self.told = Some(blocked);
                events::blocked(self.signer.address(), blocked, ids.len(), detail, news);
                self.tools.waiters.changed(&self.tools.store, ids).await;
            }
            Err(error) => warn!(error = %error, "a blocked reason could not be written"),
        }
    }

    /// What a restart, or a write that failed after its commit, left signed and unsent.
    async fn send_what_is_signed(&mut self, stop: &CancellationToken) {
        for flight in self.tools.flights.of(self.signer.address()) {
            let unsent = flight.progress().phase == Phase::Signed;
            if unsent {
                self.send(&flight, stop).await;
            }
        }
    }
}
