//! Lines about the progress of a registration: each step once, also if an update skips states.

use super::{blocked_reason, format, time};
use crate::api::proto::{Finality, Registration, State, Transaction, WaitFor};
use console::Color;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum ProgressStep {
    NotStarted,
    Accepted,
    Prepared,
    Submitted,
    Included,
    Confirmed,
    Safe,
    Finalized,
}

const ALL_STEPS: [ProgressStep; 7] = [
    ProgressStep::Accepted,
    ProgressStep::Prepared,
    ProgressStep::Submitted,
    ProgressStep::Included,
    ProgressStep::Confirmed,
    ProgressStep::Safe,
    ProgressStep::Finalized,
];

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ProgressLine {
    pub symbol: char,
    pub color: Color,
    pub text: String,
}

/// The state that was reported last.
pub(super) struct StepTracker {
    step: ProgressStep,
    blocked_reason: String,
    attempts: u32,
    failed: bool,
}

impl StepTracker {
    pub(super) fn new() -> Self {
        Self { step: ProgressStep::NotStarted, blocked_reason: String::new(), attempts: 1, failed: false }
    }

    /// The lines for what is new in this state.
    pub(super) fn update(&mut self, registration: &Registration) -> Vec<ProgressLine> {
        let mut lines = Vec::new();
        let notice = |text| ProgressLine { symbol: '!', color: Color::Yellow, text };
        let step = current_step(registration);
        if step < self.step {
            lines.push(notice(format!(
                "back to {}: the block of the transaction is no longer canonical",
                step_label(step)
            )));
        }
        for passed in ALL_STEPS.into_iter().filter(|passed| *passed > self.step && *passed <= step) {
            lines.push(ProgressLine { symbol: '✔', color: Color::Green, text: describe_step(passed, registration) });
        }
        self.step = step;
        let attempts = registration.transaction.as_ref().map_or(1, |transaction| transaction.attempts.max(1));
        if attempts > self.attempts {
            lines.push(notice(format!("replaced with higher fees or a smaller batch (attempt {attempts})")));
        }
        self.attempts = attempts;
        if self.blocked_reason != registration.blocked_reason {
            self.blocked_reason.clone_from(&registration.blocked_reason);
            if !self.blocked_reason.is_empty() {
                lines.push(notice(format!("blocked: {}", blocked_reason::describe(&self.blocked_reason))));
            }
        }
        let failed = registration.state() == State::Failed;
        if failed && !self.failed {
            let failure = registration.failure.clone().unwrap_or_default();
            let text = format!("failed      {} ({})", failure.message, failure.reason);
            lines.push(ProgressLine { symbol: '✘', color: Color::Red, text });
        }
        self.failed = failed;
        lines
    }

    pub(super) fn waiting_message(&self) -> &'static str {
        match self.step {
            ProgressStep::NotStarted => "waiting for the server",
            ProgressStep::Accepted if self.blocked_reason.is_empty() => "waiting in the queue",
            ProgressStep::Accepted => "waiting for an operator",
            ProgressStep::Prepared => "sending",
            ProgressStep::Submitted => "waiting for a block",
            ProgressStep::Included => "waiting for confirmations",
            ProgressStep::Confirmed | ProgressStep::Safe => "waiting for finality",
            ProgressStep::Finalized => "final",
        }
    }
}

pub(super) fn has_reached(registration: &Registration, level: WaitFor) -> bool {
    let target = match level {
        WaitFor::Accepted => return true,
        WaitFor::Submitted => ProgressStep::Submitted,
        WaitFor::Included => ProgressStep::Included,
        WaitFor::Unspecified | WaitFor::Confirmed => ProgressStep::Confirmed,
        WaitFor::Safe => ProgressStep::Safe,
        WaitFor::Finalized => ProgressStep::Finalized,
    };
    registration.state() != State::Failed && current_step(registration) >= target
}

