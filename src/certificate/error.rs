//! Why a certificate is not valid.

use super::{json::JsonError, proof::ProofFault};
use alloy::primitives::B256;

/// The first fault that was found. A message is to be read after "invalid certificate: ".
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidCertificate {
    /// No certificate of a known version.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member that cannot be what it is to be.
    #[error("{field} {problem}")]
    Field {
        /// Such as `block.hash`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The members are readable, and are not written as an issuer does.
    #[error(
        "it differs from the form in which certificates are issued at byte {position}: it was edited or formatted \
         after it was issued; use the file as it was issued"
    )]
    NotCanonical {
        /// From 0.
        position: usize,
    },
    /// The header is not that of the block.
    #[error("block.header has the hash {actual}, but block.hash is {expected}")]
    HeaderHash {
        /// The keccak-256 of the header.
        actual: B256,
        /// What the file states.
        expected: B256,
    },
    /// It cannot be read.
    #[error("block.header is not the header of a block")]
    MalformedHeader,
    /// The contract's account is not shown to be in the block's state.
    #[error("state.accountProof does not prove the contract's account: {0}")]
    AccountProof(ProofFault),
    /// The record is not shown to be in the contract's storage.
    #[error("state.storageProof does not prove a record of this document and case: {0}")]
    StorageProof(ProofFault),
    /// The proof is good, and what it proves is something else.
    #[error("{field} is not what is proved: {proved}")]
    NotProved {
        /// Such as `record.registrar`.
        field: &'static str,
        /// The proved value, or a description of it.
        proved: String,
    },
    /// The block of the certificate is not the one that the verifier knows.
    #[error("its block {actual} is not the block {expected} that is known to be right")]
    OtherBlock {
        /// Of the certificate.
        actual: B256,
        /// The trusted one.
        expected: B256,
    },
    /// The document of the certificate is not the one that is asked about.
    #[error("it is about the document {actual}, and the document to verify is {expected}")]
    OtherDocument {
        /// Of the certificate.
        actual: String,
        /// The one that is asked about.
        expected: String,
    },
    /// The case of the certificate is not the one that is asked about.
    #[error("it is about the case {actual}, and the case to verify is {expected}")]
    OtherCase {
        /// Of the certificate.
        actual: String,
        /// The one that is asked about.
        expected: String,
    },
}

impl InvalidCertificate {
    pub(super) fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Field { field, problem: problem.into() }
    }
}
