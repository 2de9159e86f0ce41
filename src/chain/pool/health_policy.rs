//! Derives an endpoint's state from its health. Degrading is immediate, recovery needs evidence, so that an endpoint
//! does not change its state with each fault.

use super::throttle::Throttling;
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
    pub throttling: Throttling,
    pub syncing: bool,
    /// Consecutive.
    pub good_probes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthReason {
    Ok,
    WrongChainId(u64),
    Unreachable,
    RateLimited,
    QuotaSpent,
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
            Self::Ok => f.write_str("healthy"),
            Self::WrongChainId(id) => write!(f, "on chain {id}"),
            Self::Unreachable => f.write_str("does not answer"),
            Self::RateLimited => f.write_str("rate limited"),
            Self::QuotaSpent => f.write_str("the plan's quota is spent"),
            Self::Flapping => f.write_str("repeated timeouts"),
            Self::TimedOut => f.write_str("timed out"),
            Self::HighErrorRate(percent) => write!(f, "{percent}% of calls fail"),
            Self::HighLatency(latency) => write!(f, "mean latency {} ms", latency.as_millis()),
            Self::Lagging(lag) => write!(f, "{:.1} s behind the others", lag.as_secs_f64()),
            Self::ImplausibleHead => f.write_str("implausible head"),
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
            Self::RateLimited => "rate_limited",
            Self::QuotaSpent => "quota_spent",
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

pub fn next_state(current: EndpointState, inputs: &HealthInputs) -> (EndpointState, HealthReason) {
    if let ChainIdCheck::Mismatch(id) = inputs.chain_id_check {
        return (EndpointState::Quarantined, HealthReason::WrongChainId(id));
    }
    let is_verified = inputs.chain_id_check == ChainIdCheck::Match;
    match current {
        EndpointState::Quarantined | EndpointState::Down
            if is_verified && inputs.good_probes >= PROBES_TO_CLOSE_CIRCUIT =>
        {
            state_when_responding(current, inputs)
        }
        // Its id is right again, but it has not proved itself yet.
        EndpointState::Quarantined => (current, HealthReason::WrongChainId(0)),
        EndpointState::Down => (current, HealthReason::Unreachable),
        EndpointState::Healthy | EndpointState::Degraded | EndpointState::Suspect | EndpointState::Throttled => {
            match inputs.throttling {
                Throttling::Long => return (EndpointState::Throttled, HealthReason::RateLimited),
                Throttling::QuotaSpent => return (EndpointState::Throttled, HealthReason::QuotaSpent),
                Throttling::Short => {}
            }
            if inputs.consecutive_failures >= DOWN_AFTER_FAILURES {
                (EndpointState::Down, HealthReason::Unreachable)
            } else if inputs.consecutive_failures > 0 && inputs.last_timed_out {
                (EndpointState::Suspect, HealthReason::TimedOut)
            } else if current == EndpointState::Suspect && inputs.good_probes == 0 {
                (current, HealthReason::TimedOut)
            } else {
                state_when_responding(current, inputs)
            }
        }
    }
}

fn state_when_responding(current: EndpointState, inputs: &HealthInputs) -> (EndpointState, HealthReason) {
    let was_degraded = current == EndpointState::Degraded;
    // Failures from before an outage say nothing about the time after it.
    let is_significant = current.is_usable() && inputs.calls >= MIN_CALLS_FOR_ERROR_RATE;
    let error_rate = if is_significant { f64::from(inputs.failed) / f64::from(inputs.calls) } else { 0.0 };
    let reason = match inputs.head_status {
        HeadStatus::Lagging(lag) => Some(HealthReason::Lagging(lag)),
        HeadStatus::Implausible => Some(HealthReason::ImplausibleHead),
        HeadStatus::InSync if inputs.syncing => Some(HealthReason::Syncing),
        HeadStatus::InSync if inputs.recent_timeouts >= FLAPPING_AFTER_TIMEOUTS => Some(HealthReason::Flapping),
        HeadStatus::InSync
            if error_rate > if was_degraded { ERROR_RATE_ENTER_EXIT.1 } else { ERROR_RATE_ENTER_EXIT.0 } =>
        {
            Some(HealthReason::HighErrorRate((error_rate * 100.0) as u32))
        }
        HeadStatus::InSync
            if inputs.latency > if was_degraded { LATENCY_ENTER_EXIT.1 } else { LATENCY_ENTER_EXIT.0 } =>
        {
            Some(HealthReason::HighLatency(inputs.latency))
        }
        HeadStatus::InSync => None,
    };
    match reason {
        Some(reason) => (EndpointState::Degraded, reason),
        None if was_degraded && inputs.good_probes < PROBES_TO_END_DEGRADED => (current, HealthReason::Ok),
        None => (EndpointState::Healthy, HealthReason::Ok),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointState::*;
    use HealthInputs as Inputs;
    use HealthReason as Reason;

    const BASE: Inputs = Inputs {
        chain_id_check: ChainIdCheck::Match,
        consecutive_failures: 0,
        last_timed_out: false,
        recent_timeouts: 0,
        calls: 100,
        failed: 0,
        latency: Duration::from_millis(20),
        head_status: HeadStatus::InSync,
        throttling: Throttling::Short,
        syncing: false,
        good_probes: 9,
    };
    const LAG: Duration = Duration::from_secs(4);

    #[test]
    fn degrading_is_immediate_and_recovery_needs_good_probes() {
        let ms = Duration::from_millis;
        for (what, current, inputs, state, reason) in [
            ("no fault", Healthy, BASE, Healthy, Reason::Ok),
            ("one failure", Healthy, Inputs { consecutive_failures: 1, ..BASE }, Healthy, Reason::Ok),
            (
                "one timeout",
                Healthy,
                Inputs { consecutive_failures: 1, last_timed_out: true, ..BASE },
                Suspect,
                Reason::TimedOut,
            ),
            ("suspect, no good probe", Suspect, Inputs { good_probes: 0, ..BASE }, Suspect, Reason::TimedOut),
            ("suspect, one good probe", Suspect, Inputs { good_probes: 1, ..BASE }, Healthy, Reason::Ok),
            ("two recent timeouts", Healthy, Inputs { recent_timeouts: 2, ..BASE }, Healthy, Reason::Ok),
            ("three recent timeouts", Suspect, Inputs { recent_timeouts: 3, ..BASE }, Degraded, Reason::Flapping),
            ("four failures in a row", Healthy, Inputs { consecutive_failures: 4, ..BASE }, Healthy, Reason::Ok),
            ("five failures in a row", Healthy, Inputs { consecutive_failures: 5, ..BASE }, Down, Reason::Unreachable),
            (
                "degraded, five failures in a row",
                Degraded,
                Inputs { consecutive_failures: 5, ..BASE },
                Down,
                Reason::Unreachable,
            ),
            ("down, one good probe", Down, Inputs { good_probes: 1, ..BASE }, Down, Reason::Unreachable),
            ("down, two good probes", Down, Inputs { good_probes: 2, ..BASE }, Healthy, Reason::Ok),
            (
                "failures before the outage do not count",
                Down,
                Inputs { calls: 20, failed: 18, good_probes: 2, ..BASE },
                Healthy,
                Reason::Ok,
            ),
            (
                "down, chain id not checked",
                Down,
                Inputs { chain_id_check: ChainIdCheck::Unknown, ..BASE },
                Down,
                Reason::Unreachable,
            ),
            (
                "down, good probes with an old head",
                Down,
                Inputs { head_status: HeadStatus::Lagging(LAG), ..BASE },
                Degraded,
                Reason::Lagging(LAG),
            ),
            (
                "19 calls are too few for an error rate",
                Healthy,
                Inputs { calls: 19, failed: 19, ..BASE },
                Healthy,
                Reason::Ok,
            ),
            ("half of the calls failed", Healthy, Inputs { calls: 20, failed: 10, ..BASE }, Healthy, Reason::Ok),
            (
                "more than half failed",
                Healthy,
                Inputs { calls: 20, failed: 11, ..BASE },
                Degraded,
                Reason::HighErrorRate(55),
            ),
            (
                "degraded, a third failed",
                Degraded,
                Inputs { calls: 30, failed: 10, ..BASE },
                Degraded,
                Reason::HighErrorRate(33),
            ),
            ("degraded, a quarter failed", Degraded, Inputs { calls: 20, failed: 5, ..BASE }, Healthy, Reason::Ok),
            ("high latency", Healthy, Inputs { latency: ms(1001), ..BASE }, Degraded, Reason::HighLatency(ms(1001))),
            (
                "degraded, latency above the exit threshold",
                Degraded,
                Inputs { latency: ms(600), ..BASE },
                Degraded,
                Reason::HighLatency(ms(600)),
            ),
            ("latency below the entry threshold", Healthy, Inputs { latency: ms(600), ..BASE }, Healthy, Reason::Ok),
            (
                "lagging",
                Healthy,
                Inputs { head_status: HeadStatus::Lagging(LAG), ..BASE },
                Degraded,
                Reason::Lagging(LAG),
            ),
            (
                "implausible head",
                Healthy,
                Inputs { head_status: HeadStatus::Implausible, ..BASE },
                Degraded,
                Reason::ImplausibleHead,
            ),
            ("syncing", Healthy, Inputs { syncing: true, ..BASE }, Degraded, Reason::Syncing),
            ("degraded, two good probes", Degraded, Inputs { good_probes: 2, ..BASE }, Degraded, Reason::Ok),
            ("degraded, three good probes", Degraded, Inputs { good_probes: 3, ..BASE }, Healthy, Reason::Ok),
            (
                "wrong chain id",
                Healthy,
                Inputs { chain_id_check: ChainIdCheck::Mismatch(1), ..BASE },
                Quarantined,
                Reason::WrongChainId(1),
            ),
            (
                "down, wrong chain id",
                Down,
                Inputs { chain_id_check: ChainIdCheck::Mismatch(1), ..BASE },
                Quarantined,
                Reason::WrongChainId(1),
            ),
            (
                "quarantined, right chain id, one good probe",
                Quarantined,
                Inputs { good_probes: 1, ..BASE },
                Quarantined,
                Reason::WrongChainId(0),
            ),
            ("quarantined, right chain id, two good probes", Quarantined, BASE, Healthy, Reason::Ok),
            (
                "quarantined, chain id unknown",
                Quarantined,
                Inputs { chain_id_check: ChainIdCheck::Unknown, ..BASE },
                Quarantined,
                Reason::WrongChainId(0),
            ),
            ("a long pause", Healthy, Inputs { throttling: Throttling::Long, ..BASE }, Throttled, Reason::RateLimited),
            (
                "the quota is spent, after a timeout",
                Suspect,
                Inputs { throttling: Throttling::QuotaSpent, ..BASE },
                Throttled,
                Reason::QuotaSpent,
            ),
            (
                "down, and throttled",
                Down,
                Inputs { throttling: Throttling::Long, good_probes: 0, ..BASE },
                Down,
                Reason::Unreachable,
            ),
            ("throttled no more", Throttled, Inputs { good_probes: 0, ..BASE }, Healthy, Reason::Ok),
        ] {
            assert_eq!(next_state(current, &inputs), (state, reason), "{what}");
        }
    }
}
