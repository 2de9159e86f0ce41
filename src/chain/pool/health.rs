//! What is known of one endpoint, kept up to date by every call and probe; `judge` decides what it means.

use super::{
    circuit::CircuitBreaker,
    error_window::ErrorWindow,
    failures::FailureTracker,
    head_consensus::ObservedHead,
    head_tracker::HeadTracker,
    health_policy::{ChainIdCheck, HeadStatus, HealthInputs, HealthReason, next_state},
    latency::LatencyTracker,
    throttle::Throttle,
};
use crate::chain::{CallError, EndpointFault, EndpointState, EndpointStatus, Header, RejectReason};
use std::time::Duration;
use tokio::time::Instant;

/// An endpoint that has been well for this long has its circuit begin with the shortest time again.
const CIRCUIT_RESET_AFTER: Duration = Duration::from_secs(60);

/// What is known of one endpoint.
#[derive(Debug)]
pub struct EndpointHealth {
    state: EndpointState,
    reason: HealthReason,
    since: Instant,
    chain_id_check: ChainIdCheck,
    failures: FailureTracker,
    window: ErrorWindow,
    latency: LatencyTracker,
    head_tracker: HeadTracker,
    syncing: bool,
    good_probes: u32,
    throttle: Throttle,
    circuit: CircuitBreaker,
    error: Option<String>,
}

/// A change of state.
#[derive(Clone, PartialEq, Debug)]
pub struct StateChange {
    /// From here.
    pub from: EndpointState,
    /// To what the view shows.
    pub status: EndpointStatus,
    /// Why.
    pub reason: HealthReason,
}

impl EndpointHealth {
    /// An endpoint that was not asked yet: nothing is sent to it before it has proved its chain.
    pub fn new(now: Instant) -> Self {
        Self {
            state: EndpointState::Down,
            reason: HealthReason::Unreachable,
            since: now,
            chain_id_check: ChainIdCheck::Unknown,
            failures: FailureTracker::default(),
            window: ErrorWindow::default(),
            latency: LatencyTracker::default(),
            head_tracker: HeadTracker::new(),
            syncing: false,
            good_probes: 0,
            throttle: Throttle::default(),
            circuit: CircuitBreaker::new(now),
            error: None,
        }
    }

    /// How much it is trusted.
    pub fn state(&self) -> EndpointState {
        self.state
    }

    /// Which chain it is on.
    pub fn chain_id_check(&self) -> ChainIdCheck {
        self.chain_id_check
    }

    /// Whether it asked to be left alone for a while.
    pub fn is_throttled(&self, now: Instant) -> bool {
        self.throttle.is_active(now)
    }

    /// For how long it is to be left alone.
    pub fn throttled_for(&self, now: Instant) -> Option<Duration> {
        self.throttle.remaining(now)
    }

    /// After how long without an answer a read is asked of another endpoint too.
    pub fn hedge_after(&self) -> Duration {
        self.latency.hedge_after()
    }

    /// Whether the circuit is open: nothing is asked of it, not even by a probe.
    pub fn is_circuit_open(&self, now: Instant) -> bool {
        self.state == EndpointState::Down && self.circuit.is_open(now)
    }

    /// The circuit opens, or stays open after a probe that failed.
    pub fn open_circuit(&mut self, now: Instant) {
        self.circuit.open(now);
    }

    /// A probe was good: the next one is not held up.
    pub fn half_open_circuit(&mut self, now: Instant) {
        self.circuit.half_open(now);
    }

    /// Its head, if it has shown one just now: what it showed before it fell silent says nothing about the chain.
    pub fn fresh_head(&self, now: Instant) -> Option<ObservedHead> {
        self.head_tracker.fresh_head(now).filter(|_| self.state.is_usable() && self.failures.consecutive() == 0)
    }

