//! Where a registration stands, and the one function that moves it.

use super::blocked_reason::{UnknownCode, code_of, from_code};
use std::str::FromStr;

/// Where a registration stands. The variants are payload-free so that a column can hold one and a statement can move a whole
/// batch; what belongs to a state (transaction, block, failure) stands beside it in [`super::Registration`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Accepted and on disk; no transaction carries it.
    Queued,
    /// A signed transaction carries it, and its bytes are on disk; no node is known to have them. Callers see `QUEUED`.
    Signed,
    /// A node has taken the transaction.
    Submitted,
    /// In a canonical block, not yet deep enough.
    Included,
    /// At confirmation depth.
    Confirmed,
    /// Cannot succeed as it stands.
    Failed,
}

/// What happens to a registration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StateEvent {
    /// A transaction was signed for it and committed.
    Sign,
    /// A node has taken the transaction.
    Submit,
    /// The transaction is in a canonical block, with its own event.
    Include,
    /// That block is at confirmation depth, or the pair was found on chain at that depth.
    Confirm,
    /// That block is no longer canonical.
    Reorg,
    /// Its transaction can never include it: the nonce was consumed at depth without registering it.
    Requeue,
    /// Somebody else's transaction that had registered it is no longer canonical.
    ForeignReorged,
    /// It cannot succeed as it stands.
    Fail,
    /// The caller registers the failed pair again.
    Retry,
}

impl State {
    /// Every state, in the order of a journey.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Signed, Self::Submitted, Self::Included, Self::Confirmed, Self::Failed];

    const CODES: [(Self, &'static str); 6] = [
        (Self::Queued, "queued"),
        (Self::Signed, "signed"),
        (Self::Submitted, "submitted"),
        (Self::Included, "included"),
        (Self::Confirmed, "confirmed"),
        (Self::Failed, "failed"),
    ];

    /// The code a column holds.
    pub fn code(self) -> &'static str {
        code_of(&Self::CODES, self)
    }

    /// Where `event` leads from here; `None` when it cannot happen here, and nothing may change.
    ///
    /// `Include` and `Confirm` are taken from every earlier state: a crash may hide the answer to a send, and a pair may be
    /// found on chain while it is queued.
    pub fn next(self, event: StateEvent) -> Option<Self> {
        use State::*;
        match (self, event) {
            (Queued, StateEvent::Sign) => Some(Signed),
            (Signed, StateEvent::Submit) => Some(Submitted),
            (Signed | Submitted, StateEvent::Include) => Some(Included),
            (Queued | Signed | Submitted | Included, StateEvent::Confirm) => Some(Confirmed),
            (Included | Confirmed, StateEvent::Reorg) => Some(Submitted),
            (Signed | Submitted | Included, StateEvent::Requeue) | (Confirmed, StateEvent::ForeignReorged) => {
                Some(Queued)
            }
            (Queued | Signed | Submitted | Included, StateEvent::Fail) => Some(Failed),
            (Failed, StateEvent::Retry) => Some(Queued),
            (
                Queued | Signed | Submitted | Included | Confirmed | Failed,
                StateEvent::Sign
                | StateEvent::Submit
                | StateEvent::Include
                | StateEvent::Confirm
                | StateEvent::Reorg
                | StateEvent::Requeue
                | StateEvent::ForeignReorged
                | StateEvent::Fail
                | StateEvent::Retry,
            ) => None,
        }
    }

    /// Whether nothing more is to be done, short of a reorg.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Confirmed | Self::Failed)
    }
}

impl StateEvent {
    /// The states this event can happen in; a statement that moves a batch names them in its `WHERE`.
    pub fn sources(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |state| state.next(self).is_some())
    }

    /// The state this event leads to: one and the same from all its sources.
    pub fn target(self) -> State {
        match self {
            Self::Sign => State::Signed,
            Self::Submit | Self::Reorg => State::Submitted,
            Self::Include => State::Included,
            Self::Confirm => State::Confirmed,
            Self::Requeue | Self::ForeignReorged | Self::Retry => State::Queued,
            Self::Fail => State::Failed,
        }
    }
}

impl FromStr for State {
    type Err = UnknownCode;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        from_code(&Self::CODES, code)
    }
}

/// How final a registration's block is, by the chain's own `safe` and `finalized` heads
/// (<https://docs.base.org/base-chain/network-information/transaction-finality>).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Finality {
    /// Above the safe head.
    Unsafe,
    /// At or below the safe head.
    Safe,
    /// At or below the finalized head.
    Finalized,
}

impl Finality {
    const CODES: [(Self, &'static str); 3] =
        [(Self::Unsafe, "unsafe"), (Self::Safe, "safe"), (Self::Finalized, "finalized")];

    /// The code a column holds.
    pub fn code(self) -> &'static str {
        code_of(&Self::CODES, self)
    }
}

impl FromStr for Finality {
    type Err = UnknownCode;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        from_code(&Self::CODES, code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [StateEvent; 9] = [
        StateEvent::Sign,
        StateEvent::Submit,
        StateEvent::Include,
        StateEvent::Confirm,
        StateEvent::Reorg,
        StateEvent::Requeue,
        StateEvent::ForeignReorged,
        StateEvent::Fail,
        StateEvent::Retry,
    ];

    /// One row per state, one letter per event of `EVENTS`: the first letter of the next state, `.` where it is refused.
    #[test]
    fn the_truth_table() {
        let table = [
            //                 S s I C R r l F again
            (State::Queued, "S..C...F."),
            (State::Signed, ".sIC.q.F."),
            (State::Submitted, "..IC.q.F."),
            (State::Included, "...Csq.F."),
            (State::Confirmed, "....s.q.."),
            (State::Failed, "........q"),
        ];
        let letter = |state: Option<State>| match state {
            None => '.',
            Some(State::Queued) => 'q',
            Some(State::Signed) => 'S',
            Some(State::Submitted) => 's',
            Some(State::Included) => 'I',
            Some(State::Confirmed) => 'C',
            Some(State::Failed) => 'F',
        };
        for (state, expected) in table {
            let row: String = EVENTS.into_iter().map(|event| letter(state.next(event))).collect();
            assert_eq!(row, expected, "{state:?}");
        }
    }

    #[test]
    fn an_event_has_one_target_and_its_sources_are_those_of_the_table() {
        for event in EVENTS {
            assert!(event.sources().count() > 0);
            for source in event.sources() {
                assert_eq!(source.next(event), Some(event.target()), "{source:?} {event:?}");
            }
        }
    }

    #[test]
    fn codes_survive_a_round_trip() {
        for state in State::ALL {
            assert_eq!(state.code().parse(), Ok(state));
        }
        for finality in [Finality::Unsafe, Finality::Safe, Finality::Finalized] {
            assert_eq!(finality.code().parse(), Ok(finality));
        }
    }
}
