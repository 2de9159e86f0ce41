//! Which segments are kept: a pure function of what is known when a segment ends.

use std::time::Duration;

/// Longer registrations are kept: ten times the usual duration on Base, and the threshold of the alert on duration.
pub(crate) const SLOW_REGISTRATION: Duration = Duration::from_secs(15);
/// Longer calls that do not wait for the chain are kept.
pub(super) const SLOW_CALL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum KeepReason {
    Head,
    Error,
    Timeout,
    Slow,
    Failover,
    FeeBump,
    /// Another segment of the same trace is kept.
    Related,
}

impl KeepReason {
    /// The metric label.
    pub(in crate::telemetry) fn code(self) -> &'static str {
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

#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentSummary {
    /// By the head decision.
    pub(super) sampled: bool,
    pub(super) failed: bool,
    pub(super) failover: bool,
    pub(super) duration: Duration,
    pub(super) slow_after: Duration,
    /// Work that no caller waits for, such as a health check: only the head decision counts.
    pub(super) background: bool,
}

impl SegmentSummary {
    /// Whether the other segments of its trace are kept as well.
    pub(super) fn is_anomalous(&self) -> bool {
        let Self { failed, failover, duration, slow_after, background, .. } = *self;
        !background && (failed || failover || duration >= slow_after)
    }
}

/// `None` if nothing in the segment itself is a reason. The head decision comes first, because Sentry extrapolates from
/// what it keeps.
pub(super) fn keep_reason(summary: &SegmentSummary) -> Option<KeepReason> {
    let SegmentSummary { sampled, failed, failover, duration, slow_after, background } = *summary;
    let reasons = [
        (sampled, KeepReason::Head),
        (failed && !background, KeepReason::Error),
        (failover && !background, KeepReason::Failover),
        (duration >= slow_after && !background, KeepReason::Slow),
    ];
    reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason))
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
    fn anomalous_segments_are_always_kept_and_others_by_the_head_decision() {
        let health_check = SegmentSummary { background: true, ..GOOD };
        for (summary, expected) in [
            (GOOD, None),
            (SegmentSummary { sampled: true, ..GOOD }, Some(KeepReason::Head)),
            (SegmentSummary { sampled: true, failed: true, ..GOOD }, Some(KeepReason::Head)),
            (SegmentSummary { failed: true, ..GOOD }, Some(KeepReason::Error)),
            (SegmentSummary { failover: true, ..GOOD }, Some(KeepReason::Failover)),
            (SegmentSummary { duration: SLOW_CALL, ..GOOD }, Some(KeepReason::Slow)),
            (SegmentSummary { duration: SLOW_CALL, slow_after: SLOW_REGISTRATION, ..GOOD }, None),
            (SegmentSummary { failed: true, duration: SLOW_REGISTRATION, ..health_check }, None),
            (SegmentSummary { sampled: true, ..health_check }, Some(KeepReason::Head)),
        ] {
            assert_eq!(keep_reason(&summary), expected, "{summary:?}");
        }
    }
}
