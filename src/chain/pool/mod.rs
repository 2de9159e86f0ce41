//! The endpoint pool: routing, failover, hedged reads and validation of heads.
//!
//! Decisions are pure functions: `health_policy` (state of an endpoint), `head_consensus` (comparison of heads),
//! `watermark` (stale answers), `route` (order of endpoints) and `quorum_answers` (whose answer counts). `health` holds
//! their inputs, with `latency`, `error_window`, `throttle` and `head_tracker`. `read`, `send`, `head`, `ask_quorum`
//! and `probe` make the calls.

mod ask_quorum;
mod error_window;
mod head;
mod head_consensus;
mod head_tracker;
mod health;
mod health_policy;
mod latency;
mod probe;
mod quorum_answers;
mod read;
mod route;
mod send;
mod throttle;
mod watermark;

pub use quorum_answers::{QUORUM, SECOND_OPINION_TIMEOUT, Silence};
pub use read::AnswerQuality;
pub use send::BroadcastResult;

use super::{
    CallError, EndpointState, EndpointUrl, Header,
    endpoint::{Endpoint, SetupError},
};
use crate::{
    clock,
    registration::{
        Block,
        diagnosis::{ChainSnapshot, HeadSnapshot, StallSnapshot},
    },
    telemetry::{events, metrics},
};
use alloy::primitives::Address;
use health::{EndpointHealth, StateChange};
use health_policy::{ChainIdCheck, HealthReason};
use parking_lot::{Mutex, MutexGuard};
use quorum_answers::AnswerRecord;
use route::{Candidate, route};
use std::sync::Arc;
use tokio::{sync::watch, time::Instant};
use watermark::{TrustedHead, Watermark};

#[derive(Clone, Debug)]
pub struct EndpointPool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    members: Vec<PoolMember>,
    chain_id: u64,
    /// A network that mines on demand by default.
    local: bool,
    watermark: Mutex<Watermark>,
    reported: Mutex<ReportedState>,
}

#[derive(Debug)]
struct PoolMember {
    endpoint: Endpoint,
    health: Mutex<EndpointHealth>,
    /// For waiting until the state changes.
    state: watch::Sender<EndpointState>,
    /// Its answers to the questions that need two endpoints.
    quorum_record: Mutex<AnswerRecord>,
}

/// What was logged last, so that each change is logged once.
#[derive(Debug, Default)]
struct ReportedState {
    /// `None` before the first and while no endpoint is usable.
    primary: Option<usize>,
    /// Kept while no endpoint is usable.
    previous_primary: Option<usize>,
    stall: Option<(Block, Instant)>,
}

impl EndpointPool {
    pub fn new(urls: &[EndpointUrl], chain_id: u64, local: bool) -> Result<Self, SetupError> {
        let endpoints = urls.iter().map(Endpoint::new).collect::<Result<_, _>>()?;
        Ok(Self::from_endpoints(endpoints, chain_id, local))
    }

