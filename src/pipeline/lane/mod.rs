//! One signer's lane: claim, prepare, sign, write, send; strictly in the order of its nonces. And what is out is looked after: sent
//! again, signed again, or unstuck.
//!
//! A lane sends a transaction before it signs the next: what a node refuses for now never leaves a gap behind it.

mod gap;
mod prepare;
mod purse;
mod rehearse;
mod replace;
mod send;
mod standing;
mod tend;

use super::{
    Tools,
    flights::{Flight, Phase},
    recovery,
};
use crate::{
    chain::{Delays, Signer},
    registration::{
        Blocked, RegistrationId,
        policy::{batching, window::Window},
    },
    store::StoreError,
    telemetry::{events, hindered, spans},
};
use alloy::primitives::Address;
use prepare::Obstacle;
pub use rehearse::rehearse;
pub use standing::Standings;
use standing::{Wanted, affordable};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// More registrations than fit into any transaction.
const MAX_CLAIM: usize = batching::MOST;
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
    /// When bytes that no node took go out again.
    send_at: Instant,
    /// When the chain is next asked whether an earlier nonce is missing.
    gap_at: Instant,
    /// When a version is next made that the day's budget has to allow, after it did not allow one.
    budget_at: Instant,
    /// Until when what stands in the way is only looked at again, and not tried.
    earnest_at: Instant,
    /// Held while the lane waits for fees to fall.
    wanted: Option<Wanted>,
    /// What it was said to wait for, so that it is reported once, and since when it waits for anything.
    told: Option<(Blocked, Instant)>,
}

enum Step {
    Moved,
    Nothing,
    Paused,
}

/// When the queue is looked at next.
struct Look {
    at: Instant,
    /// Whether news of it are worth a look before.
    idle: bool,
}

impl Lane {
    /// A lane for this signer.
    pub fn new(tools: Tools, signer: Signer) -> Self {
        let (window, delays) = (Window::default(), Delays::up_to(LONGEST_PAUSE));
        let now = Instant::now();
        Self {
            tools,
            signer,
            next_nonce: None,
            most: MAX_CLAIM,
            unsure: false,
            window,
            delays,
            send_at: now,
            gap_at: now,
            budget_at: now,
            earnest_at: now,
            wanted: None,
            told: None,
        }
    }

    fn address(&self) -> Address {
        self.signer.address()
    }

