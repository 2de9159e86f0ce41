//! The stable reasons of the service's errors.

use super::{codes::coded_enum, failure::FailureReason, grpc_code::GrpcCode};

coded_enum! {
    /// `reason` of `google.rpc.ErrorInfo` and of the trailer `x-error-reason`. `docs/reference/errors.md` describes
    /// each.
    #[allow(missing_docs)]
    pub enum ErrorReason {
        InvalidField = "INVALID_FIELD",
        MalformedRequest = "MALFORMED_REQUEST",
        MessageTooLarge = "MESSAGE_TOO_LARGE",
        CredentialsMissing = "CREDENTIALS_MISSING",
        CredentialsInvalid = "CREDENTIALS_INVALID",
        CredentialsExpired = "CREDENTIALS_EXPIRED",
        ScopeMissing = "SCOPE_MISSING",
        CaseNotAllowed = "CASE_NOT_ALLOWED",
        RateLimited = "RATE_LIMITED",
        CallerLimit = "CALLER_LIMIT",
        RegistrationNotFound = "REGISTRATION_NOT_FOUND",
        CursorForeign = "CURSOR_FOREIGN",
        QueueFull = "QUEUE_FULL",
        TooManyWaiters = "TOO_MANY_WAITERS",
        TooManyCalls = "TOO_MANY_CALLS",
        StoreUnavailable = "STORE_UNAVAILABLE",
        ShuttingDown = "SHUTTING_DOWN",
        ConnectionAge = "CONNECTION_AGE",
        AllRpcEndpointsUnavailable = "ALL_RPC_ENDPOINTS_UNAVAILABLE",
        WaitTimeout = "WAIT_TIMEOUT",
        QueueTimeout = "QUEUE_TIMEOUT",
        ConfirmationTimeout = "CONFIRMATION_TIMEOUT",
        NotRegisteredYet = "NOT_REGISTERED_YET",
        CertificateNotFinal = "CERTIFICATE_NOT_FINAL",
        ProofUnavailable = "PROOF_UNAVAILABLE",
        NoContract = "NO_CONTRACT",
        RejectedByContract = "REJECTED_BY_CONTRACT",
        TransactionReverted = "TRANSACTION_REVERTED",
        /// The fallback for a failed registration without a stored failure; only an edited database has one.
        Failed = "FAILED",
    }
}

impl ErrorReason {
    /// The gRPC status code of errors with this reason.
    pub fn grpc_code(self) -> GrpcCode {
        match self {
            Self::InvalidField | Self::MalformedRequest | Self::CursorForeign => GrpcCode::InvalidArgument,
            Self::MessageTooLarge => GrpcCode::OutOfRange,
            Self::RegistrationNotFound => GrpcCode::NotFound,
            Self::CredentialsMissing | Self::CredentialsInvalid | Self::CredentialsExpired => GrpcCode::Unauthenticated,
            Self::ScopeMissing | Self::CaseNotAllowed => GrpcCode::PermissionDenied,
            Self::RateLimited | Self::CallerLimit | Self::QueueFull | Self::TooManyWaiters | Self::TooManyCalls => {
                GrpcCode::ResourceExhausted
            }
            Self::StoreUnavailable
            | Self::ShuttingDown
            | Self::ConnectionAge
            | Self::AllRpcEndpointsUnavailable
            | Self::ProofUnavailable => GrpcCode::Unavailable,
            Self::WaitTimeout | Self::QueueTimeout | Self::ConfirmationTimeout => GrpcCode::DeadlineExceeded,
            Self::NoContract
            | Self::NotRegisteredYet
            | Self::CertificateNotFinal
            | Self::RejectedByContract
            | Self::TransactionReverted
            | Self::Failed => GrpcCode::FailedPrecondition,
        }
    }
}

impl From<FailureReason> for ErrorReason {
    fn from(reason: FailureReason) -> Self {
        match reason {
            FailureReason::RejectedByContract => Self::RejectedByContract,
            FailureReason::TransactionReverted => Self::TransactionReverted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_same_code_as_its_error() {
        for (reason, code) in FailureReason::CODES {
            assert_eq!(ErrorReason::from(reason).code(), code);
        }
    }
}
