//! What goes wrong, and when: decided before anything runs, by the plan and its seed alone, so that a seed tells the same story
//! again.

use super::Plan;
use crate::harness::{Fault, HttpAnswer, proxy::dialects::PROXYD_OVER_RATE_LIMIT};
use fastrand::Rng;
use std::{fmt, ops::Range, time::Duration};

/// The pace at which troubles other than kills come.
const PACE: Duration = Duration::from_millis(2500);
/// How long a trouble lasts that lasts. The pace leaves the chain well for about as long.
const LASTS: Range<u64> = 300..2000;
/// The service's cap is 5 gwei, its own default. Fees may rise above it, or below it above what was offered.
const SPIKE_GWEI: Range<u64> = 2..60;
/// How many blocks a reorg takes back at most.
const DEEPEST: u64 = 3;

/// Everything that goes wrong, in order.
pub struct Schedule {
    /// When which replica is killed.
    pub kills: Vec<(Duration, usize)>,
    /// When what else begins. One ends before the next begins, but a kill comes at any moment.
    pub troubles: Vec<(Duration, Trouble)>,
}

/// Something that goes wrong on the chain or on the way there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The newest blocks are replaced by empty ones.
    Reorg {
        /// So many.
        depth: u64,
    },
    /// The base fee is this high.
    Spike {
        /// In gwei.
        gwei: u64,
        /// So long.
        time: Duration,
    },
    /// The node forgets every so manieth transaction that waits for a block.
    Drop {
        /// 1 is all of them.
        every: usize,
    },
    /// Endpoints do this to every call.
    Cut {
        /// Which.
        endpoints: Endpoints,
        /// What they do.
        fault: Fault,
        /// So long.
        time: Duration,
    },
    /// No block comes.
    Halt {
        /// So long.
        time: Duration,
    },
}

/// Which of the two ways to the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoints {
    /// The one that is asked first.
    Primary,
    /// The other one.
    Backup,
    /// Both.
    All,
}

impl Schedule {
    /// The story of this plan's seed.
    pub fn of(plan: &Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let moments = spread(&mut rng, plan.kills, plan.time);
        let kills = moments.into_iter().map(|at| (at, rng.usize(0..plan.replicas))).collect();
        let rounds = plan.time.as_millis() / PACE.as_millis();
        // Every kind comes before any comes again.
        let kinds = Trouble::kinds();
        let mut deck = Vec::new();
        let troubles = spread(&mut rng, usize::try_from(rounds).unwrap().max(kinds.len()), plan.time)
            .into_iter()
            .map(|at| {
                if deck.is_empty() {
                    deck.extend(kinds);
                    rng.shuffle(&mut deck);
                }
                (at, deck.pop().unwrap()(&mut rng))
            })
            .collect();
        Self { kills, troubles }
    }
}

/// A random moment in each of so many equal shares of the time.
fn spread(rng: &mut Rng, count: usize, time: Duration) -> Vec<Duration> {
    (0..count).map(|turn| time.mul_f64((turn as f64 + rng.f64()) / count as f64)).collect()
}

impl Trouble {
    /// One of each kind.
    fn kinds() -> [fn(&mut Rng) -> Self; 8] {
        [
            |rng| Self::Reorg { depth: rng.u64(1..=DEEPEST) },
            |rng| Self::Reorg { depth: rng.u64(1..=DEEPEST) },
            |rng| Self::Spike { gwei: rng.u64(SPIKE_GWEI), time: a_while(rng) },
            |rng| Self::Drop { every: rng.usize(1..=3) },
            |rng| Self::Cut { endpoints: Endpoints::Primary, fault: any_fault(rng), time: a_while(rng) },
            |rng| Self::Cut { endpoints: Endpoints::Backup, fault: any_fault(rng), time: a_while(rng) },
            |rng| Self::Cut { endpoints: Endpoints::All, fault: any_fault(rng), time: a_while(rng) },
            |rng| Self::Halt { time: a_while(rng) },
        ]
    }

    /// Whether registrations can be confirmed while it lasts. What one endpoint does is no excuse, for there is another.
    pub fn leaves_the_chain_well(self) -> bool {
        match self {
            Self::Reorg { .. } | Self::Drop { .. } => true,
            Self::Spike { .. } | Self::Halt { .. } => false,
            Self::Cut { endpoints, .. } => endpoints != Endpoints::All,
        }
    }

    /// Its kind, for counting.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Reorg { .. } => "reorgs",
            Self::Spike { .. } => "fee spikes",
            Self::Drop { .. } => "drops of waiting transactions",
            Self::Cut { .. } => "endpoint cuts",
            Self::Halt { .. } => "halts of the chain",
        }
    }
}

fn a_while(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(LASTS))
}

/// What an endpoint, or the way there, does to calls.
fn any_fault(rng: &mut Rng) -> Fault {
    let throttled = HttpAnswer::status(429).retry_after(1).saying(PROXYD_OVER_RATE_LIMIT);
    let faults = [
        Fault::Refuse,
        Fault::Hang,
        Fault::Reset,
        Fault::LoseRequest,
        Fault::LoseAnswer,
        Fault::LoseEverySecondAnswer,
        Fault::BreakOffAnswer,
        Fault::Twice,
        Fault::Slow(Duration::from_millis(400)),
        Fault::Http(throttled),
        Fault::Http(HttpAnswer::status(502).html()),
        Fault::Behind(4),
    ];
    faults[rng.usize(..faults.len())]
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reorg { depth } => write!(f, "a reorg of {depth} blocks"),
            Self::Spike { gwei, time } => write!(f, "a base fee of {gwei} gwei for {time:?}"),
            Self::Drop { every: 1 } => write!(f, "every waiting transaction is dropped"),
            Self::Drop { every } => write!(f, "one of {every} waiting transactions is dropped"),
            Self::Cut { endpoints, fault, time } => write!(f, "{endpoints:?} suffers {fault:?} for {time:?}"),
            Self::Halt { time } => write!(f, "no block for {time:?}"),
        }
    }
}
