//! Why a pair has no certificate now.

use crate::registration::{ErrorReason, Finality};
use std::time::Duration;

/// A proof that no endpoint has now.
const RETRY_WITHOUT_PROOF: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug)]
pub(super) enum NoCertificate {
    NotRegistered,
    NotFinal { finality: Finality, retry_after: Duration },
    ProofUnavailable(String),
}

impl NoCertificate {
    pub(super) fn reason(&self) -> ErrorReason {
        match self {
            Self::NotRegistered => ErrorReason::NotRegisteredYet,
            Self::NotFinal { .. } => ErrorReason::CertificateNotFinal,
            Self::ProofUnavailable(_) => ErrorReason::ProofUnavailable,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotRegistered => None,
            // In whole seconds.
            Self::NotFinal { retry_after, .. } => Some(Duration::from_secs(retry_after.as_secs().max(1))),
            Self::ProofUnavailable(_) => Some(RETRY_WITHOUT_PROOF),
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::NotRegistered => {
                "the chain has no record of this document and case; register it, or wait until its transaction is in a \
                 block"
                    .to_owned()
            }
            Self::NotFinal { finality, .. } => format!(
                "no block from which the certificate can be made is {finality} yet; ask again later, or for a lower \
                 min_finality"
            ),
            Self::ProofUnavailable(problem) => format!("no certificate can be made now: {problem}"),
        }
    }
}
