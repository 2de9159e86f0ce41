//! Why a registration is not confirmed: a pure function from evidence to one cause, a sentence, and the numbers.
//!
//! Whoever gathers puts what was seen into an [`Evidence`]; what was not seen is absent from it, and nothing is concluded from
//! what is absent. `decide` names the cause, `words` explains it, `numbers` proves it.

mod cause;
mod decide;
mod evidence;
mod hindrance;
mod numbers;
#[cfg(test)]
mod table;
mod words;

pub use cause::Cause;
pub use evidence::{
    Answers, BlockSeen, ChainSeen, Earlier, EndpointSeen, Evidence, FeesSeen, HeadSeen, Meaning, ReceiptSeen, Refused,
    Revert, Sent, StallSeen, Subject, Unsent, Witnessed,
};
pub use hindrance::{Hindrance, TooLarge};
pub use words::LONGEST;

use super::Timestamp;
use std::collections::BTreeMap;

/// Why a registration was not confirmed when it was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// The cause.
    pub cause: Cause,
    /// The cause in plain words: at most [`LONGEST`] characters of ASCII.
    pub explanation: String,
    /// The numbers that prove it.
    pub evidence: BTreeMap<String, String>,
    /// When it was made.
    pub time: Timestamp,
}

/// Names the cause, explains it, and lists the numbers that prove it.
pub fn diagnose(seen: &Evidence) -> Diagnosis {
    let finding = decide::decide(seen);
    let told = numbers::general(words::tell(seen, &finding), seen);
    Diagnosis { cause: finding.cause(), explanation: told.explanation, evidence: told.numbers, time: seen.now }
}
