//! What time it is by the calendar. Deadlines are on tokio's clock; this one is for what is stored, shown and compared with blocks.

use crate::registration::Timestamp;
use std::time::SystemTime;

/// The time now.
pub fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(time) = simulated::now() {
        return time;
    }
    Timestamp::from(SystemTime::now())
}

/// Where a test has paused tokio's clock, the calendar goes on with that clock and not by itself. Each thread has its own: a
/// simulation runs all of its service on one.
#[cfg(test)]
pub(crate) mod simulated {
    use super::Timestamp;
    use std::cell::Cell;
    use tokio::time::Instant;

    thread_local! {
        static STARTED: Cell<Option<(Instant, Timestamp)>> = const { Cell::new(None) };
    }

    /// From now on, for this thread, `begin` and as much more as tokio's clock has gone on.
    pub(crate) fn follow_tokio(begin: Timestamp) {
        STARTED.set(Some((Instant::now(), begin)));
    }

    /// Whether this thread runs a simulation.
    pub(crate) fn is_on() -> bool {
        STARTED.get().is_some()
    }

    pub(super) fn now() -> Option<Timestamp> {
        STARTED.get().map(|(begun, time)| time.plus(begun.elapsed()))
    }
}
