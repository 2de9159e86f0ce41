//! The wall clock, for times that are stored, displayed and compared with blocks. Deadlines use tokio's clock.

use crate::registration::Timestamp;
use std::time::SystemTime;

/// The wall-clock time; in a simulation, the simulated one.
pub fn now() -> Timestamp {
    #[cfg(test)]
    if let Some(time) = simulated::now() {
        return time;
    }
    Timestamp::from(SystemTime::now())
}

/// In a test with tokio's clock paused, the wall clock follows it. Each thread has its own: a simulation runs its whole
/// service on one.
#[cfg(test)]
pub(crate) mod simulated {
    use super::Timestamp;
    use std::cell::Cell;
    use tokio::time::Instant;

    thread_local! {
        static STARTED: Cell<Option<(Instant, Timestamp)>> = const { Cell::new(None) };
    }

    /// From now on, this thread's time is `begin` plus the time that passes on tokio's clock.
    pub(crate) fn follow_tokio(begin: Timestamp) {
        STARTED.set(Some((Instant::now(), begin)));
    }

    pub(crate) fn is_on() -> bool {
        STARTED.get().is_some()
    }

    pub(super) fn now() -> Option<Timestamp> {
        STARTED.get().map(|(begun, time)| time.plus(begun.elapsed()))
    }
}
