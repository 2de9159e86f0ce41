//! Why a registration is not confirmed: a pure function from evidence to one cause.

use super::{
    State, Timestamp,
    outcome::{UnknownCode, code_of, from_code},
};
use std::{collections::BTreeMap, str::FromStr};

/// Why a registration is not confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// In a canonical block that is not deep enough yet.
    AwaitingConfirmations,
    /// Nothing is wrong: it is still waiting.
    Pending,
}

impl Cause {
    const CODES: [(Self, &'static str); 2] =
        [(Self::AwaitingConfirmations, "awaiting_confirmations"), (Self::Pending, "pending")];

    /// The stable code: metric label, column and error metadata.
    pub fn code(self) -> &'static str {
        code_of(&Self::CODES, self)
    }
}

impl FromStr for Cause {
    type Err = UnknownCode;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        from_code(&Self::CODES, code)
    }
}

/// Why a registration was not confirmed when it was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// The cause.
    pub cause: Cause,
    /// The cause in plain words.
    pub explanation: String,
    /// The numbers that prove it.
    pub evidence: BTreeMap<String, String>,
    /// When it was made.
    pub time: Timestamp,
}

/// What is known of a registration that is not confirmed.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Where it stands.
    pub state: State,
    /// What it waits for that an operator can mend.
    pub blocked: Option<super::Blocked>,
    /// The block that includes it.
    pub included_block: Option<u64>,
    /// The chain's head, as last seen.
    pub head_block: Option<u64>,
    /// How deep a block must be; the block itself counts as 1.
    pub confirmations_required: u64,
    /// Whether the chain may mine a block only when there is a transaction, as plain anvil does.
    pub mines_on_demand: bool,
    /// When a node took the transaction.
    pub submitted: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

/// Names the cause, explains it, and lists the numbers that prove it.
pub fn diagnose(seen: &Evidence) -> Diagnosis {
    let mut evidence = BTreeMap::from([("state".to_owned(), seen.state.code().to_owned())]);
    let mut note = |key: &str, value: Option<u64>| {
        if let Some(value) = value {
            evidence.insert(key.to_owned(), value.to_string());
        }
    };
    let depth = seen.included_block.zip(seen.head_block).map(|(block, head)| (head + 1).saturating_sub(block));
    note("includedBlock", seen.included_block);
    note("headBlock", seen.head_block);
    note("confirmations", depth);
    note("confirmationsRequired", Some(seen.confirmations_required));
    note("secondsSinceSubmit", seen.submitted.map(|at| seen.now.since(at).as_secs()));
    if let Some(blocked) = seen.blocked {
        evidence.insert("blockedReason".to_owned(), blocked.code().to_owned());
    }

    let (cause, explanation) = match (seen.state, depth) {
        (State::Included, Some(depth)) => (Cause::AwaitingConfirmations, awaiting(seen, depth)),
        (State::Included, None) => (
            Cause::AwaitingConfirmations,
            "The transaction is in a block, and the block is not deep enough yet.".into(),
        ),
        (State::Queued | State::Signed, _) => (Cause::Pending, queued(seen)),
        (State::Submitted, _) => {
            (Cause::Pending, "A node has taken the transaction, and no block includes it yet.".into())
        }
        (State::Confirmed | State::Failed, _) => (Cause::Pending, "The registration is settled.".into()),
    };
    Diagnosis { cause, explanation, evidence, time: seen.now }
}

fn awaiting(seen: &Evidence, depth: u64) -> String {
    let base = format!(
        "The transaction is in block {}, which has {depth} of the {} confirmations it needs.",
        seen.included_block.unwrap_or_default(),
        seen.confirmations_required
    );
    if seen.mines_on_demand {
        format!(
            "{base} No new block comes. A chain that mines only when there is a transaction, as plain anvil does, may never mine \
             the next one: start anvil with --block-time 1, or set REGISTRAR_CONFIRMATIONS=1."
        )
    } else {
        format!("{base} It goes on with the next block.")
    }
}

fn queued(seen: &Evidence) -> String {
    match seen.blocked {
        Some(blocked) => format!("It is accepted and waits: {blocked}. It goes on by itself when that is mended."),
        None => "It is accepted and waits for its turn; no node has taken a transaction for it yet.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::Blocked;

    fn evidence(state: State) -> Evidence {
        Evidence {
            state,
            blocked: None,
            included_block: None,
            head_block: Some(10),
            confirmations_required: 2,
            mines_on_demand: false,
            submitted: Some(Timestamp::from_seconds(5)),
            now: Timestamp::from_seconds(35),
        }
    }

    #[test]
    fn a_shallow_block_awaits_confirmations_and_says_how_many() {
        let diagnosis = diagnose(&Evidence { included_block: Some(10), ..evidence(State::Included) });
        assert_eq!(diagnosis.cause, Cause::AwaitingConfirmations);
        assert!(diagnosis.explanation.contains("1 of the 2 confirmations"), "{}", diagnosis.explanation);
        assert_eq!(diagnosis.evidence["confirmations"], "1");
        assert_eq!(diagnosis.evidence["secondsSinceSubmit"], "30");
    }

    #[test]
    fn a_chain_that_mines_on_demand_gets_the_setting_that_helps() {
        let seen = Evidence { included_block: Some(10), mines_on_demand: true, ..evidence(State::Included) };
        assert!(diagnose(&seen).explanation.contains("REGISTRAR_CONFIRMATIONS=1"));
    }

    #[test]
    fn what_is_not_in_a_block_is_pending_and_names_what_blocks_it() {
        for state in [State::Queued, State::Signed, State::Submitted] {
            assert_eq!(diagnose(&evidence(state)).cause, Cause::Pending);
        }
        let blocked = Evidence { blocked: Some(Blocked::InsufficientFunds), ..evidence(State::Queued) };
        assert!(diagnose(&blocked).explanation.contains("INSUFFICIENT_FUNDS"));
    }
}
