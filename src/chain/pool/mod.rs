//! The endpoints together: who is asked, what is believed, and when another one takes over.
//!
//! Decisions are pure and stand in small files: `judge` (how much is an endpoint trusted), `heads` (what do their heads say about
//! each other), `watermark` (is an answer from before what was seen), `route` (who is asked, in which order). `health` keeps what
//! they decide on, with `circuit`, `failures`, `latency`, `position`, `throttle` and `window`. `read`, `send` and `probe` act.

mod circuit;
mod failures;
mod heads;
mod health;
mod judge;
mod latency;
mod latest;
mod position;
mod probe;
mod read;
mod route;
mod send;
mod throttle;
mod watermark;
mod window;

pub use read::Worth;
pub use send::Sent;

use super::{
    CallError, EndpointState, EndpointUrl, Fault, Header, Overview, Stall,
    endpoint::{Endpoint, SetupError},
};
use crate::{
    clock,
    registration::Block,
    telemetry::{events, metrics},
};
use alloy::primitives::Address;
use health::{Change, Health};
use judge::{ChainProof, Reason};
use route::{Candidate, route};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{sync::watch, time::Instant};
use watermark::{Trusted, Watermark};

/// The endpoints, in order of preference.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    members: Vec<Member>,
    chain_id: u64,
    /// Whether the network is one that mines on demand by default.
    local: bool,
    watermark: Mutex<Watermark>,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Member {
    endpoint: Endpoint,
    health: Mutex<Health>,
    /// The state, for those who wait for it to change.
    state: watch::Sender<EndpointState>,
}

/// What was said already, so that it is said once.
#[derive(Debug, Default)]
struct Told {
    /// The endpoint that is asked first; `None` before the first and while none is usable.
    first: Option<usize>,
    /// The one before, while none is usable.
    last: Option<usize>,
    still: Option<(Block, Instant)>,
}

impl Pool {
    /// The endpoints with these URLs; nothing is asked yet.
    ///
    /// # Errors
    /// When the TLS stack cannot be set up.
    pub fn new(urls: &[EndpointUrl], chain_id: u64, local: bool) -> Result<Self, SetupError> {
        let endpoints = urls.iter().map(Endpoint::new).collect::<Result<_, _>>()?;
        Ok(Self::of(endpoints, chain_id, local))
    }

