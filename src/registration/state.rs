//! The states of a registration, and the one function that moves between them.

use super::codes::coded_enum;

coded_enum! {
    /// The variants carry no data so that a column can hold one and a statement can move a whole batch. The data of a
    /// state (transaction, block, failure) is in [`super::Registration`].
    pub enum State {
        /// Accepted and on disk; no transaction carries it.
        Queued = "queued",
        /// A signed transaction with it is on disk; no node is known to have that. Callers see `QUEUED`.
        Signed = "signed",
        /// A node accepted the transaction.
        Submitted = "submitted",
        /// In a canonical block that is not deep enough yet.
        Included = "included",
        /// At confirmation depth.
        Confirmed = "confirmed",
        /// Cannot succeed as it is.
        Failed = "failed",
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StateEvent {
    /// A transaction with it was signed and committed.
    Sign,
    /// A node accepted the transaction.
    Submit,
    /// The transaction is in a canonical block, and its receipt has the event of this registration.
    Include,
    /// That block is at confirmation depth, or the pair was found on chain at that depth.
    Confirm,
    /// That block is no longer canonical.
    Reorg,
    /// Its transaction can no longer register it: the nonce was consumed at depth by something else.
    Requeue,
    /// The transaction of another sender that had registered it is no longer canonical.
    ForeignReorged,
    Fail,
    /// The caller registers the failed pair again.
    Retry,
}

impl State {
    /// The state after `event`; `None` when the event is not allowed in this state.
    ///
    /// `Include` and `Confirm` are allowed in every earlier state: a crash may hide the answer to a broadcast, and a
    /// pair may be found on chain while it is queued.
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
}

impl StateEvent {
    /// The states in which this event is allowed; a statement that moves a batch lists them in its `WHERE`.
    pub fn sources(self) -> impl Iterator<Item = State> {
        State::CODES.into_iter().map(|(state, _)| state).filter(move |state| state.next(self).is_some())
    }

    /// The same from all sources.
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

coded_enum! {
    /// By the chain's own `safe` and `finalized` heads
    /// (<https://docs.base.org/base-chain/network-information/transaction-finality>).
    pub enum Finality {
        /// Above the safe head.
        Unsafe = "unsafe",
        /// At or below the safe head.
        Safe = "safe",
        /// At or below the finalized head.
        Finalized = "finalized",
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

    /// One row per state, one letter per event of `EVENTS`: the first letter of the next state, `.` where it is
    /// refused.
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
        for (state, code) in State::CODES {
            assert_eq!((state.code(), code.parse()), (code, Ok(state)));
        }
        for (finality, code) in Finality::CODES {
            assert_eq!((finality.code(), code.parse()), (code, Ok(finality)));
        }
    }
}
