//! The health of one endpoint, updated by every call and probe; `health_policy` derives the state.

use super::{
    error_window::{ERROR_WINDOW, ErrorWindow},
    head_consensus::ObservedHead,
    head_tracker::HeadTracker,
    health_policy::{ChainIdCheck, HeadStatus, HealthInputs, HealthReason, next_state},
    latency::LatencyTracker,
    throttle::{Throttle, began_since},
};
use crate::{
    chain::{Backoff, CallError, EndpointFault, EndpointState, Header, RejectReason},
    registration::diagnosis::EndpointSnapshot,
};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// After this long as healthy, the circuit breaker starts again with its shortest time.
const CIRCUIT_RESET_AFTER: Duration = Duration::from_secs(60);
/// Between two questions for the chain id of a quarantined endpoint, with another endpoint and without one.
const QUARANTINE_RECHECK: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));

#[derive(Debug)]
pub struct EndpointHealth {
    state: EndpointState,
    reason: HealthReason,
    since: Instant,
    chain_id_check: ChainIdCheck,
    chain_id_checked_at: Instant,
    consecutive_failures: u32,
    last_failure: Option<Instant>,
    last_timed_out: bool,
    recent_timeouts: VecDeque<Instant>,
    window: ErrorWindow,
    latency: LatencyTracker,
    head_tracker: HeadTracker,
    syncing: bool,
    good_probes: u32,
    throttle: Throttle,
    circuit_backoff: Backoff,
    /// Has a meaning only while the endpoint is down.
    circuit_open_until: Instant,
    error: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct StateChange {
    pub from: EndpointState,
    pub to: EndpointState,
    pub reason: HealthReason,
    pub consecutive_failures: u32,
    pub snapshot: EndpointSnapshot,
}

impl EndpointHealth {
    /// Down until its chain id is verified.
    pub fn new(now: Instant) -> Self {
        Self {
            state: EndpointState::Down,
            reason: HealthReason::Unreachable,
            since: now,
            chain_id_check: ChainIdCheck::Unknown,
            chain_id_checked_at: now,
            consecutive_failures: 0,
            last_failure: None,
            last_timed_out: false,
            recent_timeouts: VecDeque::new(),
            window: ErrorWindow::default(),
            latency: LatencyTracker::default(),
            head_tracker: HeadTracker::new(),
            syncing: false,
            good_probes: 0,
            throttle: Throttle::new(),
            circuit_backoff: Backoff::for_circuit_breaker(),
            circuit_open_until: now,
            error: None,
        }
    }

    pub fn state(&self) -> EndpointState {
        self.state
    }

    /// Whether its answer about a block of the chain counts: one that is behind does not have the block yet.
    pub fn can_join_quorum(&self) -> bool {
        self.state.is_usable() && self.head_tracker.status() == HeadStatus::InSync && !self.syncing
    }

    pub fn chain_id_check(&self) -> ChainIdCheck {
        self.chain_id_check
    }

    pub fn is_throttled(&self, now: Instant) -> bool {
        self.throttle.remaining(now).is_some()
    }

    /// What a call that is not made would find.
    pub fn throttling_fault(&self, now: Instant) -> Option<EndpointFault> {
        self.throttle.fault(now)
    }

    /// Whether it is left alone now, even by probes.
    pub fn is_left_alone(&self, now: Instant, has_alternative: bool) -> bool {
        if self.state == EndpointState::Quarantined && self.chain_id_check != ChainIdCheck::Match {
            let (interval, without_alternative) = QUARANTINE_RECHECK;
            let interval = if has_alternative { interval } else { without_alternative };
            return now.saturating_duration_since(self.chain_id_checked_at) < interval;
        }
        // An endpoint without an alternative is asked earlier.
        let throttled = self.is_throttled(now) && (has_alternative || !self.throttle.is_early_probe_due(now));
        throttled || (has_alternative && self.is_circuit_open(now))
    }

    pub fn hedge_after(&self) -> Duration {
        self.latency.hedge_after()
    }

    /// Not even probes are sent.
    pub fn is_circuit_open(&self, now: Instant) -> bool {
        self.state == EndpointState::Down && now < self.circuit_open_until
    }

    /// Opens it, or keeps it open after a failed probe.
    pub fn open_circuit(&mut self, now: Instant) {
        self.circuit_open_until = now + self.circuit_backoff.next_delay();
    }

    /// After a good probe: the next one is not delayed.
    pub fn half_open_circuit(&mut self, now: Instant) {
        self.circuit_open_until = now;
    }

