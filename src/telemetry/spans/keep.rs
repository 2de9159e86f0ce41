//! Which traces are kept. Pure: what is known of some finished spans goes in, and why they are kept comes out.

use std::time::Duration;

/// A journey that took longer is kept: ten times what Base takes on a good day, and where the alert on duration stands.
pub const SLOW_JOURNEY: Duration = Duration::from_secs(15);
/// A call that does not wait for the chain and takes longer is kept.
pub const SLOW_CALL: Duration = Duration::from_secs(2);

/// Why a trace is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// It is one of the share that is kept of all traces.
    Head,
    /// Something failed in it.
    Error,
    /// Its confirmation clock ran out.
    Timeout,
    /// It took long.
    Slow,
    /// A request of it had to be asked of another endpoint.
    Failover,
    /// Its fee had to be raised.
    FeeBump,
    /// Another part of the same trace is kept.
    Related,
}

impl Reason {
    /// The label of the metric.
    pub fn code(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Slow => "slow",
            Self::Failover => "failover",
            Self::FeeBump => "fee_bump",
            Self::Related => "related",
        }
    }
}

/// What is known of some spans that belong together: a local root and what hangs below it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Whether the head decision was to keep it.
    pub sampled: bool,
    /// Whether a span has an error status.
    pub failed: bool,
    /// Whether a request of it had to be asked of another endpoint.
    pub failover: bool,
    /// How long the root took.
    pub took: Duration,
    /// How long it may take before it is slow.
    pub slow: Duration,
    /// Whether it is one of many that nobody asked for, such as a health check: only the head decision counts.
    pub background: bool,
}

impl Seen {
    /// Whether something happened in it for which the whole of its trace is kept.
    pub fn went_wrong(&self) -> bool {
        let Self { failed, failover, took, slow, background, .. } = *self;
        !background && (failed || failover || took >= slow)
    }
}

/// Why these spans are kept; `None` when they are not, as far as they say. The head decision comes first, for what it keeps stands
/// for the share of all.
pub fn reason(seen: &Seen) -> Option<Reason> {
    let Seen { sampled, failed, failover, took, slow, background } = *seen;
    let reasons = [
        (sampled, Reason::Head),
        (failed && !background, Reason::Error),
        (failover && !background, Reason::Failover),
        (took >= slow && !background, Reason::Slow),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Seen = Seen {
        sampled: false,
        failed: false,
        failover: false,
        took: Duration::from_millis(5),
        slow: SLOW_CALL,
        background: false,
    };

    #[test]
    fn what_went_wrong_is_always_kept_and_what_went_well_by_the_head_decision() {
        let check = Seen { background: true, ..GOOD };
        for (seen, expected) in [
            (GOOD, None),
            (Seen { sampled: true, ..GOOD }, Some(Reason::Head)),
            (Seen { sampled: true, failed: true, ..GOOD }, Some(Reason::Head)),
            (Seen { failed: true, ..GOOD }, Some(Reason::Error)),
            (Seen { failover: true, ..GOOD }, Some(Reason::Failover)),
            (Seen { took: SLOW_CALL, ..GOOD }, Some(Reason::Slow)),
            (Seen { took: SLOW_CALL, slow: SLOW_JOURNEY, ..GOOD }, None),
            (Seen { failed: true, took: SLOW_JOURNEY, ..check }, None),
            (Seen { sampled: true, ..check }, Some(Reason::Head)),
        ] {
            assert_eq!(reason(&seen), expected, "{seen:?}");
        }
    }
}
