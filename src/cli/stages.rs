//! What has newly happened to a registration, told once, however many states were skipped in between.

use super::{blocked, screen::Colour, time};
use crate::api::proto::{Finality, Registration, State, Transaction, WaitFor};

/// How far a registration has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Nothing,
    Accepted,
    Prepared,
    Sent,
    Included,
    Confirmed,
    Safe,
    Finalized,
}

const STEPS: [Step; 7] =
    [Step::Accepted, Step::Prepared, Step::Sent, Step::Included, Step::Confirmed, Step::Safe, Step::Finalized];

/// One line about what happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// What stands in front.
    pub sign: char,
    /// Its colour.
    pub colour: Colour,
    /// What happened.
    pub text: String,
}

/// What has been told of one registration.
pub(super) struct Stages {
    step: Step,
    blocked: String,
    attempts: u32,
    failed: bool,
}

impl Stages {
    /// Nothing has been told.
    pub(super) fn new() -> Self {
        Self { step: Step::Nothing, blocked: String::new(), attempts: 1, failed: false }
    }

    /// What this state adds to what was told.
    pub(super) fn next(&mut self, registration: &Registration) -> Vec<Line> {
        let mut lines = Vec::new();
        let notice = |text| Line { sign: '!', colour: Colour::Yellow, text };
        let step = step(registration);
        if step < self.step {
            lines.push(notice(format!("back to {}: the block that held it is no longer canonical", label(step))));
        }
        for passed in STEPS.into_iter().filter(|passed| *passed > self.step && *passed <= step) {
            lines.push(Line { sign: '✔', colour: Colour::Green, text: told(passed, registration) });
        }
        self.step = step;
        let attempts = registration.transaction.as_ref().map_or(1, |transaction| transaction.attempts.max(1));
        if attempts > self.attempts {
            lines.push(notice(format!("signed again to get it moving (attempt {attempts})")));
        }
        self.attempts = attempts;
        if self.blocked != registration.blocked_reason {
            self.blocked.clone_from(&registration.blocked_reason);
            if !self.blocked.is_empty() {
                lines.push(notice(format!("waits: {}", blocked::words(&self.blocked))));
            }
        }
        let failed = registration.state() == State::Failed;
        if failed && !self.failed {
            let failure = registration.failure.clone().unwrap_or_default();
            let text = format!("failed      {} ({})", failure.message, failure.reason);
            lines.push(Line { sign: '✘', colour: Colour::Red, text });
        }
        self.failed = failed;
        lines
    }

    /// What is being waited for now.
    pub(super) fn awaited(&self) -> &'static str {
        match self.step {
            Step::Nothing => "asking the server",
            Step::Accepted if self.blocked.is_empty() => "waiting for its turn",
            Step::Accepted => "waiting for an operator",
            Step::Prepared => "sending",
            Step::Sent => "waiting for a block",
            Step::Included => "waiting for confirmations",
            Step::Confirmed | Step::Safe => "waiting for finality",
            Step::Finalized => "final",
        }
    }
}

/// Whether a registration has come as far as this.
pub(super) fn reached(registration: &Registration, level: WaitFor) -> bool {
    let wanted = match level {
        WaitFor::Accepted => return true,
        WaitFor::Submitted => Step::Sent,
        WaitFor::Included => Step::Included,
        WaitFor::Unspecified | WaitFor::Confirmed => Step::Confirmed,
        WaitFor::Safe => Step::Safe,
        WaitFor::Finalized => Step::Finalized,
    };
    registration.state() != State::Failed && step(registration) >= wanted
}

fn step(registration: &Registration) -> Step {
    match (registration.state(), registration.finality()) {
        (State::Unspecified, _) => Step::Nothing,
        (State::Queued, _) if signed(registration) => Step::Prepared,
        (State::Queued | State::Failed, _) => Step::Accepted,
        (State::Submitted, _) => Step::Sent,
        (State::Included, _) => Step::Included,
        (State::Confirmed, Finality::Finalized) => Step::Finalized,
        (State::Confirmed, Finality::Safe) => Step::Safe,
        (State::Confirmed, Finality::Unspecified | Finality::Unsafe) => Step::Confirmed,
    }
}

fn signed(registration: &Registration) -> bool {
    registration.transaction.as_ref().is_some_and(|transaction| transaction.sign_time.is_some())
}

