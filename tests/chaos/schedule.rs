//! Plans all faults before anything runs, from the plan and its seed alone, so that a seed always gives the same
//! faults.

use super::{Engine, Plan};
use crate::harness::{Fault, HttpAnswer, proxy::node_errors::PROXYD_OVER_RATE_LIMIT};
use fastrand::Rng;
use std::{fmt, ops::Range, time::Duration};

/// Interval of faults other than kills.
const FAULT_INTERVAL: Duration = Duration::from_millis(2500);
/// Duration of a fault, in milliseconds. [`FAULT_INTERVAL`] leaves the chain usable for about as long.
const FAULT_MILLIS: Range<u64> = 300..2000;
/// The service's fee cap defaults to 5 gwei. Spikes exceed the cap, or only the fees of transactions that are already
/// sent.
const SPIKE_GWEI: Range<u64> = 2..60;
const MAX_REORG_DEPTH: u64 = 3;

pub struct Schedule {
    /// Time and replica of each kill.
    pub kills: Vec<(Duration, usize)>,
    /// Time of each other fault. Faults do not overlap each other, but kills happen at any time.
    pub faults: Vec<(Duration, ChainFault)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainFault {
    /// Replaces the newest blocks with empty ones.
    Reorg { depth: u64 },
    /// Raises the base fee.
    Spike { gwei: u64, time: Duration },
    /// Drops every `every`th pending transaction.
    Drop {
        /// 1 drops all of them.
        every: usize,
    },
    /// Injects a fault into every call of these endpoints.
    Cut { endpoints: Endpoints, fault: Fault, time: Duration },
    /// The backup endpoint redirects every call to an address that no call may reach.
    Redirect { time: Duration },
    /// Stops block production.
    Halt { time: Duration },
    /// The logs of the replicas are not read.
    StallLogs { time: Duration },
    /// PostgreSQL only: the server becomes read-only, and its standby is promoted. Happens once in a run.
    SwitchOver,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoints {
    Primary,
    Backup,
    All,
}

impl Schedule {
    pub fn new(plan: &Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let moments = random_moments(&mut rng, plan.kills, plan.time);
        let kills = moments.into_iter().map(|at| (at, rng.usize(0..plan.replicas))).collect();
        let rounds = plan.time.as_millis() / FAULT_INTERVAL.as_millis();
        // Every kind is used once before any is repeated.
        let kinds = ChainFault::kinds();
        let mut deck = Vec::new();
        let faults = random_moments(&mut rng, usize::try_from(rounds).unwrap().max(kinds.len()), plan.time)
            .into_iter()
            .map(|at| {
                if deck.is_empty() {
                    deck.extend(kinds);
                    rng.shuffle(&mut deck);
                }
                (at, deck.pop().unwrap()(&mut rng))
            })
            .collect();
        Self { kills, faults: with_switch_over(faults, plan) }
    }
}

/// Adds the switch-over in the middle.
fn with_switch_over(mut faults: Vec<(Duration, ChainFault)>, plan: &Plan) -> Vec<(Duration, ChainFault)> {
    if plan.engine == Engine::Postgres {
        let at = faults[faults.len() / 2].0;
        faults.insert(faults.len() / 2, (at, ChainFault::SwitchOver));
    }
    faults
}

/// One random moment in each of `count` equal parts of `time`.
fn random_moments(rng: &mut Rng, count: usize, time: Duration) -> Vec<Duration> {
    (0..count).map(|turn| time.mul_f64((turn as f64 + rng.f64()) / count as f64)).collect()
}

impl ChainFault {
    fn kinds() -> [fn(&mut Rng) -> Self; 10] {
        [
            |rng| Self::Reorg { depth: rng.u64(1..=MAX_REORG_DEPTH) },
            |rng| Self::Reorg { depth: rng.u64(1..=MAX_REORG_DEPTH) },
            |rng| Self::Spike { gwei: rng.u64(SPIKE_GWEI), time: random_duration(rng) },
            |rng| Self::Drop { every: rng.usize(1..=3) },
            |rng| Self::Cut { endpoints: Endpoints::Primary, fault: random_fault(rng), time: random_duration(rng) },
            |rng| Self::Cut { endpoints: Endpoints::Backup, fault: random_fault(rng), time: random_duration(rng) },
            |rng| Self::Cut { endpoints: Endpoints::All, fault: random_fault(rng), time: random_duration(rng) },
            |rng| Self::Redirect { time: random_duration(rng) },
            |rng| Self::Halt { time: random_duration(rng) },
            |rng| Self::StallLogs { time: random_duration(rng) },
        ]
    }

    /// Whether registrations can be confirmed during the fault. A fault of one endpoint is no excuse, because the other
    /// works.
    pub fn keeps_confirming(self) -> bool {
        match self {
            Self::Reorg { .. } | Self::Drop { .. } | Self::Redirect { .. } | Self::StallLogs { .. } => true,
            Self::Spike { .. } | Self::Halt { .. } | Self::SwitchOver => false,
            Self::Cut { endpoints, .. } => endpoints != Endpoints::All,
        }
    }

    /// The name of its row in the summary.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Reorg { .. } => "reorgs",
            Self::Spike { .. } => "fee spikes",
            Self::Drop { .. } => "dropped pending transactions",
            Self::Cut { .. } => "endpoint faults",
            Self::Redirect { .. } => "redirects of the backup endpoint",
            Self::Halt { .. } => "chain halts",
            Self::StallLogs { .. } => "stalled log readers",
            Self::SwitchOver => "database switch-overs",
        }
    }
}

fn random_duration(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(FAULT_MILLIS))
}

fn random_fault(rng: &mut Rng) -> Fault {
    let throttled = HttpAnswer::status(429).retry_after(1).with_error(PROXYD_OVER_RATE_LIMIT);
    let faults = [
        Fault::RefuseConnections,
        Fault::Hang,
        Fault::Reset,
        Fault::LoseRequest,
        Fault::LoseResponse,
        Fault::LoseEverySecondResponse,
        Fault::TruncateResponse,
        Fault::Duplicate,
        Fault::Slow(Duration::from_millis(400)),
        Fault::Http(throttled),
        Fault::Http(HttpAnswer::status(502).html()),
        Fault::Behind(4),
    ];
    faults[rng.usize(..faults.len())]
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reorg { depth } => write!(f, "reorg of {depth} blocks"),
            Self::Spike { gwei, time } => write!(f, "base fee of {gwei} gwei for {time:?}"),
            Self::Drop { every: 1 } => write!(f, "all pending transactions dropped"),
            Self::Drop { every } => write!(f, "one of {every} pending transactions dropped"),
            Self::Cut { endpoints, fault, time } => write!(f, "{fault:?} on {endpoints:?} for {time:?}"),
            Self::Redirect { time } => write!(f, "the backup endpoint redirects for {time:?}"),
            Self::Halt { time } => write!(f, "no block for {time:?}"),
            Self::StallLogs { time } => write!(f, "no log is read for {time:?}"),
            Self::SwitchOver => write!(f, "the standby of the database is promoted"),
        }
    }
}
