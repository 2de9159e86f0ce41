//! What stands in every diagnosis, whatever its finding: how far it is, and who answered what.

use super::{
    evidence::{Evidence, Subject, SubmittedTx},
    explanation::text::Explanation,
};
use crate::registration::observations::EndpointAnswer;

/// Adds what is the same for every finding.
pub(super) fn add_common_fields(told: Explanation, seen: &Evidence) -> Explanation {
    let told = told
        .field_opt("headBlock", seen.chain.head.map(|head| head.number))
        .field_opt("secondsSinceSubmit", seen.submitted_at.map(|at| seen.now.since(at).as_secs()));
    match &seen.subject {
        Subject::Unsent(unsent) => told.field("state", "queued").field_opt("blockedReason", unsent.blocked_reason),
        Subject::Included { .. } => told.field("state", "included"),
        Subject::Submitted(sent) => add_rpc_answers(told.field("state", "submitted").field("nonce", sent.nonce), sent),
    }
}

/// Who said what. A diagnosis without any of these was made from memory: nobody was asked.
fn add_rpc_answers(told: Explanation, sent: &SubmittedTx) -> Explanation {
    let answers = &sent.answers;
    told.field_opt("chainNonce", answers.nonces.iter().map(|witness| witness.value).max())
        .field_opt("knownTo", endpoints_where(&answers.tx_known, |known| *known))
        .field_opt("unknownTo", endpoints_where(&answers.tx_known, |known| !*known))
        .field_opt("receiptFrom", endpoints_where(&answers.receipts, Option::is_some))
        .field_opt("noReceiptFrom", endpoints_where(&answers.receipts, Option::is_none))
        .field_opt("noAnswerFrom", endpoints_where(&answers.unanswered, |_| true))
}

fn endpoints_where<T>(witnesses: &[EndpointAnswer<T>], is_it: impl Fn(&T) -> bool) -> Option<String> {
    let names: Vec<&str> =
        witnesses.iter().filter(|witness| is_it(&witness.value)).map(|witness| witness.endpoint.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
