//! Which traces are kept. Pure: what is known of some finished spans goes in, and why they are kept comes out.

use std::time::Duration;

/// A journey that took longer is kept: ten times what Base takes on a good day, and where the alert on duration stands.
pub const SLOW_REGISTRATION: Duration = Duration::from_secs(15);
/// A call that does not wait for the chain and takes longer is kept.
pub const SLOW_CALL: Duration = Duration::from_secs(2);

/// Why a trace is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeepReason {
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

impl KeepReason {
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
pub struct SegmentSummary {
    /// Whether the head decision was to keep it.
    pub sampled: bool,
    /// Whether a span has an error status.
    pub failed: bool,
    /// Whether a request of it had to be asked of another endpoint.
    pub failover: bool,
    /// How long the root took.
    pub duration: Duration,
    /// How long it may take before it is slow.
    pub slow_after: Duration,
    /// Whether it is one of many that nobody asked for, such as a health check: only the head decision counts.
    pub background: bool,
}

impl SegmentSummary {
    /// Whether something happened in it for which the whole of its trace is kept.
    pub fn is_anomalous(&self) -> bool {
        let Self { failed, failover, duration: took, slow_after: slow, background, .. } = *self;
        !background && (failed || failover || took >= slow)
    }
}

/// Why these spans are kept; `None` when they are not, as far as they say. The head decision comes first, for what it keeps stands
/// for the share of all.
pub fn keep_reason(seen: &SegmentSummary) -> Option<KeepReason> {
    let SegmentSummary { sampled, failed, failover, duration: took, slow_after, background } = *seen;
    let reasons = [
        (sampled, KeepReason::Head),
        (failed && !background, KeepReason::Error),
        (failover && !background, KeepReason::Failover),
        (took >= slow_after && !background, KeepReason::Slow),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: SegmentSummary = SegmentSummary {
        sampled: false,
        failed: false,
        failover: false,
        duration: Duration::from_millis(5),
        slow_after: SLOW_CALL,
        background: false,
    };

    #[test]
    fn what_went_wrong_is_always_kept_and_what_went_well_by_the_head_decision() {
        let check = SegmentSummary { background: true, ..GOOD };
        for (seen, expected) in [
            (GOOD, None),
            (SegmentSummary { sampled: true, ..GOOD }, Some(KeepReason::Head)),
            (SegmentSummary { sampled: true, failed: true, ..GOOD }, Some(KeepReason::Head)),
            (SegmentSummary { failed: true, ..GOOD }, Some(KeepReason::Error)),
            (SegmentSummary { failover: true, ..GOOD }, Some(KeepReason::Failover)),
            (SegmentSummary { duration: SLOW_CALL, ..GOOD }, Some(KeepReason::Slow)),
            (SegmentSummary { duration: SLOW_CALL, slow_after: SLOW_REGISTRATION, ..GOOD }, None),
            (SegmentSummary { failed: true, duration: SLOW_REGISTRATION, ..check }, None),
            (SegmentSummary { sampled: true, ..check }, Some(KeepReason::Head)),
        ] {
            assert_eq!(keep_reason(&seen), expected, "{seen:?}");
        }
    }
}
