//! What is known of one endpoint, kept up to date by every call and probe; `judge` decides what it means.

use super::{
    circuit::Circuit,
    failures::Failures,
    heads::Seen,
    judge::{ChainProof, Facts, Reason, Standing, judge},
    latency::Latency,
    position::Position,
    throttle::Throttle,
    window::Window,
};
use crate::chain::{CallError, EndpointState, EndpointView, Fault, Header, Refusal};
use std::time::Duration;
use tokio::time::Instant;

/// An endpoint that has been well for this long has its circuit begin with the shortest time again.
const STEADY: Duration = Duration::from_secs(60);

/// What is known of one endpoint.
#[derive(Debug)]
pub struct Health {
    state: EndpointState,
    reason: Reason,
    since: Instant,
    chain: ChainProof,
    failures: Failures,
    window: Window,
    latency: Latency,
    position: Position,
    syncing: bool,
    good_probes: u32,
    throttle: Throttle,
    circuit: Circuit,
    error: Option<String>,
}

/// A change of state.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// From here.
    pub from: EndpointState,
    /// To what the view shows.
    pub view: EndpointView,
    /// Why.
    pub reason: Reason,
}

impl Health {
    /// An endpoint that was not asked yet: nothing is sent to it before it has proved its chain.
    pub fn new(now: Instant) -> Self {
        Self {
            state: EndpointState::Down,
            reason: Reason::Gone,
            since: now,
            chain: ChainProof::Unknown,
            failures: Failures::default(),
            window: Window::default(),
            latency: Latency::default(),
            position: Position::new(),
            syncing: false,
            good_probes: 0,
            throttle: Throttle::default(),
            circuit: Circuit::new(now),
            error: None,
        }
    }

    /// How much it is trusted.
    pub fn state(&self) -> EndpointState {
        self.state
    }

    /// Which chain it is on.
    pub fn chain(&self) -> ChainProof {
        self.chain
    }

    /// Whether it asked to be left alone for a while.
    pub fn is_throttled(&self, now: Instant) -> bool {
        self.throttle.is_on(now)
    }

    /// For how long it is to be left alone.
    pub fn throttled_for(&self, now: Instant) -> Option<Duration> {
        self.throttle.left(now)
    }

    /// After how long without an answer a read is asked of another endpoint too.
    pub fn hedge_after(&self) -> Duration {
        self.latency.hedge_after()
    }

    /// Whether the circuit is open: nothing is asked of it, not even by a probe.
    pub fn is_open(&self, now: Instant) -> bool {
        self.state == EndpointState::Down && self.circuit.is_open(now)
    }

    /// The circuit opens, or stays open after a probe that failed.
    pub fn open(&mut self, now: Instant) {
        self.circuit.open(now);
    }

    /// A probe was good: the next one is not held up.
    pub fn half_open(&mut self, now: Instant) {
        self.circuit.half_open(now);
    }

    /// Its head, if it has shown one just now: what it showed before it fell silent says nothing about the chain.
    pub fn head(&self, now: Instant) -> Option<Seen> {
        self.position.fresh(now).filter(|_| self.state.is_usable() && self.failures.consecutive() == 0)
    }

    /// What others see of it.
    pub fn view(&self, name: &str) -> EndpointView {
        EndpointView {
            name: name.to_owned(),
            state: self.state,
            head: self.position.last().map(|header| header.block),
            lag: match self.position.standing() {
                Standing::Behind(lag) => Some(lag),
                Standing::Level | Standing::Implausible => None,
            },
            latency: self.latency.mean(),
            consecutive_failures: self.failures.consecutive(),
            error: match self.reason {
                Reason::Well if self.state == EndpointState::Healthy => None,
                Reason::Well | Reason::Gone | Reason::TimedOut => self.error.clone(),
                Reason::OtherChain(_)
                | Reason::Unsteady
                | Reason::Failing(_)
                | Reason::Slow(_)
                | Reason::Behind(_)
                | Reason::Implausible
                | Reason::Syncing => Some(self.reason.to_string()),
            },
        }
    }

    /// A call ended. What the node says about our request never counts against it, nor does a word that there are too many.
    pub fn called(&mut self, name: &str, error: Option<&CallError>, took: Duration, now: Instant) -> Option<Change> {
        match error {
            Some(CallError::Unavailable { fault: Fault::Throttled { retry_after }, .. }) => {
                self.throttle.asked(*retry_after, now);
                return None;
            }
            Some(CallError::Unavailable { fault, .. }) => {
                let timed_out = *fault == Fault::Timeout;
                self.failures.failed(timed_out, took, now);
                self.good_probes = 0;
                if timed_out && matches!(self.state, EndpointState::Healthy | EndpointState::Degraded) {
                    self.failures.suspect(now);
                }
                self.error = Some(fault.to_string());
                if self.state.is_usable() {
                    self.window.add(now, true);
                }
            }
            // Words that nobody knows say nothing about our request, nor about the endpoint: its probes do.
            Some(CallError::Refused { refusal: Refusal::Other, .. } | CallError::NoEndpoint { .. }) => return None,
            Some(CallError::Refused { .. }) | None => {
                self.failures.answered();
                self.latency.add(took);
                self.window.add(now, false);
            }
        }
        self.judge(name, now)
    }

