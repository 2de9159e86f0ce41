//! Why a registration is not confirmed: a pure function from evidence to one cause, an explanation and the values
//! that prove it.
//!
//! The caller collects what was observed into an [`Evidence`]. What was not observed is absent from it, and nothing
//! is concluded from absence. `classify` names the cause, `explanation` describes it, `evidence_fields` adds the
//! common values.

pub(super) mod blocker;
pub(super) mod cause;
mod classify;
mod evidence;
mod evidence_fields;
mod explanation;
pub(super) mod report;
#[cfg(test)]
mod tests;

pub use super::observations::{
    BlockFullness, EndpointAnswer, EndpointSnapshot, FeeSnapshot, HeadSnapshot, NodeRejection, ReceiptSnapshot,
    RejectKind, RevertReason, StallSnapshot, TxTooLarge,
};
pub use blocker::Blocker;
pub use cause::Cause;
pub use evidence::{ChainSnapshot, EarlierTx, Evidence, RpcAnswers, Subject, SubmittedTx, Unsent};
pub use explanation::text::MAX_EXPLANATION_CHARS;
pub use report::Diagnosis;

pub fn diagnose(evidence: &Evidence) -> Diagnosis {
    let finding = classify::classify(evidence);
    let explanation = evidence_fields::add_common_fields(explanation::explain(evidence, &finding), evidence);
    Diagnosis {
        cause: finding.cause(),
        explanation: explanation.text,
        evidence: explanation.fields,
        time: evidence.now,
    }
}
