//! What stands in every diagnosis, whatever its finding: how far it is, and who answered what.

use super::{Evidence, Sent, Subject, Witnessed, words::Told};

/// Adds what is the same for every finding.
pub(super) fn general(told: Told, seen: &Evidence) -> Told {
    let told = told
        .note_some("headBlock", seen.chain.head.map(|head| head.number))
        .note_some("secondsSinceSubmit", seen.submitted.map(|at| seen.now.since(at).as_secs()));
    match &seen.subject {
        Subject::Unsent(unsent) => told.note("state", "queued").note_some("blockedReason", unsent.blocked),
        Subject::Included { .. } => told.note("state", "included"),
        Subject::Sent(sent) => answers(told.note("state", "submitted").note("nonce", sent.nonce), sent),
    }
}

/// Who said what. A diagnosis without any of these was made from memory: nobody was asked.
fn answers(told: Told, sent: &Sent) -> Told {
    let answers = &sent.answers;
    told.note_some("chainNonce", answers.nonces.iter().map(|witness| witness.says).max())
        .note_some("knownTo", who(&answers.known, |known| *known))
        .note_some("unknownTo", who(&answers.known, |known| !*known))
        .note_some("receiptFrom", who(&answers.receipts, Option::is_some))
        .note_some("noReceiptFrom", who(&answers.receipts, Option::is_none))
        .note_some("noAnswerFrom", who(&answers.silent, |_| true))
}

fn who<T>(witnesses: &[Witnessed<T>], is_it: impl Fn(&T) -> bool) -> Option<String> {
    let names: Vec<&str> =
        witnesses.iter().filter(|witness| is_it(&witness.says)).map(|witness| witness.endpoint.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
