//! Why a signer does not sign.

use super::answer::WrongAnswer;
use alloy::primitives::Address;

/// An operator can fix it, or it passes: the work waits, or another signer does it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signer {address} ({backend}) does not sign: {fault}")]
pub struct SignError {
    pub(super) address: Address,
    /// The kind of signer and where it is, without credentials.
    pub(super) backend: String,
    pub(super) fault: SignerFault,
}

impl SignError {
    pub(crate) fn is_throttled(&self) -> bool {
        self.fault == SignerFault::Throttled
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignerFault {
    #[error("it cannot be reached ({0})")]
    Unreachable(&'static str),
    #[error("it did not answer in time")]
    Timeout,
    #[error("it limits the rate of signatures")]
    Throttled,
    /// The text is shortened and redacted.
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("it answered with HTTP status {0}")]
    Status(u16),
    #[error("it answered with something that is no JSON-RPC answer")]
    Unreadable,
    #[error("it {0}")]
    WrongAnswer(WrongAnswer),
}

impl SignerFault {
    /// Whether the next try may succeed without anybody doing something.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout | Self::Throttled => true,
            Self::Status(status) => *status >= 500,
            Self::Refused(_) | Self::Unreadable | Self::WrongAnswer(_) => false,
        }
    }

    /// For metrics and spans.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::Refused(_) => "refused",
            Self::Status(_) => "http_status",
            Self::Unreadable => "unreadable",
            Self::WrongAnswer(_) => "wrong_answer",
        }
    }
}