    /// `None` while calls fail: an earlier head says nothing about the chain.
    pub fn fresh_head(&self, now: Instant) -> Option<ObservedHead> {
        self.head_tracker.fresh_head(now).filter(|_| self.state.is_usable() && self.consecutive_failures == 0)
    }

    pub fn snapshot(&self, name: &str) -> EndpointSnapshot {
        EndpointSnapshot {
            name: name.to_owned(),
            state: self.state.code(),
            head: self.head_tracker.last_head().map(|header| header.block.number),
            lag: match self.head_tracker.status() {
                HeadStatus::Lagging(lag) => Some(lag),
                HeadStatus::InSync | HeadStatus::Implausible => None,
            },
            latency: self.latency.mean(),
            error: match self.reason {
                HealthReason::Ok if self.state == EndpointState::Healthy => None,
                HealthReason::Ok | HealthReason::Unreachable | HealthReason::TimedOut => self.error.clone(),
                HealthReason::WrongChainId(_)
                | HealthReason::RateLimited
                | HealthReason::QuotaSpent
                | HealthReason::Flapping
                | HealthReason::HighErrorRate(_)
                | HealthReason::HighLatency(_)
                | HealthReason::Lagging(_)
                | HealthReason::ImplausibleHead
                | HealthReason::Syncing => Some(self.reason.to_string()),
            },
        }
    }

    pub fn change_from(&self, from: EndpointState, name: &str) -> StateChange {
        StateChange {
            from,
            to: self.state,
            reason: self.reason,
            consecutive_failures: self.consecutive_failures,
            snapshot: self.snapshot(name),
        }
    }

    /// Neither a rejected request nor throttling counts against the endpoint.
    pub fn record_call(
        &mut self,
        name: &str,
        error: Option<&CallError>,
        took: Duration,
        now: Instant,
    ) -> Option<StateChange> {
        match error {
            Some(CallError::Unavailable { fault: EndpointFault::Throttled { retry_after }, .. }) => {
                self.record_throttling(false, *retry_after, now);
            }
            Some(CallError::Unavailable { fault: EndpointFault::QuotaSpent { retry_after }, .. }) => {
                self.record_throttling(true, *retry_after, now);
            }
            Some(CallError::Unavailable { fault, .. }) => {
                if !self.is_throttled(now) {
                    self.throttle.clear(took, now);
                }
                let timed_out = *fault == EndpointFault::Timeout;
                self.count_failure(timed_out, took, now);
                self.good_probes = 0;
                if timed_out && matches!(self.state, EndpointState::Healthy | EndpointState::Degraded) {
                    self.recent_timeouts.push_back(now);
                }
                self.error = Some(fault.to_string());
                if self.state.is_usable() {
                    self.window.add(now, true);
                }
            }
            // An unknown rejection may be about our request or about the endpoint; its probes decide.
            Some(CallError::Rejected { reason: RejectReason::Other, .. } | CallError::NoEndpoint { .. }) => {
                return None;
            }
            Some(CallError::Rejected { .. }) | None => {
                self.consecutive_failures = 0;
                self.throttle.clear(took, now);
                self.latency.add(took);
                self.window.add(now, false);
            }
        }
        self.update_state(name, now)
    }

    fn record_throttling(&mut self, quota_spent: bool, retry_after: Option<Duration>, now: Instant) {
        self.throttle.record(quota_spent, retry_after, now);
        // A throttled probe has not failed, and is no good one.
        self.good_probes = 0;
    }

    fn count_failure(&mut self, timed_out: bool, took: Duration, now: Instant) {
        // Calls that overlap and all fail are one failure.
        if self.last_failure.is_none_or(|failed| began_since(failed, took, now)) {
            self.consecutive_failures += 1;
            self.last_failure = Some(now);
        }
        self.last_timed_out = timed_out;
    }

    fn count_recent_timeouts(&mut self, now: Instant) -> usize {
        while self.recent_timeouts.front().is_some_and(|at| now.duration_since(*at) >= ERROR_WINDOW) {
            self.recent_timeouts.pop_front();
        }
        self.recent_timeouts.len()
    }

    pub fn set_chain_id_check(&mut self, name: &str, check: ChainIdCheck, now: Instant) -> Option<StateChange> {
        (self.chain_id_check, self.chain_id_checked_at) = (check, now);
        self.update_state(name, now)
    }

    /// At startup a matching chain id and one head are enough.
    pub fn admit(&mut self, now: Instant) {
        self.chain_id_check = ChainIdCheck::Match;
        self.state = EndpointState::Healthy;
        self.reason = HealthReason::Ok;
        self.since = now;
        self.clear_history();
    }

    /// Results from before an outage say nothing about the time after it.
    fn clear_history(&mut self) {
        self.window.clear();
        self.recent_timeouts.clear();
    }

