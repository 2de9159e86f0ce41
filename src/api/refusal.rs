//! What a caller may not do.

use super::fields::index_ranges;
use crate::{
    auth::{CredentialsError, Scope},
    registration::ErrorReason,
};
use std::time::Duration;

/// Of documents that are named in a message.
const MAX_INDEXES_CHARS: usize = 200;

/// Why a call is refused because of its caller.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// The caller is not known.
    Credentials(CredentialsError),
    /// The method needs this scope.
    ScopeMissing(Scope),
    CaseNotAllowed,
    /// As [`Self::CaseNotAllowed`], of these documents of a call with many.
    CasesNotAllowed(Vec<usize>),
    /// The next call may come after this time.
    RateLimited(Duration),
    Limit(CallerLimit),
}

/// A limit of the callers file that a caller has reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallerLimit {
    /// In the callers file.
    pub(super) key: &'static str,
    pub(super) limit: u64,
    pub(super) retry_after: Duration,
}

impl Refusal {
    pub(super) fn reason(&self) -> ErrorReason {
        match self {
            Self::Credentials(CredentialsError::Missing(_)) => ErrorReason::CredentialsMissing,
            Self::Credentials(CredentialsError::Invalid(_) | CredentialsError::UnknownKey) => {
                ErrorReason::CredentialsInvalid
            }
            Self::Credentials(CredentialsError::Expired(_)) => ErrorReason::CredentialsExpired,
            Self::ScopeMissing(_) => ErrorReason::ScopeMissing,
            Self::CaseNotAllowed | Self::CasesNotAllowed(_) => ErrorReason::CaseNotAllowed,
            Self::RateLimited(_) => ErrorReason::RateLimited,
            Self::Limit(_) => ErrorReason::CallerLimit,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(after) | Self::Limit(CallerLimit { retry_after: after, .. }) => Some(*after),
            Self::Credentials(_) | Self::ScopeMissing(_) | Self::CaseNotAllowed | Self::CasesNotAllowed(_) => None,
        }
    }

    /// One short sentence for the caller.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Credentials(CredentialsError::Missing(_)) => {
                "credentials are missing; send `authorization: Bearer TOKEN` or use a client certificate".to_owned()
            }
            Self::Credentials(CredentialsError::Invalid(_) | CredentialsError::UnknownKey) => {
                "the credentials are not known".to_owned()
            }
            Self::Credentials(CredentialsError::Expired(_)) => "the credentials have expired".to_owned(),
            Self::ScopeMissing(scope) => format!("the caller needs the scope {}", scope.code()),
            Self::CaseNotAllowed => "the caller may not use this case".to_owned(),
            Self::CasesNotAllowed(documents) => {
                let documents = index_ranges(documents, MAX_INDEXES_CHARS);
                format!("the caller may not use the cases of documents[{documents}]; nothing was accepted")
            }
            Self::RateLimited(_) => {
                "the caller has used up its rate of calls; this call changed nothing, retry".to_owned()
            }
            Self::Limit(CallerLimit { key, limit, .. }) => {
                format!("the caller has reached its limit of {limit} ({key}); nothing was accepted, retry later")
            }
        }
    }

    /// For the audit log. Of credentials it says more than the message, and never a part of them.
    pub(super) fn detail(&self) -> String {
        if let Self::Credentials(error) = self { error.to_string() } else { self.message() }
    }

    /// `www-authenticate` (<https://www.rfc-editor.org/rfc/rfc6750#section-3>).
    pub(super) fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Credentials(CredentialsError::Missing(_)) => Some("Bearer"),
            Self::Credentials(
                CredentialsError::Invalid(_) | CredentialsError::UnknownKey | CredentialsError::Expired(_),
            ) => Some("Bearer error=\"invalid_token\""),
            Self::ScopeMissing(_)
            | Self::CaseNotAllowed
            | Self::CasesNotAllowed(_)
            | Self::RateLimited(_)
            | Self::Limit(_) => None,
        }
    }
}
