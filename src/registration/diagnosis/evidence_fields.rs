//! The values in every diagnosis, whatever its finding: the state, and which endpoint answered what.

use super::{
    evidence::{Evidence, Subject, SubmittedTx},
    explanation::text::Explanation,
};
use crate::registration::observations::EndpointAnswer;

pub(super) fn add_common_fields(explanation: Explanation, evidence: &Evidence) -> Explanation {
    let explanation = explanation
        .field_opt("headBlock", evidence.chain.head.map(|head| head.number))
        .field_opt("secondsSinceSubmit", evidence.submitted_at.map(|at| evidence.now.since(at).as_secs()));
    match &evidence.subject {
        Subject::Unsent(unsent) => {
            explanation.field("state", "queued").field_opt("blockedReason", unsent.blocked_reason)
        }
        Subject::Included { .. } => explanation.field("state", "included"),
        Subject::Submitted(submitted) => {
            add_rpc_answers(explanation.field("state", "submitted").field("nonce", submitted.nonce), submitted)
        }
    }
}

/// A diagnosis without any of these was made without calling an endpoint.
fn add_rpc_answers(explanation: Explanation, submitted: &SubmittedTx) -> Explanation {
    let answers = &submitted.answers;
    explanation
        .field_opt("chainNonce", answers.nonces.iter().map(|answer| answer.value).max())
        .field_opt("knownTo", endpoints_where(&answers.tx_known, |known| *known))
        .field_opt("unknownTo", endpoints_where(&answers.tx_known, |known| !*known))
        .field_opt("receiptFrom", endpoints_where(&answers.receipts, Option::is_some))
        .field_opt("noReceiptFrom", endpoints_where(&answers.receipts, Option::is_none))
        .field_opt("noAnswerFrom", endpoints_where(&answers.unanswered, |_| true))
}

fn endpoints_where<T>(answers: &[EndpointAnswer<T>], matches: impl Fn(&T) -> bool) -> Option<String> {
    let names: Vec<&str> =
        answers.iter().filter(|answer| matches(&answer.value)).map(|answer| answer.endpoint.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
