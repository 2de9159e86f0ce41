//! Derives an endpoint's state from its health. Degrading is immediate, recovery needs evidence, so that an endpoint does not
//! flap between two states with each of its faults.

use crate::chain::EndpointState;
use std::{fmt, time::Duration};

const DOWN_AFTER_FAILURES: u32 = 5;
/// Timeouts within [`super::error_window::ERROR_WINDOW`] that make an endpoint flapping: it is used only when no steady
/// one is usable.
const FLAPPING_AFTER_TIMEOUTS: usize = 3;
/// With fewer calls the error rate is not significant.
const MIN_CALLS_FOR_ERROR_RATE: u32 = 20;
/// Degraded above the first share of failed calls, until below the second.
const ERROR_RATE_ENTER_EXIT: (f64, f64) = (0.5, 0.25);
/// Degraded above the first mean latency (half of the read timeout), until below the second.
const LATENCY_ENTER_EXIT: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(500));
const PROBES_TO_CLOSE_CIRCUIT: u32 = 2;
const PROBES_TO_END_DEGRADED: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainIdCheck {
    /// Not checked yet, or not since an outage.
    Unknown,
    Match,
    Mismatch(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadStatus {
    InSync,
    /// By block time.
    Lagging(Duration),
    Implausible,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthInputs {
    pub chain_id_check: ChainIdCheck,
    pub consecutive_failures: u32,
    pub last_timed_out: bool,
    /// Within the error window.
    pub recent_timeouts: usize,
    pub calls: u32,
    pub failed: u32,
    pub latency: Duration,
    pub head_status: HeadStatus,
    pub syncing: bool,
    /// Consecutive.
    pub good_probes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthReason {
    Ok,
    WrongChainId(u64),
    Unreachable,
    Flapping,
    TimedOut,
    /// In percent.
    HighErrorRate(u32),
    HighLatency(Duration),
    Lagging(Duration),
    ImplausibleHead,
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
    /// For logs.
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

fn state_when_responding(now: EndpointState, facts: &HealthInputs) -> (EndpointState, HealthReason) {
    let was_degraded = now == EndpointState::Degraded;
    // Failures from before an outage say nothing about the time after it.
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
