//! Why a command failed, as a stable code.

use super::tls_problem::TlsProblem;
use crate::registration::ErrorReason;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    Client(ClientReason),
    Server(ErrorReason),
    /// From a newer server, or from one that is not a registrar. Empty if it sent none.
    Unknown(String),
}

/// Errors that the server does not report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClientReason {
    InvalidArguments,
    ServerUnreachable,
    /// As [`Self::ServerUnreachable`], of the HTTP server on this machine.
    AdminUnreachable,
    TlsFailed(TlsProblem),
    /// After a call was sent, so it may have been processed.
    ConnectionLost,
    /// A command that calls no service.
    CommandFailed,
    /// The service answered that it is not ready.
    NotReady,
    /// Ctrl-C while waiting.
    Interrupted,
}

impl ClientReason {
    fn code(self) -> &'static str {
        match self {
            Self::InvalidArguments => "INVALID_ARGUMENTS",
            Self::ServerUnreachable | Self::AdminUnreachable => "SERVER_UNREACHABLE",
            Self::TlsFailed(_) => "TLS_FAILED",
            Self::ConnectionLost => "CONNECTION_LOST",
            Self::CommandFailed => "COMMAND_FAILED",
            Self::NotReady => "NOT_READY",
            Self::Interrupted => "INTERRUPTED",
        }
    }
}

impl Reason {
    pub(super) fn from_server(code: &str) -> Self {
        code.parse().map_or_else(|_| Self::Unknown(code.to_owned()), Self::Server)
    }

    /// Empty if the server sent none.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Client(reason) => reason.code(),
            Self::Server(reason) => reason.code(),
            Self::Unknown(code) => code,
        }
    }
}

impl From<ClientReason> for Reason {
    fn from(reason: ClientReason) -> Self {
        Self::Client(reason)
    }
}

impl From<ErrorReason> for Reason {
    fn from(reason: ErrorReason) -> Self {
        Self::Server(reason)
    }
}