    /// It said which chain it is on.
    pub fn proved(&mut self, name: &str, chain: ChainProof, now: Instant) -> Option<Change> {
        self.chain = chain;
        self.judge(name, now)
    }

    /// It proved its chain when the service began: that is enough for a start.
    pub fn begin(&mut self, now: Instant) {
        self.chain = ChainProof::Right;
        self.state = EndpointState::Healthy;
        self.reason = Reason::Well;
        self.since = now;
        self.forget();
    }

    /// What was before it went says nothing about when it is back.
    fn forget(&mut self) {
        self.window.clear();
        self.failures.forget();
    }

    /// A probe was answered with this head, plausible or not.
    pub fn probed(&mut self, name: &str, header: Header, plausible: bool, now: Instant) -> Option<Change> {
        self.good_probes += 1;
        self.position.probed(header, plausible, now);
        self.judge(name, now)
    }

    /// It showed a block of this number.
    pub fn showed(&mut self, number: u64) {
        self.position.showed(number);
    }

    /// The chain's head fell: what it showed before counts no more.
    pub fn fell(&mut self) {
        self.position.fell();
    }

    /// Its head and the highest number it has shown, when it answers and stands with the others. A head that cannot be is none,
    /// also before the second probe makes it a fault of the endpoint.
    pub fn trusted(&self, now: Instant) -> Option<(Header, u64)> {
        let counts = |seen: &Seen| seen.plausible && self.position.standing() == Standing::Level;
        self.head(now).filter(counts).map(|seen| (seen.header, self.position.highest()))
    }

    /// Somebody asked for the block before its head: whether it could show it.
    pub fn showed_parent(&mut self, name: &str, shown: bool, now: Instant) -> Option<Change> {
        if !self.position.showed_parent(shown) {
            return None;
        }
        self.stands(name, Standing::Implausible, true, now)
    }

    /// Whether its head has to show the block before it, whatever it is.
    pub fn is_doubted(&self) -> bool {
        self.position.standing() == Standing::Implausible
    }

    /// It says whether it is still syncing.
    pub fn syncs(&mut self, syncing: bool) {
        self.syncing = syncing;
    }

    /// How its head stands to the others'. `own` says that the word is about a head that it has just shown.
    pub fn stands(&mut self, name: &str, standing: Standing, own: bool, now: Instant) -> Option<Change> {
        if self.position.stands(standing, own) {
            // Being well again is counted from the last probe that was not.
            self.good_probes = self.good_probes.min(u32::from(self.state == EndpointState::Suspect));
        }
        self.judge(name, now)
    }