fn label(step: Step) -> &'static str {
    match step {
        Step::Nothing => "nothing",
        Step::Accepted => "accepted",
        Step::Prepared => "prepared",
        Step::Sent => "sent",
        Step::Included => "in a block",
        Step::Confirmed => "confirmed",
        Step::Safe => "safe",
        Step::Finalized => "finalized",
    }
}

fn told(step: Step, registration: &Registration) -> String {
    let none = Transaction::default();
    let transaction = registration.transaction.as_ref().unwrap_or(&none);
    let (detail, moment) = match step {
        Step::Nothing => (String::new(), None),
        Step::Accepted => (registration.id.clone(), None),
        Step::Prepared => (prepared(transaction), transaction.sign_time),
        Step::Sent => (short(&transaction.hash), registration.submit_time),
        Step::Included => (
            transaction.block_number.map(|number| format!("block {number}")).unwrap_or_default(),
            registration.include_time,
        ),
        Step::Confirmed => (
            transaction.confirmations.map(|depth| format!("{depth} deep")).unwrap_or_default(),
            registration.confirm_time,
        ),
        Step::Safe => ("its data is on Ethereum".to_owned(), None),
        Step::Finalized => ("its Ethereum block is final".to_owned(), None),
    };
    let after = registration
        .create_time
        .zip(moment)
        .map(|(start, end)| format!("after {}", time::human(time::between(&start, &end))))
        .unwrap_or_default();
    format!("{:11} {detail:30} {after}", label(step)).trim_end().to_owned()
}

fn prepared(transaction: &Transaction) -> String {
    let nonce = transaction.nonce.map(|nonce| format!("nonce {nonce}")).unwrap_or_default();
    if transaction.batch_size > 1 { format!("{nonce}, one of {}", transaction.batch_size) } else { nonce }
}

/// A hash that a person can tell from others at a glance.
pub(super) fn short(hash: &str) -> String {
    match (hash.get(..10), hash.get(hash.len().saturating_sub(6)..)) {
        (Some(head), Some(tail)) if hash.len() > 20 => format!("{head}…{tail}"),
        _ => hash.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(state: State) -> Registration {
        Registration { id: "the-id".into(), state: state.into(), ..Default::default() }
    }

    fn labels(lines: &[Line]) -> Vec<&str> {
        lines.iter().filter_map(|line| line.text.split_whitespace().next()).collect()
    }

    #[test]
    fn skipped_states_are_told_once_and_in_order() {
        let mut stages = Stages::new();
        assert_eq!(labels(&stages.next(&registration(State::Queued))), ["accepted"]);
        assert_eq!(labels(&stages.next(&registration(State::Queued))), [""; 0]);
        assert_eq!(labels(&stages.next(&registration(State::Confirmed))), ["prepared", "sent", "in", "confirmed"]);
    }

    #[test]
    fn a_reorg_a_block_and_a_failure_are_told() {
        let mut stages = Stages::new();
        stages.next(&registration(State::Included));
        assert!(stages.next(&registration(State::Submitted))[0].text.contains("no longer canonical"));
        let blocked = Registration { blocked_reason: "FEE_CAP".into(), ..registration(State::Submitted) };
        assert!(stages.next(&blocked)[0].text.contains("FEE_CAP"));
        let again = Registration {
            transaction: Some(Transaction { attempts: 2, ..Default::default() }),
            ..registration(State::Submitted)
        };
        assert!(stages.next(&again)[0].text.contains("attempt 2"));
    }

    #[test]
    fn a_level_is_reached_when_the_state_is_at_or_beyond_it() {
        use WaitFor::*;
        for (state, finality, levels) in [
            (State::Queued, Finality::Unspecified, vec![Accepted]),
            (State::Submitted, Finality::Unspecified, vec![Accepted, Submitted]),
            (State::Included, Finality::Unsafe, vec![Accepted, Submitted, Included]),
            (State::Confirmed, Finality::Unsafe, vec![Accepted, Submitted, Included, Confirmed, Unspecified]),
            (State::Confirmed, Finality::Safe, vec![Accepted, Submitted, Included, Confirmed, Unspecified, Safe]),
            (State::Failed, Finality::Unspecified, vec![Accepted]),
        ] {
            let registration = Registration { finality: finality.into(), ..registration(state) };
            for level in [Unspecified, Accepted, Submitted, Included, Confirmed, Safe, Finalized] {
                assert_eq!(reached(&registration, level), levels.contains(&level), "{state:?} {finality:?} {level:?}");
            }
        }
    }
}
