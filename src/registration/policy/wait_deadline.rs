//! How long a call may wait: the caller's wait and deadline, and the server's confirmation timeout.

use crate::registration::state::{Finality, State};
use std::time::Duration;

/// The part of a caller's deadline that is left for the response to arrive.
const MIN_ANSWER_MARGIN: Duration = Duration::from_millis(250);

/// The state that a caller waits for, in the order in which they are reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WaitFor {
    Accepted,
    /// A node accepted the transaction.
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
    pub fn is_reached(self, state: State, finality: Option<Finality>) -> bool {
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

/// Counted from the start of the call: the requested wait or the server's maximum, and never past the deadline.
pub fn effective_wait(asked: Option<Duration>, deadline: Option<Duration>, max_wait: Duration) -> Duration {
    let wait = asked.unwrap_or(max_wait).min(max_wait);
    deadline.map_or(wait, |left| wait.min(left.saturating_sub(answer_margin(left))))
}

/// The confirmation timeout also ends a call that requests no wait of its own and no state beyond confirmation.
pub fn bounded_by_confirmation_timeout(wait_for: WaitFor, asked: Option<Duration>) -> bool {
    asked.is_none() && wait_for <= WaitFor::Confirmed
}

/// max(250 ms, 5%), so that the details arrive before the caller gives up.
fn answer_margin(deadline: Duration) -> Duration {
    MIN_ANSWER_MARGIN.max(deadline / 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(300);

    #[test]
    fn a_call_ends_at_the_earliest_of_wait_and_deadline_less_its_margin() {
        let seconds = Duration::from_secs;
        let millis = Duration::from_millis;
        for (asked, deadline, expected) in [
            (None, None, MAX),
            (Some(seconds(5)), None, seconds(5)),
            (Some(seconds(301)), None, MAX),
            (None, Some(seconds(2)), millis(1750)),
            (None, Some(seconds(100)), seconds(95)),
            (None, Some(seconds(99_999_999 * 3600)), MAX),
            (Some(seconds(1)), Some(seconds(100)), seconds(1)),
            (Some(seconds(50)), Some(seconds(10)), millis(9500)),
            (None, Some(millis(100)), Duration::ZERO),
        ] {
            assert_eq!(effective_wait(asked, deadline, MAX), expected, "{asked:?} {deadline:?}");
        }
    }

    #[test]
    fn the_clock_ends_a_call_that_asks_for_no_wait_and_nothing_beyond_confirmation() {
        for (wait_for, asked, expected) in [
            (WaitFor::Submitted, None, true),
            (WaitFor::Confirmed, None, true),
            (WaitFor::Confirmed, Some(MAX), false),
            (WaitFor::Safe, None, false),
        ] {
            assert_eq!(bounded_by_confirmation_timeout(wait_for, asked), expected, "{wait_for:?} {asked:?}");
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
