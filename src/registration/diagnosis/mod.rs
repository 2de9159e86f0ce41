//! Why a registration is not confirmed: a pure function from evidence to one cause, a sentence, and the numbers.
//!
//! Whoever gathers puts what was seen into an [`Evidence`]; what was not seen is absent from it, and nothing is concluded from
//! what is absent. `decide` names the cause, `words` explains it, `numbers` proves it.

mod blocker;
mod cause;
mod classify;
mod evidence;
mod evidence_fields;
mod explanation;
#[cfg(test)]
mod tests;

pub use blocker::{Blocker, TxTooLarge};
pub use cause::Cause;
pub use evidence::{
    BlockFullness, ChainSnapshot, EarlierTx, EndpointAnswer, EndpointSnapshot, Evidence, FeeSnapshot, HeadSnapshot,
    NodeRejection, ReceiptSnapshot, RejectKind, RevertReason, RpcAnswers, StallSnapshot, Subject, SubmittedTx, Unsent,
};
pub use explanation::MAX_EXPLANATION_CHARS;

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
    let finding = classify::classify(seen);
    let told = evidence_fields::add_common_fields(explanation::explain(seen, &finding), seen);
    Diagnosis { cause: finding.cause(), explanation: told.text, evidence: told.fields, time: seen.now }
}
