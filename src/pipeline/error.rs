//! Errors that several parts of the pipeline share.

use crate::{
    chain::{CallError, SignError},
    registration::diagnosis::Blocker,
    store::StoreError,
};

/// Why a poll of the chain did not finish; the next one repeats it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PollError {
    /// No endpoint answered.
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PollError {
    /// Whether its cause is logged elsewhere already.
    pub(super) fn is_reported_elsewhere(&self) -> bool {
        match self {
            Self::Call(_) => false,
            Self::Store(error) => error.is_reported_elsewhere(),
        }
    }
}

/// Why no transaction was made of a claim.
pub(super) enum PrepareError {
    /// An operator can fix it.
    Blocked(Blocker),
    /// One of several registrations makes the batch revert.
    BatchReverts,
    Store(StoreError),
}

impl From<StoreError> for PrepareError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OverBudget(over) => Self::Blocked(Blocker::DailyBudget(over)),
            StoreError::Database(_)
            | StoreError::Corrupt(_)
            | StoreError::Conflict
            | StoreError::Fenced
            | StoreError::BatchFailed
            | StoreError::Closed => Self::Store(error),
        }
    }
}

impl From<SignError> for PrepareError {
    fn from(error: SignError) -> Self {
        Self::Blocked(signer_blocker(&error))
    }
}

pub(super) fn signer_blocker(error: &SignError) -> Blocker {
    let blocker = if error.is_throttled() { Blocker::SignerThrottled } else { Blocker::SignerUnavailable };
    blocker(error.to_string())
}

impl From<PollError> for PrepareError {
    fn from(error: PollError) -> Self {
        match error {
            PollError::Call(error) => error.into(),
            PollError::Store(error) => error.into(),
        }
    }
}

impl From<CallError> for PrepareError {
    fn from(error: CallError) -> Self {
        Self::Blocked(match error {
            CallError::Rejected { .. } => Blocker::Other(error.to_string()),
            CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => Blocker::NoEndpoint(error.to_string()),
        })
    }
}
