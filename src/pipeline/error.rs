use super::follower::PollError;
use crate::{chain::CallError, registration::diagnosis::Blocker, store::StoreError};

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
