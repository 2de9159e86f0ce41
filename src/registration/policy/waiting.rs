//! How long a call may wait: the caller's wait, the caller's deadline, and the server's confirmation clock.

use std::time::Duration;

/// The least time that is left of a caller's deadline for the answer to travel.
const LEAST_MARGIN: Duration = Duration::from_millis(250);

/// How far a caller wants to wait, in the order of a journey.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WaitFor {
    /// On disk.
    Accepted,
    /// Taken by a node.
    Submitted,
    /// In a block.
    Included,
    /// At confirmation depth.
    Confirmed,
    /// At or below the safe head.
    Safe,
    /// At or below the finalized head.
    Finalized,
}

impl WaitFor {
    /// Whether a registration in this state, with this finality, is as far as asked.
    pub fn is_reached(self, state: super::super::State, finality: Option<super::super::Finality>) -> bool {
        use super::super::{Finality, State};
        let confirmed = state == State::Confirmed;
        match self {
            Self::Accepted => true,
            Self::Submitted => matches!(state, State::Submitted | State::Included | State::Confirmed),
            Self::Included => matches!(state, State::Included | State::Confirmed),
            Self::Confirmed => confirmed,
            Self::Safe => confirmed && finality >= Some(Finality::Safe),
            Self::Finalized => confirmed && finality >= Some(Finality::Finalized),
        }
    }
}

/// The longest a call waits, from its beginning. `None` means that the confirmation clock alone ends it: a call that asks for
/// no wait of its own, for nothing beyond confirmation, and has no deadline.
pub fn longest_wait(
    wait_for: WaitFor,
    asked: Option<Duration>,
    deadline: Option<Duration>,
    max_wait: Duration,
) -> Option<Duration> {
    let wait = asked.or_else(|| (wait_for > WaitFor::Confirmed).then_some(max_wait)).map(|wait| wait.min(max_wait));
    let deadline = deadline.map(|left| left.saturating_sub(answer_margin(left)));
    match (wait, deadline) {
        (Some(wait), Some(deadline)) => Some(wait.min(deadline)),
        (wait, deadline) => wait.or(deadline),
    }
}

/// What is kept of a caller's deadline so that the details arrive before the caller gives up: max(250 ms, 5%).
fn answer_margin(deadline: Duration) -> Duration {
    LEAST_MARGIN.max(deadline / 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{Finality, State};

    const MAX: Duration = Duration::from_secs(300);

    #[test]
    fn a_call_ends_at_the_earliest_of_wait_and_deadline_less_its_margin() {
        let seconds = Duration::from_secs;
        let millis = Duration::from_millis;
        for (wait_for, asked, deadline, expected) in [
            (WaitFor::Confirmed, None, None, None),
            (WaitFor::Confirmed, Some(seconds(5)), None, Some(seconds(5))),
            (WaitFor::Confirmed, None, Some(seconds(2)), Some(millis(1750))),
            (WaitFor::Confirmed, None, Some(seconds(100)), Some(seconds(95))),
            (WaitFor::Confirmed, Some(seconds(1)), Some(seconds(100)), Some(seconds(1))),
            (WaitFor::Confirmed, Some(seconds(50)), Some(seconds(10)), Some(millis(9500))),
            (WaitFor::Confirmed, None, Some(millis(100)), Some(Duration::ZERO)),
            (WaitFor::Finalized, None, None, Some(MAX)),
            (WaitFor::Finalized, Some(seconds(9)), None, Some(seconds(9))),
        ] {
            assert_eq!(longest_wait(wait_for, asked, deadline, MAX), expected, "{wait_for:?} {asked:?} {deadline:?}");
        }
    }

    #[test]
    fn each_level_is_reached_by_its_state_and_those_after_it() {
        use WaitFor::*;
        let levels = [Accepted, Submitted, Included, Confirmed, Safe, Finalized];
        for (state, finality, reached) in [
            (State::Queued, None, 1),
            (State::Signed, None, 1),
            (State::Submitted, None, 2),
            (State::Included, Some(Finality::Unsafe), 3),
            (State::Included, Some(Finality::Finalized), 3),
            (State::Confirmed, Some(Finality::Unsafe), 4),
            (State::Confirmed, Some(Finality::Safe), 5),
            (State::Confirmed, Some(Finality::Finalized), 6),
            (State::Failed, None, 1),
        ] {
            let count = levels.iter().filter(|level| level.is_reached(state, finality)).count();
            assert_eq!(count, reached, "{state:?} {finality:?}");
        }
    }
}
