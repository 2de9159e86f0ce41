//! What probes of the database have found, and how much the next one writes.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Callers in between get the latest result.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// A commit as recent as this shows that the database can be written.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// As much as a commit of many registrations, for after a failure: on a full disk a small write may still fit.
pub(super) const LARGE_PADDING_BYTES: usize = 65_536;
/// Of processes that have ended.
pub(super) const OLD_PROBE: Duration = Duration::from_secs(24 * 60 * 60);

/// What probes have found; shared by all callers.
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) latest: tokio::sync::Mutex<Option<ProbeResult>>,
    pub(super) committed_at: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeResult {
    pub(super) at: Instant,
    pub(super) is_usable: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Write {
    /// Work was committed a moment ago.
    None,
    Small,
    Large,
}

impl Probe {
    pub(super) fn committed(&self) {
        *self.committed_at.lock() = Some(Instant::now());
    }
}

pub(super) fn next_write(has_failed: bool, since_commit: Option<Duration>) -> Write {
    match since_commit {
        _ if has_failed => Write::Large,
        Some(since) if since < WRITE_INTERVAL => Write::None,
        Some(_) | None => Write::Small,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_writes_unless_work_was_just_committed_and_much_after_a_failure() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (has_failed, since_commit, write) in [
            (false, None, Write::Small),
            (false, seconds(0), Write::None),
            (false, seconds(4), Write::None),
            (false, seconds(5), Write::Small),
            (true, None, Write::Large),
            (true, seconds(0), Write::Large),
        ] {
            assert_eq!(next_write(has_failed, since_commit), write, "{has_failed} {since_commit:?}");
        }
    }
}