    /// These endpoints; nothing is asked yet.
    pub fn of(endpoints: Vec<Endpoint>, chain_id: u64, local: bool) -> Self {
        let member = |endpoint| {
            let (health, state) = (Mutex::new(Health::new(Instant::now())), watch::Sender::new(EndpointState::Down));
            Member { endpoint, health, state }
        };
        let members = endpoints.into_iter().map(member).collect();
        let (watermark, told) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { members, chain_id, local, watermark, told }))
    }

    /// Whether an endpoint may be asked now.
    pub fn is_usable(&self) -> bool {
        self.0.members.iter().any(|member| member.health().state().is_usable())
    }

    /// The endpoint that is asked first, or would be.
    pub fn first(&self) -> &str {
        let told = lock(&self.0.told);
        let first = told.first.or(told.last).unwrap_or_default();
        self.0.members.get(first).map_or("", |member| member.endpoint.name())
    }

    /// Every endpoint and the head, as last seen.
    pub fn overview(&self) -> Overview {
        let endpoints = self.0.members.iter().map(|member| member.health().view(member.endpoint.name())).collect();
        let stalled = lock(&self.0.told).still.map(|(head, since)| Stall { head, lasting: since.elapsed() });
        Overview { endpoints, stalled }
    }

    /// The newest head of those that endpoints showed to their last probes; `None` before the first.
    pub fn probed_head(&self) -> Option<Header> {
        self.trusted().map(|(header, _)| header).max_by_key(|header| header.block.number)
    }

    /// The nonce of this account as it was last seen.
    pub fn seen_nonce(&self, account: Address) -> Option<u64> {
        self.watermark().nonce(account)
    }

    /// How often the head fell.
    pub fn falls(&self) -> u64 {
        self.watermark().falls()
    }

    fn watermark(&self) -> MutexGuard<'_, Watermark> {
        lock(&self.0.watermark)
    }

    /// The endpoints to ask, in order.
    fn route(&self) -> Vec<usize> {
        let now = Instant::now();
        route(self.0.members.iter().map(|member| {
            let health = member.health();
            Candidate { state: health.state(), throttled: health.is_throttled(now) }
        }))
    }

    /// Why nobody can be asked: throttled ones want patience, the others are away.
    pub fn nobody(&self, method: &'static str) -> CallError {
        let now = Instant::now();
        let usable = |member: &&Member| member.health().state().is_usable();
        let throttled = self.0.members.iter().filter(usable).find_map(|member| {
            let retry_after = Some(member.health().throttled_for(now)?);
            Some(CallError::unavailable(member.endpoint.name(), method, Fault::Throttled { retry_after }))
        });
        throttled.unwrap_or_else(|| {
            let why = |member: &Member| {
                let view = member.health().view(member.endpoint.name());
                format!("{}: {}", view.name, view.error.unwrap_or_else(|| view.state.code().to_owned()))
            };
            CallError::NoEndpoint { method, why: self.0.members.iter().map(why).collect::<Vec<_>>().join("; ") }
        })
    }

    /// The heads that count, and the highest number each of their endpoints has shown.
    fn trusted(&self) -> impl Iterator<Item = (Header, u64)> {
        let now = Instant::now();
        self.0.members.iter().filter_map(move |member| member.health().trusted(now))
    }

    /// Compares all heads, after the endpoint at `own` has shown a new one.
    fn review(&self, own: usize) {
        let now = Instant::now();
        let heads: Vec<_> = self.0.members.iter().map(|member| member.health().head(now)).collect();
        let review = heads::review(&heads, now, clock::now());
        for (position, (member, standing)) in self.0.members.iter().zip(review.standings).enumerate() {
            if heads[position].is_none() {
                continue;
            }
            let change = member.health().stands(member.endpoint.name(), standing, position == own, now);
            self.changed(position, change);
        }
        let trusted: Vec<_> = self.trusted().map(|(header, highest)| Trusted { head: header.block, highest }).collect();
        let fallen = self.watermark().review(&trusted, now);
        if let Some((from, to)) = fallen {
            self.0.members.iter().for_each(|member| member.health().fell());
            events::head_fell(from.number, to.number);
        }
        self.tell_stall(review.still_since, trusted.into_iter().map(|one| one.head).max_by_key(|block| block.number));
    }

    fn tell_stall(&self, still_since: Option<Instant>, head: Option<Block>) {
        let mut told = lock(&self.0.told);
        match (still_since.zip(head), told.still) {
            (Some((since, head)), None) => {
                told.still = Some((head, since));
                events::chain_stands_still(head.number, since.elapsed(), self.0.local);
            }
            // Silence is no movement.
            (None, Some((still, since))) if head.is_some_and(|head| head.hash != still.hash) => {
                told.still = None;
                events::chain_moves_again(still.number, since.elapsed(), self.0.local);
            }
            (_, Some(_)) | (None, None) => {}
        }
    }

    /// Tells of a change, and of what follows from it for all.
    fn changed(&self, position: usize, change: Option<Change>) {
        let Some(change) = change else { return };
        let member = &self.0.members[position];
        let state = change.view.state;
        self.enter(position);
        if state == EndpointState::Healthy {
            events::endpoint_healthy(member.endpoint.name(), change.from.code());
        } else {
            events::endpoint_unhealthy(&unhealthy(&change));
        }
        self.tell_first(change.reason.code());
    }

    /// Tells, once the service can begin, which endpoints it begins without.
    pub fn tell_absent(&self) {
        for (position, member) in self.0.members.iter().enumerate() {
            let view = member.health().view(member.endpoint.name());
            if view.state == EndpointState::Down {
                let (from, reason) = (EndpointState::Down, Reason::Gone);
                events::endpoint_unhealthy(&unhealthy(&Change { from, view, reason }));
                self.enter(position);
            }
        }
    }

    /// Shows the state that an endpoint has come to.
    fn enter(&self, position: usize) {
        let member = &self.0.members[position];
        let state = member.health().state();
        member.state.send_replace(state);
        let states = EndpointState::ALL.map(EndpointState::code);
        metrics().rpc_endpoint_state(member.endpoint.name(), state.code(), states);
    }

    /// Tells when another endpoint is asked first, or none, or one again.
    fn tell_first(&self, reason: &'static str) {
        let name = |position: usize| self.name(position);
        // Nobody holds a health who takes this one.
        let mut told = lock(&self.0.told);
        // Patience does not change who is preferred.
        let states = self.0.members.iter().map(|member| member.health().state());
        let first = route(states.map(|state| Candidate { state, throttled: false })).first().copied();
        if first == told.first {
            return;
        }
        let was_available = told.first.is_some();
        told.last = told.first.or(told.last);
        told.first = first;
        let Some(first) = first else {
            events::all_endpoints_unavailable(self.0.members.len());
            return;
        };
        // None before: the service begins.
        let Some(before) = told.last else { return };
        if !was_available {
            events::endpoints_available_again(name(first));
        }
        if before != first {
            events::failover(name(before), name(first), reason, first < before);
        }
    }
}

impl Member {
    fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }
}

fn unhealthy(change: &Change) -> events::EndpointUnhealthy<'_> {
    let view = &change.view;
    events::EndpointUnhealthy {
        endpoint: &view.name,
        state: view.state.code(),
        reason: change.reason.code(),
        error: view.error.as_deref().unwrap_or_default(),
        block_number: view.head.map(|head| head.number),
        lag: view.lag,
        latency: view.latency,
        consecutive_failures: view.consecutive_failures,
    }
}

/// A lock whose holder panicked holds data that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
