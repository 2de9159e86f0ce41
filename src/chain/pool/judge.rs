//! From what is known of an endpoint to how much it is trusted. Getting worse is quick, getting better takes proof: no endpoint
//! may flap between two states at the rhythm of its own faults.

use crate::chain::EndpointState;
use std::{fmt, time::Duration};

/// This many calls in a row without an answer: it is gone.
const GONE_AFTER: u32 = 5;
/// Suspected this often within [`super::window::SPAN`]: it comes and goes, and is asked only when no steady one is there.
const SUSPICIONS: usize = 3;
/// A share of failures means something from this many calls on.
const ENOUGH_CALLS: u32 = 20;
/// Above this share of failed calls it is degraded, and below the other it is well again.
const SHARES: (f64, f64) = (0.5, 0.25);
/// Above this mean latency it is degraded (half of what a read may take), and below the other it is well again.
const LATENCIES: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(500));
/// Good probes in a row that close a circuit.
const CLOSES_CIRCUIT: u32 = 2;
/// Good probes in a row that end a degradation.
const ENDS_DEGRADATION: u32 = 3;

/// Which chain an endpoint is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainProof {
    /// It has not said yet, or was away since.
    Unknown,
    /// Ours.
    Right,
    /// This other one.
    Wrong(u64),
}

/// Where its head stands beside the others'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// With them, or nothing to compare with.
    Level,
    /// This much behind, by the blocks' times.
    Behind(Duration),
    /// Ahead of all, with a head that cannot be.
    Implausible,
}

/// What is known of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Which chain it is on.
    pub chain: ChainProof,
    /// Calls in a row without an answer.
    pub consecutive_failures: u32,
    /// Whether the last failure was a call that was not answered in time.
    pub timed_out: bool,
    /// How often it was suspected of late.
    pub suspicions: usize,
    /// Calls of late.
    pub calls: u32,
    /// How many of them failed.
    pub failed: u32,
    /// Mean latency.
    pub latency: Duration,
    /// Where its head stands.
    pub standing: Standing,
    /// Whether it says that it is still syncing.
    pub syncing: bool,
    /// Good probes in a row.
    pub good_probes: u32,
}

/// Why an endpoint is trusted as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nothing is wrong.
    Well,
    /// It is on this other chain.
    OtherChain(u64),
    /// It does not answer.
    Gone,
    /// It comes and goes.
    Unsteady,
    /// A call was not answered in time.
    TimedOut,
    /// This share of its calls fails, in percent.
    Failing(u32),
    /// Its answers take this long.
    Slow(Duration),
    /// Its head is this far behind.
    Behind(Duration),
    /// Its head cannot be.
    Implausible,
    /// It is still syncing.
    Syncing,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("well"),
            Self::OtherChain(id) => write!(f, "on chain {id}"),
            Self::Gone => f.write_str("does not answer"),
            Self::Unsteady => f.write_str("comes and goes"),
            Self::TimedOut => f.write_str("not answered in time"),
            Self::Failing(percent) => write!(f, "{percent}% of its calls fail"),
            Self::Slow(latency) => write!(f, "takes {} ms on average", latency.as_millis()),
            Self::Behind(lag) => write!(f, "{:.1} s behind the others", lag.as_secs_f64()),
            Self::Implausible => f.write_str("shows a head that cannot be"),
            Self::Syncing => f.write_str("still syncing"),
        }
    }
}

impl Reason {
    /// The word for logs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::OtherChain(_) => "other_chain",
            Self::Gone => "gone",
            Self::Unsteady => "unsteady",
            Self::TimedOut => "timeout",
            Self::Failing(_) => "failing",
            Self::Slow(_) => "slow",
            Self::Behind(_) => "behind",
            Self::Implausible => "implausible",
            Self::Syncing => "syncing",
        }
    }
}

/// Where an endpoint goes from `now`.
pub fn judge(now: EndpointState, facts: &Facts) -> (EndpointState, Reason) {
    if let ChainProof::Wrong(id) = facts.chain {
        return (EndpointState::Quarantined, Reason::OtherChain(id));
    }
    let proved = facts.chain == ChainProof::Right;
    match now {
        EndpointState::Quarantined => (now, Reason::OtherChain(0)),
        EndpointState::Down if proved && facts.good_probes >= CLOSES_CIRCUIT => answering(now, facts),
        EndpointState::Down => (now, Reason::Gone),
        EndpointState::Healthy | EndpointState::Degraded | EndpointState::Suspect => {
            if facts.consecutive_failures >= GONE_AFTER {
                (EndpointState::Down, Reason::Gone)
            } else if facts.consecutive_failures > 0 && facts.timed_out {
                (EndpointState::Suspect, Reason::TimedOut)
            } else if now == EndpointState::Suspect && facts.good_probes == 0 {
                (now, Reason::TimedOut)
            } else {
                answering(now, facts)
            }
        }
    }
}