    pub fn record_probe(&mut self, name: &str, header: Header, plausible: bool, now: Instant) -> Option<StateChange> {
        self.good_probes += 1;
        self.head_tracker.record_probe(header, plausible, now);
        self.update_state(name, now)
    }

    pub fn record_block(&mut self, number: u64) {
        self.head_tracker.record_block(number);
    }

    /// After a head regression, earlier heads no longer count.
    pub fn reset_head(&mut self) {
        self.head_tracker.reset_highest_number();
    }

    /// With the highest number it has returned. An implausible head is ignored at once, before the second probe makes
    /// it a fault of the endpoint.
    pub fn trusted_head(&self, now: Instant) -> Option<(Header, u64)> {
        let is_trusted = |head: &ObservedHead| head.plausible && self.head_tracker.status() == HeadStatus::InSync;
        self.fresh_head(now).filter(is_trusted).map(|head| (head.header, self.head_tracker.highest_number()))
    }

    pub fn record_parent_check(&mut self, name: &str, has_parent: bool, now: Instant) -> Option<StateChange> {
        if !self.head_tracker.record_parent_check(has_parent) {
            return None;
        }
        self.set_head_status(name, HeadStatus::Implausible, true, now)
    }

    /// Every new head then has to be confirmed by its parent.
    pub fn is_suspect_head(&self) -> bool {
        self.head_tracker.status() == HeadStatus::Implausible
    }

    pub fn set_syncing(&mut self, syncing: bool) {
        self.syncing = syncing;
    }

    /// `own`: the status is about a head that this endpoint has just returned.
    pub fn set_head_status(&mut self, name: &str, status: HeadStatus, own: bool, now: Instant) -> Option<StateChange> {
        if self.head_tracker.update_status(status, own) {
            // Recovery counts the good probes since the last bad one.
            self.good_probes = self.good_probes.min(u32::from(self.state == EndpointState::Suspect));
        }
        self.update_state(name, now)
    }