    pub fn from_endpoints(endpoints: Vec<Endpoint>, chain_id: u64, local: bool) -> Self {
        let member = |endpoint| {
            let (health, state) =
                (Mutex::new(EndpointHealth::new(Instant::now())), watch::Sender::new(EndpointState::Down));
            PoolMember { endpoint, health, state, quorum_record: Mutex::default() }
        };
        let members = endpoints.into_iter().map(member).collect();
        let (watermark, reported) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { members, chain_id, local, watermark, reported }))
    }

    pub fn is_usable(&self) -> bool {
        self.0.members.iter().any(|member| member.health().state().is_usable())
    }

    pub fn is_throttled(&self) -> bool {
        let now = Instant::now();
        let is_throttled = |member: &PoolMember| {
            let health = member.health();
            health.state().is_usable() && health.is_throttled(now)
        };
        self.0.members.iter().any(is_throttled)
    }

    /// The preferred endpoint, or the last one while none is usable.
    pub fn primary(&self) -> &str {
        let reported = self.0.reported.lock();
        let primary = reported.primary.or(reported.previous_primary).unwrap_or_default();
        self.0.members.get(primary).map_or("", |member| member.endpoint.name())
    }

    pub fn endpoint_count(&self) -> usize {
        self.0.members.len()
    }

    pub fn snapshot(&self, head: Option<HeadSnapshot>) -> ChainSnapshot {
        let (mut usable, mut unusable) = (Vec::new(), Vec::new());
        for member in &self.0.members {
            let health = member.health();
            let list = if health.state().is_usable() { &mut usable } else { &mut unusable };
            list.push(health.snapshot(member.endpoint.name()));
        }
        ChainSnapshot { usable, unusable, stalled: self.stall(), head, mines_on_demand: self.0.local }
    }

    pub fn stall(&self) -> Option<StallSnapshot> {
        let stall = self.0.reported.lock().stall;
        stall.map(|(head, since)| StallSnapshot { head: head.number, duration: since.elapsed() })
    }

    /// `None` before the first probe.
    pub fn last_probed_head(&self) -> Option<Header> {
        self.last_probed_heads().max_by_key(|header| header.block.number)
    }

    /// Of every endpoint that is in sync.
    pub fn last_probed_heads(&self) -> impl Iterator<Item = Header> {
        self.trusted_heads().map(|(header, _)| header)
    }

    /// Of the heads of the last probes, in wei per gas; `None` before the first.
    pub fn lowest_base_fee(&self) -> Option<u128> {
        self.last_probed_heads().map(|header| header.base_fee).min()
    }

    pub fn last_seen_nonce(&self, account: Address) -> Option<u64> {
        self.watermark().nonce(account)
    }

    pub fn head_regressions(&self) -> u64 {
        self.watermark().regressions()
    }

    fn watermark(&self) -> MutexGuard<'_, Watermark> {
        self.0.watermark.lock()
    }

    /// The positions of the usable endpoints, in the order of use.
    pub(in crate::chain) fn route(&self) -> Vec<usize> {
        let now = Instant::now();
        route(self.0.members.iter().map(|member| {
            let health = member.health();
            Candidate { state: health.state(), throttled: health.is_throttled(now) }
        }))
    }

    /// Throttling is reported first: then waiting helps.
    pub fn no_endpoint_error(&self, method: &'static str) -> CallError {
        let now = Instant::now();
        let throttled = self.0.members.iter().find_map(|member| {
            let fault = member.health().throttling_fault(now)?;
            Some(CallError::unavailable(member.endpoint.name(), method, fault))
        });
        throttled.unwrap_or_else(|| {
            let describe = |member: &PoolMember| {
                let snapshot = member.health().snapshot(member.endpoint.name());
                format!("{}: {}", snapshot.name, snapshot.error.as_deref().unwrap_or(snapshot.state))
            };
            let details = self.0.members.iter().map(describe).collect::<Vec<_>>().join("; ");
            CallError::NoEndpoint { method, details }
        })
    }

    /// With the highest number each endpoint has returned.
    fn trusted_heads(&self) -> impl Iterator<Item = (Header, u64)> {
        let now = Instant::now();
        self.0.members.iter().filter_map(move |member| member.health().trusted_head(now))
    }

    /// `own` is the endpoint that has just returned a head.
    fn update_head_statuses(&self, own: usize) {
        let now = Instant::now();
        let heads: Vec<_> = self.0.members.iter().map(|member| member.health().fresh_head(now)).collect();
        let comparison = head_consensus::compare_heads(&heads, now, clock::now());
        for (position, (member, status)) in self.0.members.iter().zip(comparison.statuses).enumerate() {
            if heads[position].is_none() {
                continue;
            }
            let change = member.health().set_head_status(member.endpoint.name(), status, position == own, now);
            self.report_state_change(position, change);
        }
        let trusted: Vec<_> = self
            .trusted_heads()
            .map(|(header, highest)| TrustedHead { head: header.block, highest_number: highest })
            .collect();
        let regression = self.watermark().detect_regression(&trusted, now);
        if let Some((from, to)) = regression {
            self.0.members.iter().for_each(|member| member.health().reset_head());
            events::head_regressed(from.number, to.number);
        }
        self.report_stall(
            comparison.stalled_since,
            trusted.into_iter().map(|trusted| trusted.head).max_by_key(|block| block.number),
        );
    }

    fn report_stall(&self, stalled_since: Option<Instant>, head: Option<Block>) {
        let mut reported = self.0.reported.lock();
        match (stalled_since.zip(head), reported.stall) {
            (Some((since, head)), None) => {
                reported.stall = Some((head, since));
                events::chain_stalled(head.number, since.elapsed(), self.0.local);
            }
            // Without an answer nothing is known to have advanced.
            (None, Some((stalled, since))) if head.is_some_and(|head| head.hash != stalled.hash) => {
                reported.stall = None;
                events::chain_resumed(stalled.number, since.elapsed(), self.0.local);
            }
            (_, Some(_)) | (None, None) => {}
        }
    }

    fn report_state_change(&self, position: usize, change: Option<StateChange>) {
        let Some(change) = change else { return };
        let member = &self.0.members[position];
        self.publish_state(position);
        if change.to == EndpointState::Healthy {
            events::endpoint_healthy(member.endpoint.name(), change.from.code());
        } else {
            events::endpoint_unhealthy(&endpoint_unhealthy_event(&change));
        }
        self.report_primary_change(change.reason.code());
    }

    /// At startup: the endpoints that did not answer.
    pub fn report_down_endpoints(&self) {
        for (position, member) in self.0.members.iter().enumerate() {
            let change = member.health().change_from(EndpointState::Down, member.endpoint.name());
            if change.to == EndpointState::Down {
                let change = StateChange { reason: HealthReason::Unreachable, ..change };
                events::endpoint_unhealthy(&endpoint_unhealthy_event(&change));
                self.publish_state(position);
            }
        }
    }

    fn publish_state(&self, position: usize) {
        let member = &self.0.members[position];
        let state = member.health().state();
        member.state.send_replace(state);
        let states = EndpointState::ALL.map(EndpointState::code);
        metrics().set_rpc_endpoint_state(member.endpoint.name(), state.code(), states);
    }

    fn report_primary_change(&self, reason: &'static str) {
        let name = |position: usize| self.endpoint_name(position);
        // Lock order: no health lock is held here.
        let mut reported = self.0.reported.lock();
        // Throttling does not change the primary.
        let states = self.0.members.iter().map(|member| member.health().state());
        let first = route(states.map(|state| Candidate { state, throttled: false })).first().copied();
        if first == reported.primary {
            return;
        }
        let was_available = reported.primary.is_some();
        reported.previous_primary = reported.primary.or(reported.previous_primary);
        reported.primary = first;
        let Some(first) = first else {
            let snapshot = |member: &PoolMember| member.health().snapshot(member.endpoint.name());
            events::all_endpoints_unavailable(&self.0.members.iter().map(snapshot).collect::<Vec<_>>());
            return;
        };
        // No previous primary: the service is starting.
        let Some(before) = reported.previous_primary else { return };
        if !was_available {
            events::endpoints_available_again(name(first));
        }
        if before != first {
            events::failover(name(before), name(first), reason, first < before);
        }
    }
}

impl PoolMember {
    fn health(&self) -> MutexGuard<'_, EndpointHealth> {
        self.health.lock()
    }
}

fn endpoint_unhealthy_event(change: &StateChange) -> events::EndpointUnhealthy<'_> {
    let snapshot = &change.snapshot;
    events::EndpointUnhealthy {
        endpoint: &snapshot.name,
        state: snapshot.state,
        reason: change.reason.code(),
        error: snapshot.error.as_deref().unwrap_or_default(),
        block_number: snapshot.head,
        lag: snapshot.lag,
        latency: snapshot.latency,
        consecutive_failures: change.consecutive_failures,
    }
}