/// It answers: well, or not well.
fn answering(now: EndpointState, facts: &Facts) -> (EndpointState, Reason) {
    let was_degraded = now == EndpointState::Degraded;
    // What failed before it was gone says nothing about one that is back.
    let counts = now != EndpointState::Down && facts.calls >= ENOUGH_CALLS;
    let share = if counts { f64::from(facts.failed) / f64::from(facts.calls) } else { 0.0 };
    let fault = match facts.standing {
        Standing::Behind(lag) => Some(Reason::Behind(lag)),
        Standing::Implausible => Some(Reason::Implausible),
        Standing::Level if facts.syncing => Some(Reason::Syncing),
        Standing::Level if facts.suspicions >= SUSPICIONS => Some(Reason::Unsteady),
        Standing::Level if share > if was_degraded { SHARES.1 } else { SHARES.0 } => {
            Some(Reason::Failing((share * 100.0) as u32))
        }
        Standing::Level if facts.latency > if was_degraded { LATENCIES.1 } else { LATENCIES.0 } => {
            Some(Reason::Slow(facts.latency))
        }
        Standing::Level => None,
    };
    match fault {
        Some(reason) => (EndpointState::Degraded, reason),
        None if was_degraded && facts.good_probes < ENDS_DEGRADATION => (now, Reason::Well),
        None => (EndpointState::Healthy, Reason::Well),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointState::*;

    const WELL: Facts = Facts {
        chain: ChainProof::Right,
        consecutive_failures: 0,
        timed_out: false,
        suspicions: 0,
        calls: 100,
        failed: 0,
        latency: Duration::from_millis(20),
        standing: Standing::Level,
        syncing: false,
        good_probes: 9,
    };
    const LAG: Duration = Duration::from_secs(4);

    #[rustfmt::skip]
    #[test]
    fn trust_is_lost_quickly_and_won_back_with_proof() {
        let ms = Duration::from_millis;
        for (what, now, facts, state, reason) in [
            ("nothing is wrong", Healthy, WELL, Healthy, Reason::Well),
            ("one failure is no news", Healthy, Facts { consecutive_failures: 1, ..WELL }, Healthy, Reason::Well),
            ("one timeout is", Healthy, Facts { consecutive_failures: 1, timed_out: true, ..WELL }, Suspect, Reason::TimedOut),
            ("a suspect stays one", Suspect, Facts { good_probes: 0, ..WELL }, Suspect, Reason::TimedOut),
            ("until a probe is good", Suspect, Facts { good_probes: 1, ..WELL }, Healthy, Reason::Well),
            ("two suspicions", Healthy, Facts { suspicions: 2, ..WELL }, Healthy, Reason::Well),
            ("three suspicions", Suspect, Facts { suspicions: 3, ..WELL }, Degraded, Reason::Unsteady),
            ("four failures in a row", Healthy, Facts { consecutive_failures: 4, ..WELL }, Healthy, Reason::Well),
            ("five failures in a row", Healthy, Facts { consecutive_failures: 5, ..WELL }, Down, Reason::Gone),
            ("a degraded one goes too", Degraded, Facts { consecutive_failures: 5, ..WELL }, Down, Reason::Gone),
            ("down stays down", Down, Facts { good_probes: 1, ..WELL }, Down, Reason::Gone),
            ("until two probes are good", Down, Facts { good_probes: 2, ..WELL }, Healthy, Reason::Well),
            ("what failed before is forgotten then", Down, Facts { calls: 20, failed: 18, good_probes: 2, ..WELL }, Healthy, Reason::Well),
            ("but not without its chain", Down, Facts { chain: ChainProof::Unknown, ..WELL }, Down, Reason::Gone),
            ("and back it may be behind", Down, Facts { standing: Standing::Behind(LAG), ..WELL }, Degraded, Reason::Behind(LAG)),
            ("half of 19 calls say nothing", Healthy, Facts { calls: 19, failed: 19, ..WELL }, Healthy, Reason::Well),
            ("half of 20 is not more than half", Healthy, Facts { calls: 20, failed: 10, ..WELL }, Healthy, Reason::Well),
            ("more than half is", Healthy, Facts { calls: 20, failed: 11, ..WELL }, Degraded, Reason::Failing(55)),
            ("a third is still too much then", Degraded, Facts { calls: 30, failed: 10, ..WELL }, Degraded, Reason::Failing(33)),
            ("a quarter is not", Degraded, Facts { calls: 20, failed: 5, ..WELL }, Healthy, Reason::Well),
            ("slow", Healthy, Facts { latency: ms(1001), ..WELL }, Degraded, Reason::Slow(ms(1001))),
            ("still slow", Degraded, Facts { latency: ms(600), ..WELL }, Degraded, Reason::Slow(ms(600))),
            ("not slow enough", Healthy, Facts { latency: ms(600), ..WELL }, Healthy, Reason::Well),
            ("behind", Healthy, Facts { standing: Standing::Behind(LAG), ..WELL }, Degraded, Reason::Behind(LAG)),
            ("a head that cannot be", Healthy, Facts { standing: Standing::Implausible, ..WELL }, Degraded, Reason::Implausible),
            ("syncing", Healthy, Facts { syncing: true, ..WELL }, Degraded, Reason::Syncing),
            ("well again, but not for long", Degraded, Facts { good_probes: 2, ..WELL }, Degraded, Reason::Well),
            ("well again", Degraded, Facts { good_probes: 3, ..WELL }, Healthy, Reason::Well),
            ("another chain", Healthy, Facts { chain: ChainProof::Wrong(1), ..WELL }, Quarantined, Reason::OtherChain(1)),
            ("while it was down", Down, Facts { chain: ChainProof::Wrong(1), ..WELL }, Quarantined, Reason::OtherChain(1)),
            ("for good", Quarantined, WELL, Quarantined, Reason::OtherChain(0)),
        ] {
            assert_eq!(judge(now, &facts), (state, reason), "{what}");
        }
    }
}
