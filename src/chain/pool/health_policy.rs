//! From what is known of an endpoint to how much it is trusted. Getting worse is quick, getting better takes proof: no endpoint
//! may flap between two states at the rhythm of its own faults.

use crate::chain::EndpointState;
use std::{fmt, time::Duration};

/// This many calls in a row without an answer: it is gone.
const DOWN_AFTER_FAILURES: u32 = 5;
/// Suspected this often within [`super::window::SPAN`]: it comes and goes, and is asked only when no steady one is there.
const FLAPPING_AFTER_TIMEOUTS: usize = 3;
/// A share of failures means something from this many calls on.
const MIN_CALLS_FOR_ERROR_RATE: u32 = 20;
/// Above this share of failed calls it is degraded, and below the other it is well again.
const ERROR_RATE_ENTER_EXIT: (f64, f64) = (0.5, 0.25);
/// Above this mean latency it is degraded (half of what a read may take), and below the other it is well again.
const LATENCY_ENTER_EXIT: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(500));
/// Good probes in a row that close a circuit.
const PROBES_TO_CLOSE_CIRCUIT: u32 = 2;
/// Good probes in a row that end a degradation.
const PROBES_TO_END_DEGRADED: u32 = 3;

/// Which chain an endpoint is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainIdCheck {
    /// It has not said yet, or was away since.
    Unknown,
    /// Ours.
    Match,
    /// This other one.
    Mismatch(u64),
}

/// Where its head stands beside the others'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadStatus {
    /// With them, or nothing to compare with.
    InSync,
    /// This much behind, by the blocks' times.
    Lagging(Duration),
    /// Ahead of all, with a head that cannot be.
    Implausible,
}

/// What is known of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthInputs {
    /// Which chain it is on.
    pub chain_id_check: ChainIdCheck,
    /// Calls in a row without an answer.
    pub consecutive_failures: u32,
    /// Whether the last failure was a call that was not answered in time.
    pub last_timed_out: bool,
    /// How often it was suspected of late.
    pub recent_timeouts: usize,
    /// Calls of late.
    pub calls: u32,
    /// How many of them failed.
    pub failed: u32,
    /// Mean latency.
    pub latency: Duration,
    /// Where its head stands.
    pub head_status: HeadStatus,
    /// Whether it says that it is still syncing.
    pub syncing: bool,
    /// Good probes in a row.
    pub good_probes: u32,
}

/// Why an endpoint is trusted as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthReason {
    /// Nothing is wrong.
    Ok,
    /// It is on this other chain.
    WrongChainId(u64),
    /// It does not answer.
    Unreachable,
    /// It comes and goes.
    Flapping,
    /// A call was not answered in time.
    TimedOut,
    /// This share of its calls fails, in percent.
    HighErrorRate(u32),
    /// Its answers take this long.
    HighLatency(Duration),
    /// Its head is this far behind.
    Lagging(Duration),
    /// Its head cannot be.
    ImplausibleHead,
    /// It is still syncing.
    Syncing,
}

impl fmt::Display for HealthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("well"),
            Self::WrongChainId(id) => write!(f, "on chain {id}"),
            Self::Unreachable => f.write_str("does not answer"),
            Self::Flapping => f.write_str("comes and goes"),
            Self::TimedOut => f.write_str("not answered in time"),
            Self::HighErrorRate(percent) => write!(f, "{percent}% of its calls fail"),
            Self::HighLatency(latency) => write!(f, "takes {} ms on average", latency.as_millis()),
            Self::Lagging(lag) => write!(f, "{:.1} s behind the others", lag.as_secs_f64()),
            Self::ImplausibleHead => f.write_str("shows a head that cannot be"),
            Self::Syncing => f.write_str("still syncing"),
        }
    }
}

impl HealthReason {
    /// The word for logs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ok => "well",
            Self::WrongChainId(_) => "other_chain",
            Self::Unreachable => "gone",
            Self::Flapping => "unsteady",
            Self::TimedOut => "timeout",
            Self::HighErrorRate(_) => "failing",
            Self::HighLatency(_) => "slow",
            Self::Lagging(_) => "behind",
            Self::ImplausibleHead => "implausible",
            Self::Syncing => "syncing",
        }
    }
}