    /// Works until `stop`; ends between two steps, so that everything it began is either on disk or undone.
    pub async fn run(mut self, stop: CancellationToken) {
        let _on_duty = self.tools.standings.on_duty(self.address());
        let (mut news, mut heads) = (self.tools.queue.news(), self.tools.head.subscribe());
        let mut changes = self.tools.flights.changes();
        let mut look = Look { at: Instant::now(), idle: true };
        while !stop.is_cancelled() {
            heads.mark_unchanged();
            changes.mark_unchanged();
            if self.unsure && !self.read_up().await {
                stop.run_until_cancelled(tokio::time::sleep(self.delays.next_delay())).await;
                continue;
            }
            let clear = self.tend(&stop).await;
            let room = self.has_room();
            if clear && room && Instant::now() >= look.at {
                stop.run_until_cancelled(self.linger()).await;
                news.mark_unchanged();
                look = match self.step().await {
                    Step::Moved => {
                        self.delays.reset();
                        look.at = Instant::now();
                        continue;
                    }
                    Step::Nothing => Look { at: Instant::now() + IDLE_LOOK, idle: true },
                    Step::Paused => Look { at: Instant::now() + self.delays.next_delay(), idle: false },
                };
            }
            let until = match (clear, room) {
                (false, _) => self.send_at,
                (true, false) => Instant::now() + IDLE_LOOK,
                (true, true) => look.at,
            };
            // The senders live as long as the tools do.
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until(until) => {}
                _ = changes.changed() => {}
                _ = heads.changed() => if self.is_affordable_again() { look.at = Instant::now() },
                _ = news.changed(), if look.idle => look.at = Instant::now(),
            }
        }
    }

    /// Whether another transaction may go out.
    fn has_room(&self) -> bool {
        let full = self.tools.in_flight_of(self.address()) >= self.window.size();
        self.tools.set_full(self.address(), full);
        !full
    }

    /// A little time for company while others are out.
    async fn linger(&self) {
        let carried: usize = self.tools.flights.all().iter().map(|flight| flight.members.len()).sum();
        let queued = usize::try_from(self.tools.store.unfinished()).unwrap_or(usize::MAX);
        let in_flight = self.tools.in_flight_of(self.address());
        tokio::time::sleep(batching::linger(in_flight, queued.saturating_sub(carried), MAX_CLAIM)).await;
    }

    async fn step(&mut self) -> Step {
        if let Some(hindrance) = self.tools.standings.hindrance(self.address())
            && Instant::now() < self.earnest_at
            && self.still_hinders(&hindrance).await
        {
            return self.wait(&hindrance).await;
        }
        let mut claim = match self.tools.queue.claim(self.signer.address(), self.most).await {
            Ok(claim) if claim.registrations.is_empty() => return Step::Nothing,
            Ok(claim) => claim,
            Err(error) => return self.store_failed(&error),
        };
        let batch = spans::batch(claim.registrations.first().and_then(|first| first.trace.sampled).unwrap_or(false));
        let prepared = batch.run(self.prepare(&mut claim, &batch)).await;
        match prepared {
            Ok(flight) => {
                drop(claim);
                self.tools.standings.moves(self.address());
                self.wanted = None;
                self.tell_unblocked();
                if let Some(flight) = flight {
                    self.most = (self.most * 2).min(MAX_CLAIM);
                    batch.run(self.send(&flight)).await;
                }
                Step::Moved
            }
            Err(Obstacle::Held(hindrance)) => {
                if let Some(fewer) = affordable(&hindrance, claim.registrations.len()) {
                    self.most = fewer;
                    // Tried at once, and with no more than these.
                    self.tools.standings.moves(self.address());
                    batch.repeats();
                    return Step::Moved;
                }
                if self.told.is_some_and(|(told, _)| told == hindrance.blocked()) {
                    batch.repeats();
                }
                let is_left = self.hindered(&claim.ids(), hindrance).await;
                if is_left {
                    self.tools.queue.leave(claim).await;
                }
                Step::Paused
            }
            Err(Obstacle::PoisonedBatch) => {
                self.most = (claim.registrations.len() / 2).max(1);
                Step::Moved
            }
            Err(Obstacle::Store(error)) => self.store_failed(&error),
        }
    }

    /// Takes up what was written although nobody was told. Whatever there is to be looked after has to be known first: it may be what
    /// everything else waits for.
    async fn read_up(&mut self) -> bool {
        match recovery::adopt(&self.tools, self.address()).await {
            Ok(()) => self.unsure = false,
            Err(error) => drop(self.store_failed(&error)),
        }
        !self.unsure
    }

    fn store_failed(&mut self, error: &StoreError) -> Step {
        hindered!(error, signer = %self.address(), "the lane waits for the store");
        // Another writer may have given out nonces; the store knows.
        self.next_nonce = None;
        self.unsure = true;
        Step::Paused
    }

    async fn block(&mut self, ids: &[RegistrationId], blocked: Blocked, detail: &str) {
        let now = super::now();
        match self.tools.store.block(ids, blocked, now, now).await {
            Ok(0) => {}
            Ok(_) => self.tell_blocked(ids, blocked, detail).await,
            Err(error) => hindered!(error, "a blocked reason could not be written"),
        }
    }

    async fn tell_blocked(&mut self, ids: &[RegistrationId], blocked: Blocked, detail: &str) {
        let news = self.told.is_none_or(|(told, _)| told != blocked);
        let since = self.told.map_or_else(Instant::now, |(_, since)| since);
        self.told = Some((blocked, since));
        events::blocked(self.address(), blocked, ids.len(), detail, news);
        self.tools.waiters.changed(&self.tools.store, ids).await;
    }

    /// What was said to be in the way is not any more.
    fn tell_unblocked(&mut self) {
        if let Some((blocked, since)) = self.told.take() {
            events::unblocked(self.address(), blocked, since.elapsed());
        }
    }
}