    /// What others see of it.
    pub fn status(&self, name: &str) -> EndpointStatus {
        EndpointStatus {
            name: name.to_owned(),
            state: self.state,
            head: self.head_tracker.last_head().map(|header| header.block),
            lag: match self.head_tracker.status() {
                HeadStatus::Lagging(lag) => Some(lag),
                HeadStatus::InSync | HeadStatus::Implausible => None,
            },
            latency: self.latency.mean(),
            consecutive_failures: self.failures.consecutive(),
            error: match self.reason {
                HealthReason::Ok if self.state == EndpointState::Healthy => None,
                HealthReason::Ok | HealthReason::Unreachable | HealthReason::TimedOut => self.error.clone(),
                HealthReason::WrongChainId(_)
                | HealthReason::Flapping
                | HealthReason::HighErrorRate(_)
                | HealthReason::HighLatency(_)
                | HealthReason::Lagging(_)
                | HealthReason::ImplausibleHead
                | HealthReason::Syncing => Some(self.reason.to_string()),
            },
        }
    }

    /// A call ended. What the node says about our request never counts against it, nor does a word that there are too many.
    pub fn record_call(
        &mut self,
        name: &str,
        error: Option<&CallError>,
        took: Duration,
        now: Instant,
    ) -> Option<StateChange> {
        match error {
            Some(CallError::Unavailable { fault: EndpointFault::Throttled { retry_after }, .. }) => {
                self.throttle.set_retry_after(*retry_after, now);
                return None;
            }
            Some(CallError::Unavailable { fault, .. }) => {
                let timed_out = *fault == EndpointFault::Timeout;
                self.failures.record_failure(timed_out, took, now);
                self.good_probes = 0;
                if timed_out && matches!(self.state, EndpointState::Healthy | EndpointState::Degraded) {
                    self.failures.record_timeout(now);
                }
                self.error = Some(fault.to_string());
                if self.state.is_usable() {
                    self.window.add(now, true);
                }
            }
            // Words that nobody knows say nothing about our request, nor about the endpoint: its probes do.
            Some(CallError::Rejected { reason: RejectReason::Other, .. } | CallError::NoEndpoint { .. }) => {
                return None;
            }
            Some(CallError::Rejected { .. }) | None => {
                self.failures.record_success();
                self.latency.add(took);
                self.window.add(now, false);
            }
        }
        self.update_state(name, now)
    }

    /// It said which chain it is on.
    pub fn set_chain_id_check(&mut self, name: &str, chain: ChainIdCheck, now: Instant) -> Option<StateChange> {
        self.chain_id_check = chain;
        self.update_state(name, now)
    }

    /// It proved its chain when the service began: that is enough for a start.
    pub fn admit(&mut self, now: Instant) {
        self.chain_id_check = ChainIdCheck::Match;
        self.state = EndpointState::Healthy;
        self.reason = HealthReason::Ok;
        self.since = now;
        self.clear_history();
    }

    /// What was before it went says nothing about when it is back.
    fn clear_history(&mut self) {
        self.window.clear();
        self.failures.clear_timeouts();
    }

    /// A probe was answered with this head, plausible or not.
    pub fn record_probe(&mut self, name: &str, header: Header, plausible: bool, now: Instant) -> Option<StateChange> {
        self.good_probes += 1;
        self.head_tracker.record_probe(header, plausible, now);
        self.update_state(name, now)
    }

    /// It showed a block of this number.
    pub fn record_block(&mut self, number: u64) {
        self.head_tracker.record_block(number);
    }

    /// The chain's head fell: what it showed before counts no more.
    pub fn reset_head(&mut self) {
        self.head_tracker.reset_highest_number();
    }

    /// Its head and the highest number it has shown, when it answers and stands with the others. A head that cannot be is none,
    /// also before the second probe makes it a fault of the endpoint.
    pub fn trusted_head(&self, now: Instant) -> Option<(Header, u64)> {
        let counts = |seen: &ObservedHead| seen.plausible && self.head_tracker.status() == HeadStatus::InSync;
        self.fresh_head(now).filter(counts).map(|seen| (seen.header, self.head_tracker.highest_number()))
    }

