//! What endpoints make of a question for which one endpoint's word is not enough, and whose answer is waited for.
//!
//! A real answer says something about the question. An error, a refusal and a timeout are silence, which proves nothing
//! and is not a no. Silence delays the decision as long as the endpoint counts as usable and in sync, but
//! at most [`SILENCE_GRACE`]: work has to finish although a second endpoint refuses such questions for good.

use crate::chain::{CallError, EndpointFault};
use std::time::Duration;
use tokio::time::Instant;

/// How many endpoints have to agree, where that many are configured.
pub const QUORUM: usize = 2;
/// A transaction does not wait longer for a second endpoint's word about its costs.
pub const SECOND_OPINION_TIMEOUT: Duration = Duration::from_millis(500);
/// An endpoint that is silent for this long is not waited for until it answers again.
const SILENCE_GRACE: Duration = Duration::from_secs(60);
/// The same for one that is rate limited: it has said that it will not answer.
const THROTTLED_GRACE: Duration = Duration::from_secs(5);
/// A silent endpoint is asked again after this long: asked at every poll, an endpoint that refuses only this question
/// would soon count as down, and then not be waited for.
const SILENCE_RETRY: Duration = Duration::from_secs(1);
/// After a longer time without a question the silence starts anew.
const MAX_QUESTION_GAP: Duration = Duration::from_secs(10);

/// What endpoints say about one question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumAnswers<A> {
    /// Real answers.
    pub answers: Vec<A>,
    /// Endpoints that gave none and are waited for.
    pub awaited: usize,
}

impl<A> QuorumAnswers<A> {
    /// Whether the answers are enough for a decision: two, or fewer where no other endpoint is waited for.
    pub fn is_sufficient(&self) -> bool {
        self.answers.len() >= QUORUM || (!self.answers.is_empty() && self.awaited == 0)
    }

    /// Whether the answers are enough, and all of them satisfy `predicate`.
    pub fn is_unanimous(&self, predicate: impl Fn(&A) -> bool) -> bool {
        self.is_sufficient() && self.answers.iter().all(predicate)
    }
}

/// Why an endpoint gave no real answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Silence {
    /// Nothing answers at its address, whatever the question.
    Unreachable,
    Throttled,
    /// It failed or refused to answer this question.
    Unanswered,
}

impl From<&CallError> for Silence {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Unavailable { fault: EndpointFault::Connect, .. } => Self::Unreachable,
            CallError::Unavailable {
                fault: EndpointFault::Throttled { .. } | EndpointFault::QuotaSpent { .. },
                ..
            } => Self::Throttled,
            CallError::Unavailable { .. } | CallError::Rejected { .. } | CallError::NoEndpoint { .. } => {
                Self::Unanswered
            }
        }
    }
}

/// What an endpoint made of the questions that need two endpoints.
#[derive(Clone, Copy, Debug, Default)]
pub enum AnswerRecord {
    #[default]
    Answers,
    Silent {
        since: Instant,
        last: Instant,
        ask_again_at: Instant,
    },
    /// It is not waited for until it answers.
    Excused {
        ask_again_at: Instant,
        /// Whether its silence was logged.
        reported: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerChange {
    FellSilent,
    AnswersAgain,
}

impl AnswerRecord {
    pub fn may_ask(&self, now: Instant) -> bool {
        match self {
            Self::Answers => true,
            Self::Silent { ask_again_at, .. } | Self::Excused { ask_again_at, .. } => now >= *ask_again_at,
        }
    }

    pub fn is_awaited(&self) -> bool {
        match self {
            Self::Answers | Self::Silent { .. } => true,
            Self::Excused { .. } => false,
        }
    }

    pub fn record_answer(&mut self) -> Option<AnswerChange> {
        match std::mem::take(self) {
            Self::Excused { reported: true, .. } => Some(AnswerChange::AnswersAgain),
            Self::Excused { .. } | Self::Silent { .. } | Self::Answers => None,
        }
    }

    pub fn record_silence(&mut self, silence: Silence, now: Instant) -> Option<AnswerChange> {
        let (grace, retry) = match silence {
            Silence::Unreachable => (SILENCE_GRACE, Duration::ZERO),
            Silence::Throttled => (THROTTLED_GRACE, Duration::ZERO),
            Silence::Unanswered => (SILENCE_GRACE, SILENCE_RETRY),
        };
        let ask_again_at = now + retry;
        let since = match *self {
            Self::Excused { reported, .. } => {
                *self = Self::Excused { ask_again_at, reported };
                return None;
            }
            Self::Silent { since, last, .. } if now.duration_since(last) <= MAX_QUESTION_GAP => since,
            Self::Silent { .. } | Self::Answers => now,
        };
        if now.duration_since(since) < grace {
            *self = Self::Silent { since, last: now, ask_again_at };
            return None;
        }
        // Rate limits are reported where they are read.
        let reported = silence != Silence::Throttled;
        *self = Self::Excused { ask_again_at, reported };
        reported.then_some(AnswerChange::FellSilent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_real_answers_decide_or_one_when_no_other_endpoint_is_waited_for() {
        for (answers, awaited, is_sufficient, all_yes) in [
            (&[][..], 0, false, false),
            (&[], 1, false, false),
            (&[true], 0, true, true),
            (&[true], 1, false, false),
            (&[false], 0, true, false),
            (&[false], 1, false, false),
            (&[true, true], 0, true, true),
            (&[true, true], 1, true, true),
            (&[true, false], 0, true, false),
        ] {
            let all = QuorumAnswers { answers: answers.to_vec(), awaited };
            let found = (all.is_sufficient(), all.is_unanimous(|yes| *yes));
            assert_eq!(found, (is_sufficient, all_yes), "{all:?}");
        }
    }

    #[test]
    fn a_silent_endpoint_is_waited_for_a_minute_and_reported_once() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut record = AnswerRecord::default();
        let silent = |record: &mut AnswerRecord, seconds| {
            (record.record_silence(Silence::Unanswered, after(seconds)), record.is_awaited())
        };
        assert_eq!(silent(&mut record, 0), (None, true));
        assert!(!record.may_ask(start) && record.may_ask(after(1)));
        for seconds in [10, 20, 30, 40, 50, 59] {
            assert_eq!(silent(&mut record, seconds), (None, true));
        }
        assert_eq!(silent(&mut record, 60), (Some(AnswerChange::FellSilent), false));
        assert_eq!(silent(&mut record, 600), (None, false), "it is reported already, and stays so");
        assert_eq!(record.record_answer(), Some(AnswerChange::AnswersAgain));
        assert_eq!((record.record_answer(), record.may_ask(after(600))), (None, true));
        assert_eq!(silent(&mut record, 601), (None, true));
        assert_eq!(silent(&mut record, 612), (None, true), "not asked for a while");
        assert_eq!(silent(&mut record, 662), (None, true));
    }

    #[test]
    fn an_endpoint_that_is_rate_limited_is_waited_for_five_seconds() {
        let start = Instant::now();
        let mut record = AnswerRecord::default();
        for (seconds, is_awaited) in [(0, true), (4, true), (5, false)] {
            let change = record.record_silence(Silence::Throttled, start + Duration::from_secs(seconds));
            assert_eq!((change, record.is_awaited()), (None, is_awaited), "{seconds} s");
        }
        record.record_answer();
        assert!(record.is_awaited());
    }
}
