//! What is registered, and for which case.

use super::{case_id::CaseId, document_hash::DocumentHash};

/// The key of a registration: the store and the contract each hold a pair at most once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pair {
    /// sha2-256 of the document.
    pub document_hash: DocumentHash,
    /// Public on chain, in clear text.
    pub case_id: CaseId,
}