/// Where an endpoint goes from `now`.
pub fn next_state(now: EndpointState, facts: &HealthInputs) -> (EndpointState, HealthReason) {
    if let ChainIdCheck::Mismatch(id) = facts.chain_id_check {
        return (EndpointState::Quarantined, HealthReason::WrongChainId(id));
    }
    let proved = facts.chain_id_check == ChainIdCheck::Match;
    match now {
        EndpointState::Quarantined => (now, HealthReason::WrongChainId(0)),
        EndpointState::Down if proved && facts.good_probes >= PROBES_TO_CLOSE_CIRCUIT => {
            state_when_responding(now, facts)
        }
        EndpointState::Down => (now, HealthReason::Unreachable),
        EndpointState::Healthy | EndpointState::Degraded | EndpointState::Suspect => {
            if facts.consecutive_failures >= DOWN_AFTER_FAILURES {
                (EndpointState::Down, HealthReason::Unreachable)
            } else if facts.consecutive_failures > 0 && facts.last_timed_out {
                (EndpointState::Suspect, HealthReason::TimedOut)
            } else if now == EndpointState::Suspect && facts.good_probes == 0 {
                (now, HealthReason::TimedOut)
            } else {
                state_when_responding(now, facts)
            }
        }
    }
}

/// It answers: well, or not well.
fn state_when_responding(now: EndpointState, facts: &HealthInputs) -> (EndpointState, HealthReason) {
    let was_degraded = now == EndpointState::Degraded;
    // What failed before it was gone says nothing about one that is back.
    let counts = now != EndpointState::Down && facts.calls >= MIN_CALLS_FOR_ERROR_RATE;
    let share = if counts { f64::from(facts.failed) / f64::from(facts.calls) } else { 0.0 };
    let fault = match facts.head_status {
        HeadStatus::Lagging(lag) => Some(HealthReason::Lagging(lag)),
        HeadStatus::Implausible => Some(HealthReason::ImplausibleHead),
        HeadStatus::InSync if facts.syncing => Some(HealthReason::Syncing),
        HeadStatus::InSync if facts.recent_timeouts >= FLAPPING_AFTER_TIMEOUTS => Some(HealthReason::Flapping),
        HeadStatus::InSync if share > if was_degraded { ERROR_RATE_ENTER_EXIT.1 } else { ERROR_RATE_ENTER_EXIT.0 } => {
            Some(HealthReason::HighErrorRate((share * 100.0) as u32))
        }
        HeadStatus::InSync
            if facts.latency > if was_degraded { LATENCY_ENTER_EXIT.1 } else { LATENCY_ENTER_EXIT.0 } =>
        {
            Some(HealthReason::HighLatency(facts.latency))
        }
        HeadStatus::InSync => None,
    };
    match fault {
        Some(reason) => (EndpointState::Degraded, reason),
        None if was_degraded && facts.good_probes < PROBES_TO_END_DEGRADED => (now, HealthReason::Ok),
        None => (EndpointState::Healthy, HealthReason::Ok),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointState::*;

    const HEALTHY_INPUTS: HealthInputs = HealthInputs {
        chain_id_check: ChainIdCheck::Match,
        consecutive_failures: 0,
        last_timed_out: false,
        recent_timeouts: 0,
        calls: 100,
        failed: 0,
        latency: Duration::from_millis(20),
        head_status: HeadStatus::InSync,
        syncing: false,
        good_probes: 9,
    };
    const LAG: Duration = Duration::from_secs(4);

    #[rustfmt::skip]
    #[test]
    fn trust_is_lost_quickly_and_won_back_with_proof() {
        let ms = Duration::from_millis;
        for (what, now, facts, state, reason) in [
            ("nothing is wrong", Healthy, HEALTHY_INPUTS, Healthy, HealthReason::Ok),
            ("one failure is no news", Healthy, HealthInputs { consecutive_failures: 1, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("one timeout is", Healthy, HealthInputs { consecutive_failures: 1, last_timed_out: true, ..HEALTHY_INPUTS }, Suspect, HealthReason::TimedOut),
            ("a suspect stays one", Suspect, HealthInputs { good_probes: 0, ..HEALTHY_INPUTS }, Suspect, HealthReason::TimedOut),
            ("until a probe is good", Suspect, HealthInputs { good_probes: 1, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("two suspicions", Healthy, HealthInputs { recent_timeouts: 2, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("three suspicions", Suspect, HealthInputs { recent_timeouts: 3, ..HEALTHY_INPUTS }, Degraded, HealthReason::Flapping),
            ("four failures in a row", Healthy, HealthInputs { consecutive_failures: 4, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("five failures in a row", Healthy, HealthInputs { consecutive_failures: 5, ..HEALTHY_INPUTS }, Down, HealthReason::Unreachable),
            ("a degraded one goes too", Degraded, HealthInputs { consecutive_failures: 5, ..HEALTHY_INPUTS }, Down, HealthReason::Unreachable),
            ("down stays down", Down, HealthInputs { good_probes: 1, ..HEALTHY_INPUTS }, Down, HealthReason::Unreachable),
            ("until two probes are good", Down, HealthInputs { good_probes: 2, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("what failed before is forgotten then", Down, HealthInputs { calls: 20, failed: 18, good_probes: 2, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("but not without its chain", Down, HealthInputs { chain_id_check: ChainIdCheck::Unknown, ..HEALTHY_INPUTS }, Down, HealthReason::Unreachable),
            ("and back it may be behind", Down, HealthInputs { head_status: HeadStatus::Lagging(LAG), ..HEALTHY_INPUTS }, Degraded, HealthReason::Lagging(LAG)),
            ("half of 19 calls say nothing", Healthy, HealthInputs { calls: 19, failed: 19, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("half of 20 is not more than half", Healthy, HealthInputs { calls: 20, failed: 10, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("more than half is", Healthy, HealthInputs { calls: 20, failed: 11, ..HEALTHY_INPUTS }, Degraded, HealthReason::HighErrorRate(55)),
            ("a third is still too much then", Degraded, HealthInputs { calls: 30, failed: 10, ..HEALTHY_INPUTS }, Degraded, HealthReason::HighErrorRate(33)),
            ("a quarter is not", Degraded, HealthInputs { calls: 20, failed: 5, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("slow", Healthy, HealthInputs { latency: ms(1001), ..HEALTHY_INPUTS }, Degraded, HealthReason::HighLatency(ms(1001))),
            ("still slow", Degraded, HealthInputs { latency: ms(600), ..HEALTHY_INPUTS }, Degraded, HealthReason::HighLatency(ms(600))),
            ("not slow enough", Healthy, HealthInputs { latency: ms(600), ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("behind", Healthy, HealthInputs { head_status: HeadStatus::Lagging(LAG), ..HEALTHY_INPUTS }, Degraded, HealthReason::Lagging(LAG)),
            ("a head that cannot be", Healthy, HealthInputs { head_status: HeadStatus::Implausible, ..HEALTHY_INPUTS }, Degraded, HealthReason::ImplausibleHead),
            ("syncing", Healthy, HealthInputs { syncing: true, ..HEALTHY_INPUTS }, Degraded, HealthReason::Syncing),
            ("well again, but not for long", Degraded, HealthInputs { good_probes: 2, ..HEALTHY_INPUTS }, Degraded, HealthReason::Ok),
            ("well again", Degraded, HealthInputs { good_probes: 3, ..HEALTHY_INPUTS }, Healthy, HealthReason::Ok),
            ("another chain", Healthy, HealthInputs { chain_id_check: ChainIdCheck::Mismatch(1), ..HEALTHY_INPUTS }, Quarantined, HealthReason::WrongChainId(1)),
            ("while it was down", Down, HealthInputs { chain_id_check: ChainIdCheck::Mismatch(1), ..HEALTHY_INPUTS }, Quarantined, HealthReason::WrongChainId(1)),
            ("for good", Quarantined, HEALTHY_INPUTS, Quarantined, HealthReason::WrongChainId(0)),
        ] {
            assert_eq!(next_state(now, &facts), (state, reason), "{what}");
        }
    }
}