    fn judge(&mut self, name: &str, now: Instant) -> Option<Change> {
        if self.state == EndpointState::Quarantined {
            return None;
        }
        let (calls, failed) = self.window.count(now);
        let facts = Facts {
            chain: self.chain,
            consecutive_failures: self.failures.consecutive(),
            timed_out: self.failures.timed_out(),
            suspicions: self.failures.suspicions(now),
            calls,
            failed,
            latency: self.latency.mean().unwrap_or_default(),
            standing: self.position.standing(),
            syncing: self.syncing,
            good_probes: self.good_probes,
        };
        let (state, reason) = judge(self.state, &facts);
        if state == self.state {
            self.reason = reason;
            return None;
        }
        let from = std::mem::replace(&mut self.state, state);
        if from == EndpointState::Healthy && now.duration_since(self.since) >= STEADY {
            self.circuit.reset();
        }
        (self.reason, self.since) = (reason, now);
        match state {
            EndpointState::Down => {
                // It has to prove its chain anew: what comes back may be another node.
                self.chain = ChainProof::Unknown;
                self.good_probes = 0;
                self.open(now);
                self.forget();
            }
            EndpointState::Healthy | EndpointState::Degraded | EndpointState::Suspect | EndpointState::Quarantined => {}
        }
        Some(Change { from, view: self.view(name), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{Block, Timestamp};
    use alloy::primitives::B256;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(fault: Fault) -> CallError {
        CallError::unavailable("node", "eth_call", fault)
    }

    fn healthy(now: Instant) -> Health {
        let mut health = Health::new(now);
        health.begin(now);
        health
    }

    fn probe(health: &mut Health, now: Instant) -> Option<Change> {
        let block = Block { number: 1, hash: B256::ZERO, time: Timestamp::from_seconds(1) };
        let header = Header { block, parent_hash: B256::ZERO, gas_limit: 0, base_fee: 0 };
        health.called("node", None, Duration::from_millis(5), now);
        health.probed("node", header, true, now)
    }

    #[test]
    fn a_timeout_is_told_once_and_one_good_probe_ends_the_suspicion() {
        let now = Instant::now();
        let mut health = healthy(now);
        let change = health.called("node", Some(&failure(Fault::Timeout)), SECOND, now).unwrap();
        assert_eq!((change.from, change.view.state), (EndpointState::Healthy, EndpointState::Suspect));
        assert_eq!(change.view.error.as_deref(), Some("timed out"));
        assert_eq!(health.called("node", Some(&failure(Fault::Timeout)), SECOND, now), None, "told already");
        assert_eq!(health.called("node", None, SECOND, now), None, "a late answer to somebody else is no probe");
        assert_eq!(probe(&mut health, now).unwrap().view.state, EndpointState::Healthy);
    }

    #[test]
    fn what_the_node_says_about_our_request_never_counts_against_it() {
        let now = Instant::now();
        let mut health = healthy(now);
        for _ in 0..100 {
            let (endpoint, message) = (String::new(), String::new());
            let refusal = Refusal::InsufficientFunds;
            let refused = CallError::Refused { endpoint, method: "eth_call", refusal, code: -32000, message };
            assert_eq!(health.called("node", Some(&refused), Duration::from_millis(1), now), None);
            let throttled = failure(Fault::Throttled { retry_after: Some(SECOND) });
            assert_eq!(health.called("node", Some(&throttled), Duration::from_millis(1), now), None);
        }
        assert_eq!(health.state(), EndpointState::Healthy);
        assert!(health.is_throttled(now) && !health.is_throttled(now + SECOND));
    }

    #[test]
    fn what_was_gone_proves_its_chain_and_answers_twice_before_it_is_asked_again() {
        let now = Instant::now();
        let mut health = healthy(now);
        let mut fails = |took| health.called("node", Some(&failure(Fault::Connect)), took, now);
        assert_eq!((0..9).filter_map(|_| fails(SECOND)).count(), 0, "what fails together is one failure");
        let gone = (0..9).filter_map(|_| fails(Duration::ZERO)).count();
        assert_eq!((gone, health.state(), health.chain()), (1, EndpointState::Down, ChainProof::Unknown));
        assert_eq!((probe(&mut health, now), probe(&mut health, now)), (None, None), "not before it proves its chain");
        let back = health.proved("node", ChainProof::Right, now).unwrap();
        assert_eq!((back.from, back.view.state), (EndpointState::Down, EndpointState::Healthy));
    }

    #[test]
    fn a_head_that_cannot_be_counts_for_nothing_from_the_first_probe_on() {
        let now = Instant::now();
        let mut health = healthy(now);
        probe(&mut health, now);
        assert!(health.trusted(now).is_some());
        let lie = Header { parent_hash: B256::repeat_byte(1), ..health.head(now).unwrap().header };
        health.probed("node", lie, false, now);
        assert_eq!((health.state(), health.trusted(now)), (EndpointState::Healthy, None));
    }

    #[test]
    fn a_head_is_out_of_step_only_when_two_probes_say_so_and_well_after_three() {
        let now = Instant::now();
        let mut health = healthy(now);
        let behind = Standing::Behind(Duration::from_secs(9));
        assert_eq!(health.stands("node", behind, true, now), None, "asked a moment before the others");
        assert_eq!(health.stands("node", behind, false, now), None, "another's probe says nothing new");
        let change = health.stands("node", behind, true, now).unwrap();
        assert_eq!(
            (change.view.state, change.reason),
            (EndpointState::Degraded, Reason::Behind(Duration::from_secs(9)))
        );
        health.stands("node", Standing::Level, true, now);
        assert_eq!((probe(&mut health, now), probe(&mut health, now)), (None, None));
        assert_eq!(probe(&mut health, now).unwrap().view.state, EndpointState::Healthy);
    }

    #[test]
    fn the_circuit_of_one_that_fails_again_soon_stays_open_longer() {
        let mut now = Instant::now();
        let mut health = healthy(now);
        let fall = |health: &mut Health, now| {
            for _ in 0..5 {
                health.called("node", Some(&failure(Fault::Connect)), Duration::ZERO, now);
            }
            (0_u64..).find(|seconds| !health.is_open(now + *seconds as u32 * SECOND)).unwrap()
        };
        let rise = |health: &mut Health, now| {
            health.proved("node", ChainProof::Right, now);
            probe(health, now);
            probe(health, now);
        };
        assert_eq!(fall(&mut health, now), 5);
        rise(&mut health, now);
        assert_eq!(fall(&mut health, now), 10);
        rise(&mut health, now);
        now += STEADY;
        assert_eq!(fall(&mut health, now), 5, "it was well for a minute");
    }
}