fn current_step(registration: &Registration) -> ProgressStep {
    match (registration.state(), registration.finality()) {
        (State::Unspecified, _) => ProgressStep::NotStarted,
        (State::Queued, _) if is_signed(registration) => ProgressStep::Prepared,
        (State::Queued | State::Failed, _) => ProgressStep::Accepted,
        (State::Submitted, _) => ProgressStep::Submitted,
        (State::Included, _) => ProgressStep::Included,
        (State::Confirmed, Finality::Finalized) => ProgressStep::Finalized,
        (State::Confirmed, Finality::Safe) => ProgressStep::Safe,
        (State::Confirmed, Finality::Unspecified | Finality::Unsafe) => ProgressStep::Confirmed,
    }
}

fn is_signed(registration: &Registration) -> bool {
    registration.transaction.as_ref().is_some_and(|transaction| transaction.sign_time.is_some())
}

fn step_label(step: ProgressStep) -> &'static str {
    match step {
        ProgressStep::NotStarted => "nothing",
        ProgressStep::Accepted => "accepted",
        ProgressStep::Prepared => "prepared",
        ProgressStep::Submitted => "sent",
        ProgressStep::Included => "in a block",
        ProgressStep::Confirmed => "confirmed",
        ProgressStep::Safe => "safe",
        ProgressStep::Finalized => "finalized",
    }
}

fn describe_step(step: ProgressStep, registration: &Registration) -> String {
    let none = Transaction::default();
    let transaction = registration.transaction.as_ref().unwrap_or(&none);
    let (detail, reached_at) = match step {
        ProgressStep::NotStarted => (String::new(), None),
        ProgressStep::Accepted => (registration.id.clone(), None),
        ProgressStep::Prepared => (describe_prepared(transaction), transaction.sign_time),
        ProgressStep::Submitted => (format::shorten_hash(&transaction.hash), registration.submit_time),
        ProgressStep::Included => (
            transaction.block_number.map(|number| format!("block {number}")).unwrap_or_default(),
            registration.include_time,
        ),
        ProgressStep::Confirmed => {
            (transaction.confirmations.map(format::format_confirmations).unwrap_or_default(), registration.confirm_time)
        }
        ProgressStep::Safe => ("block data is on Ethereum".to_owned(), None),
        ProgressStep::Finalized => ("Ethereum block is final".to_owned(), None),
    };
    let after = registration
        .create_time
        .zip(reached_at)
        .map(|(start, end)| format!("after {}", time::format_duration(time::elapsed_between(&start, &end))))
        .unwrap_or_default();
    format!("{:11} {detail:30} {after}", step_label(step)).trim_end().to_owned()
}

fn describe_prepared(transaction: &Transaction) -> String {
    let nonce = transaction.nonce.map(|nonce| format!("nonce {nonce}")).unwrap_or_default();
    if transaction.batch_size > 1 { format!("{nonce}, batch of {}", transaction.batch_size) } else { nonce }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(state: State) -> Registration {
        Registration { id: "the-id".into(), state: state.into(), ..Default::default() }
    }

    fn labels(lines: &[ProgressLine]) -> Vec<&str> {
        lines.iter().filter_map(|line| line.text.split_whitespace().next()).collect()
    }

    #[test]
    fn skipped_states_are_reported_once_and_in_order() {
        let mut tracker = StepTracker::new();
        assert_eq!(labels(&tracker.update(&registration(State::Queued))), ["accepted"]);
        assert_eq!(labels(&tracker.update(&registration(State::Queued))), [""; 0]);
        assert_eq!(labels(&tracker.update(&registration(State::Confirmed))), ["prepared", "sent", "in", "confirmed"]);
    }

    #[test]
    fn a_reorg_a_blocked_reason_and_a_replacement_are_reported() {
        let mut tracker = StepTracker::new();
        tracker.update(&registration(State::Included));
        assert!(tracker.update(&registration(State::Submitted))[0].text.contains("no longer canonical"));
        let blocked = Registration { blocked_reason: "FEE_CAP".into(), ..registration(State::Submitted) };
        assert!(tracker.update(&blocked)[0].text.contains("FEE_CAP"));
        let again = Registration {
            transaction: Some(Transaction { attempts: 2, ..Default::default() }),
            ..registration(State::Submitted)
        };
        assert!(tracker.update(&again)[0].text.contains("attempt 2"));
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
                assert_eq!(
                    has_reached(&registration, level),
                    levels.contains(&level),
                    "{state:?} {finality:?} {level:?}"
                );
            }
        }
    }
}