    fn update_state(&mut self, name: &str, now: Instant) -> Option<StateChange> {
        let (calls, failed) = self.window.count(now);
        let inputs = HealthInputs {
            chain_id_check: self.chain_id_check,
            consecutive_failures: self.consecutive_failures,
            last_timed_out: self.last_timed_out,
            recent_timeouts: self.count_recent_timeouts(now),
            calls,
            failed,
            latency: self.latency.mean().unwrap_or_default(),
            head_status: self.head_tracker.status(),
            throttling: self.throttle.throttling(),
            syncing: self.syncing,
            good_probes: self.good_probes,
        };
        let (state, reason) = next_state(self.state, &inputs);
        if state == self.state {
            self.reason = reason;
            return None;
        }
        let from = std::mem::replace(&mut self.state, state);
        if from == EndpointState::Healthy && now.duration_since(self.since) >= CIRCUIT_RESET_AFTER {
            self.circuit_backoff.reset();
        }
        (self.reason, self.since) = (reason, now);
        match state {
            EndpointState::Down => {
                // The chain id is checked again, because another node may answer after the outage.
                self.chain_id_check = ChainIdCheck::Unknown;
                self.good_probes = 0;
                self.open_circuit(now);
                self.clear_history();
            }
            EndpointState::Quarantined => {
                self.good_probes = 0;
                self.clear_history();
            }
            EndpointState::Healthy | EndpointState::Degraded | EndpointState::Suspect | EndpointState::Throttled => {}
        }
        Some(self.change_from(from, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{Block, Timestamp};
    use alloy::primitives::B256;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(fault: EndpointFault) -> CallError {
        CallError::unavailable("node", "eth_call", fault)
    }

    fn healthy(now: Instant) -> EndpointHealth {
        let mut health = EndpointHealth::new(now);
        health.admit(now);
        health
    }

    fn probe(health: &mut EndpointHealth, now: Instant) -> Option<StateChange> {
        let block = Block { number: 1, hash: B256::ZERO, time: Timestamp::from_seconds(1) };
        let header = Header { block, parent_hash: B256::ZERO, gas_limit: 0, base_fee: 0 };
        health.record_call("node", None, Duration::from_millis(5), now);
        health.record_probe("node", header, true, now)
    }

    #[test]
    fn a_timeout_is_reported_once_and_one_good_probe_ends_it() {
        let now = Instant::now();
        let mut health = healthy(now);
        let change = health.record_call("node", Some(&failure(EndpointFault::Timeout)), SECOND, now).unwrap();
        assert_eq!((change.from, change.to), (EndpointState::Healthy, EndpointState::Suspect));
        assert_eq!(change.snapshot.error.as_deref(), Some("timed out"));
        assert_eq!(
            health.record_call("node", Some(&failure(EndpointFault::Timeout)), SECOND, now),
            None,
            "already reported"
        );
        assert_eq!(health.record_call("node", None, SECOND, now), None, "a late answer to another call is not a probe");
        assert_eq!(probe(&mut health, now).unwrap().to, EndpointState::Healthy);
    }

    #[test]
    fn rejected_requests_and_throttling_do_not_count_as_failures() {
        let now = Instant::now();
        let mut health = healthy(now);
        for _ in 0..100 {
            let (endpoint, message) = (String::new(), String::new());
            let reason = RejectReason::InsufficientFunds;
            let rejected = CallError::Rejected { endpoint, method: "eth_call", reason, code: -32000, message };
            assert_eq!(health.record_call("node", Some(&rejected), Duration::from_millis(1), now), None);
            let throttled = failure(EndpointFault::Throttled { retry_after: Some(SECOND) });
            assert_eq!(health.record_call("node", Some(&throttled), Duration::from_millis(1), now), None);
        }
        assert_eq!(health.state(), EndpointState::Healthy);
        assert!(health.is_throttled(now) && !health.is_throttled(now + SECOND));
    }

    #[test]
    fn an_endpoint_that_was_down_needs_a_chain_id_check_and_two_probes() {
        let now = Instant::now();
        let mut health = healthy(now);
        let mut fail = |took| health.record_call("node", Some(&failure(EndpointFault::Connect)), took, now);
        assert_eq!((0..9).filter_map(|_| fail(SECOND)).count(), 0, "overlapping calls that fail are one failure");
        let changes = (0..9).filter_map(|_| fail(Duration::ZERO)).count();
        assert_eq!((changes, health.state(), health.chain_id_check()), (1, EndpointState::Down, ChainIdCheck::Unknown));
        assert_eq!((probe(&mut health, now), probe(&mut health, now)), (None, None), "not before the chain id check");
        let recovery = health.set_chain_id_check("node", ChainIdCheck::Match, now).unwrap();
        assert_eq!((recovery.from, recovery.to), (EndpointState::Down, EndpointState::Healthy));
    }

    #[test]
    fn an_implausible_head_is_ignored_from_the_first_probe_on() {
        let now = Instant::now();
        let mut health = healthy(now);
        probe(&mut health, now);
        assert!(health.trusted_head(now).is_some());
        let forged = Header { parent_hash: B256::repeat_byte(1), ..health.fresh_head(now).unwrap().header };
        health.record_probe("node", forged, false, now);
        assert_eq!((health.state(), health.trusted_head(now)), (EndpointState::Healthy, None));
    }

    #[test]
    fn a_head_lags_after_two_probes_and_recovers_after_three() {
        let now = Instant::now();
        let mut health = healthy(now);
        let lagging = HeadStatus::Lagging(Duration::from_secs(9));
        assert_eq!(health.set_head_status("node", lagging, true, now), None, "probed just before the others");
        assert_eq!(
            health.set_head_status("node", lagging, false, now),
            None,
            "another endpoint's probe is no new evidence"
        );
        let change = health.set_head_status("node", lagging, true, now).unwrap();
        assert_eq!(
            (change.to, change.reason),
            (EndpointState::Degraded, HealthReason::Lagging(Duration::from_secs(9)))
        );
        health.set_head_status("node", HeadStatus::InSync, true, now);
        assert_eq!((probe(&mut health, now), probe(&mut health, now)), (None, None));
        assert_eq!(probe(&mut health, now).unwrap().to, EndpointState::Healthy);
    }

    #[test]
    fn the_circuit_of_an_endpoint_that_fails_again_soon_stays_open_longer() {
        let mut now = Instant::now();
        let mut health = healthy(now);
        let fail_until_down = |health: &mut EndpointHealth, now| {
            for _ in 0..5 {
                health.record_call("node", Some(&failure(EndpointFault::Connect)), Duration::ZERO, now);
            }
            (0_u64..).find(|seconds| !health.is_circuit_open(now + *seconds as u32 * SECOND)).unwrap()
        };
        let recover = |health: &mut EndpointHealth, now| {
            health.set_chain_id_check("node", ChainIdCheck::Match, now);
            probe(health, now);
            probe(health, now);
        };
        assert_eq!(fail_until_down(&mut health, now), 5);
        recover(&mut health, now);
        assert_eq!(fail_until_down(&mut health, now), 10);
        recover(&mut health, now);
        now += CIRCUIT_RESET_AFTER;
        assert_eq!(fail_until_down(&mut health, now), 5, "healthy for a minute");
    }
}