    /// Somebody asked for the block before its head: whether it could show it.
    pub fn record_parent_check(&mut self, name: &str, shown: bool, now: Instant) -> Option<StateChange> {
        if !self.head_tracker.record_parent_check(shown) {
            return None;
        }
        self.set_head_status(name, HeadStatus::Implausible, true, now)
    }

    /// Whether its head has to show the block before it, whatever it is.
    pub fn is_suspect_head(&self) -> bool {
        self.head_tracker.status() == HeadStatus::Implausible
    }

    /// It says whether it is still syncing.
    pub fn set_syncing(&mut self, syncing: bool) {
        self.syncing = syncing;
    }

    /// How its head stands to the others'. `own` says that the word is about a head that it has just shown.
    pub fn set_head_status(
        &mut self,
        name: &str,
        standing: HeadStatus,
        own: bool,
        now: Instant,
    ) -> Option<StateChange> {
        if self.head_tracker.update_status(standing, own) {
            // Being well again is counted from the last probe that was not.
            self.good_probes = self.good_probes.min(u32::from(self.state == EndpointState::Suspect));
        }
        self.update_state(name, now)
    }

    fn update_state(&mut self, name: &str, now: Instant) -> Option<StateChange> {
        if self.state == EndpointState::Quarantined {
            return None;
        }
        let (calls, failed) = self.window.count(now);
        let facts = HealthInputs {
            chain_id_check: self.chain_id_check,
            consecutive_failures: self.failures.consecutive(),
            last_timed_out: self.failures.last_timed_out(),
            recent_timeouts: self.failures.recent_timeouts(now),
            calls,
            failed,
            latency: self.latency.mean().unwrap_or_default(),
            head_status: self.head_tracker.status(),
            syncing: self.syncing,
            good_probes: self.good_probes,
        };
        let (state, reason) = next_state(self.state, &facts);
        if state == self.state {
            self.reason = reason;
            return None;
        }
        let from = std::mem::replace(&mut self.state, state);
        if from == EndpointState::Healthy && now.duration_since(self.since) >= CIRCUIT_RESET_AFTER {
            self.circuit.reset();
        }
        (self.reason, self.since) = (reason, now);
        match state {
            EndpointState::Down => {
                // It has to prove its chain anew: what comes back may be another node.
                self.chain_id_check = ChainIdCheck::Unknown;
                self.good_probes = 0;
                self.open_circuit(now);
                self.clear_history();
            }
            EndpointState::Healthy | EndpointState::Degraded | EndpointState::Suspect | EndpointState::Quarantined => {}
        }
        Some(StateChange { from, status: self.status(name), reason })
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
    fn a_timeout_is_told_once_and_one_good_probe_ends_the_suspicion() {
        let now = Instant::now();
        let mut health = healthy(now);
        let change = health.record_call("node", Some(&failure(EndpointFault::Timeout)), SECOND, now).unwrap();
        assert_eq!((change.from, change.status.state), (EndpointState::Healthy, EndpointState::Suspect));
        assert_eq!(change.status.error.as_deref(), Some("timed out"));
        assert_eq!(
            health.record_call("node", Some(&failure(EndpointFault::Timeout)), SECOND, now),
            None,
            "told already"
        );
        assert_eq!(health.record_call("node", None, SECOND, now), None, "a late answer to somebody else is no probe");
        assert_eq!(probe(&mut health, now).unwrap().status.state, EndpointState::Healthy);
    }

    #[test]
    fn what_the_node_says_about_our_request_never_counts_against_it() {
        let now = Instant::now();
        let mut health = healthy(now);
        for _ in 0..100 {
            let (endpoint, message) = (String::new(), String::new());
            let refusal = RejectReason::InsufficientFunds;
            let refused = CallError::Rejected { endpoint, method: "eth_call", reason: refusal, code: -32000, message };
            assert_eq!(health.record_call("node", Some(&refused), Duration::from_millis(1), now), None);
            let throttled = failure(EndpointFault::Throttled { retry_after: Some(SECOND) });
            assert_eq!(health.record_call("node", Some(&throttled), Duration::from_millis(1), now), None);
        }
        assert_eq!(health.state(), EndpointState::Healthy);
        assert!(health.is_throttled(now) && !health.is_throttled(now + SECOND));
    }

    #[test]
    fn what_was_gone_proves_its_chain_and_answers_twice_before_it_is_asked_again() {
        let now = Instant::now();
        let mut health = healthy(now);
        let mut fails = |took| health.record_call("node", Some(&failure(EndpointFault::Connect)), took, now);
        assert_eq!((0..9).filter_map(|_| fails(SECOND)).count(), 0, "what fails together is one failure");
        let gone = (0..9).filter_map(|_| fails(Duration::ZERO)).count();
        assert_eq!((gone, health.state(), health.chain_id_check()), (1, EndpointState::Down, ChainIdCheck::Unknown));
        assert_eq!((probe(&mut health, now), probe(&mut health, now)), (None, None), "not before it proves its chain");
        let back = health.set_chain_id_check("node", ChainIdCheck::Match, now).unwrap();
        assert_eq!((back.from, back.status.state), (EndpointState::Down, EndpointState::Healthy));
    }

    #[test]
    fn a_head_that_cannot_be_counts_for_nothing_from_the_first_probe_on() {
        let now = Instant::now();
        let mut health = healthy(now);
        probe(&mut health, now);
        assert!(health.trusted_head(now).is_some());
        let lie = Header { parent_hash: B256::repeat_byte(1), ..health.fresh_head(now).unwrap().header };
        health.record_probe("node", lie, false, now);
        assert_eq!((health.state(), health.trusted_head(now)), (EndpointState::Healthy, None));
    }

    #[test]
    fn a_head_is_out_of_step_only_when_two_probes_say_so_and_well_after_three() {
        let now = Instant::now();
        let mut health = healthy(now);
        let behind = HeadStatus::Lagging(Duration::from_secs(9));
        assert_eq!(health.set_head_status("node", behind, true, now), None, "asked a moment before the others");
        assert_eq!(health.set_head_status("node", behind, false, now), None, "another's probe says nothing new");
        let change = health.set_head_status("node", behind, true, now).unwrap();
        assert_eq!(
            (change.status.state, change.reason),
            (EndpointState::Degraded, HealthReason::Lagging(Duration::from_secs(9)))
        );
        health.set_head_status("node", HeadStatus::InSync, true, now);
        assert_eq!((probe(&mut health, now), probe(&mut health, now)), (None, None));
        assert_eq!(probe(&mut health, now).unwrap().status.state, EndpointState::Healthy);
    }

    #[test]
    fn the_circuit_of_one_that_fails_again_soon_stays_open_longer() {
        let mut now = Instant::now();
        let mut health = healthy(now);
        let fall = |health: &mut EndpointHealth, now| {
            for _ in 0..5 {
                health.record_call("node", Some(&failure(EndpointFault::Connect)), Duration::ZERO, now);
            }
            (0_u64..).find(|seconds| !health.is_circuit_open(now + *seconds as u32 * SECOND)).unwrap()
        };
        let rise = |health: &mut EndpointHealth, now| {
            health.set_chain_id_check("node", ChainIdCheck::Match, now);
            probe(health, now);
            probe(health, now);
        };
        assert_eq!(fall(&mut health, now), 5);
        rise(&mut health, now);
        assert_eq!(fall(&mut health, now), 10);
        rise(&mut health, now);
        now += CIRCUIT_RESET_AFTER;
        assert_eq!(fall(&mut health, now), 5, "it was well for a minute");
    }
}
