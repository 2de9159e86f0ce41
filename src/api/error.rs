//! The one place that turns an error into a gRPC status: few codes, a stable reason, typed details, plain trailers.
//! Every text in it is redacted here, whatever its source.

use super::{encode::ProtoEncoder, proto};
use crate::{
    pipeline::{AcceptError, StoreError, TooManyWaiters},
    registration::{Diagnosis, ErrorReason, Registration, diagnosis},
    telemetry::redact,
};
use prost::Message;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb};

/// The domain of every `ErrorInfo`.
const ERROR_DOMAIN: &str = "registrar.v1";
/// Encoded details stay below this, so that with base64 and the plain trailers all stay under 4 KiB.
const MAX_DETAILS_BYTES: usize = 2400;
/// Percent-encoded, as it is sent.
const MAX_STATUS_MESSAGE_BYTES: usize = 500;
/// The limit of a failure's message in the short form of the details.
const MAX_SHORT_FAILURE_BYTES: usize = 300;
const RETRY_AFTER_FULL: Duration = Duration::from_secs(1);
const RETRY_AFTER_UNAVAILABLE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) enum ApiError {
    /// Every invalid field of the request with its problem.
    InvalidFields(Vec<(&'static str, String)>),
    NotFound,
    QueueFull,
    TooManyWaiters,
    StoreUnavailable,
    /// No endpoint responds; with the registration if one was accepted.
    EndpointsUnavailable(Option<Arc<Registration>>),
    /// The endpoint's chain has no code at this address.
    NoContract(String),
    /// With the registration if one was accepted.
    ShuttingDown(Option<Arc<Registration>>),
    ConfirmationTimeout(Arc<Registration>),
    /// The caller's wait or deadline ended before the registration was done.
    WaitTimeout(Arc<Registration>),
    RegistrationFailed(Arc<Registration>),
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::QueueFull { .. } => Self::QueueFull,
            AcceptError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self::ShuttingDown(None),
            StoreError::BatchFailed => Self::StoreUnavailable,
            StoreError::Database(_)
            | StoreError::Corrupt(_)
            | StoreError::Conflict
            | StoreError::Fenced
            | StoreError::OverBudget(_) => {
                if error.is_reported_elsewhere() {
                    tracing::debug!(error = %error, "database query of a call failed");
                } else {
                    tracing::error!(error = %error, "database query of a call failed");
                }
                Self::StoreUnavailable
            }
        }
    }
}

impl From<TooManyWaiters> for ApiError {
    fn from(_: TooManyWaiters) -> Self {
        Self::TooManyWaiters
    }
}

impl ApiError {
    fn reason(&self) -> ErrorReason {
        match self {
            Self::InvalidFields(_) => ErrorReason::InvalidField,
            Self::NotFound => ErrorReason::RegistrationNotFound,
            Self::QueueFull => ErrorReason::QueueFull,
            Self::TooManyWaiters => ErrorReason::TooManyWaiters,
            Self::StoreUnavailable => ErrorReason::StoreUnavailable,
            Self::EndpointsUnavailable(_) => ErrorReason::AllRpcEndpointsUnavailable,
            Self::NoContract(_) => ErrorReason::NoContract,
            Self::ShuttingDown(_) => ErrorReason::ShuttingDown,
            Self::ConfirmationTimeout(_) => ErrorReason::ConfirmationTimeout,
            Self::WaitTimeout(_) => ErrorReason::WaitTimeout,
            Self::RegistrationFailed(registration) => {
                registration.failure.as_ref().map_or(ErrorReason::Failed, |failure| failure.reason.into())
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull | Self::TooManyWaiters => Some(RETRY_AFTER_FULL),
            Self::StoreUnavailable | Self::EndpointsUnavailable(_) | Self::ShuttingDown(_) => {
                Some(RETRY_AFTER_UNAVAILABLE)
            }
            Self::InvalidFields(_)
            | Self::NotFound
            | Self::NoContract(_)
            | Self::ConfirmationTimeout(_)
            | Self::WaitTimeout(_)
            | Self::RegistrationFailed(_) => None,
        }
    }

    /// What was accepted before the error.
    fn registration(&self) -> Option<&Registration> {
        match self {
            Self::InvalidFields(_)
            | Self::NotFound
            | Self::QueueFull
            | Self::TooManyWaiters
            | Self::StoreUnavailable
            | Self::NoContract(_) => None,
            Self::EndpointsUnavailable(registration) | Self::ShuttingDown(registration) => registration.as_deref(),
            Self::ConfirmationTimeout(registration)
            | Self::WaitTimeout(registration)
            | Self::RegistrationFailed(registration) => Some(registration),
        }
    }

    fn message(&self, encoder: &ProtoEncoder) -> String {
        match self {
            Self::InvalidFields(fields) => {
                fields.iter().map(|(field, problem)| format!("{field} {problem}")).collect::<Vec<_>>().join("; ")
            }
            Self::NotFound => "no such registration".to_owned(),
            Self::QueueFull => "too many registrations are unfinished; nothing was accepted, retry shortly".to_owned(),
            Self::TooManyWaiters => {
                "too many calls and streams are waiting; nothing was accepted, retry shortly or with \
                                     wait_for = WAIT_FOR_ACCEPTED"
                    .to_owned()
            }
            Self::StoreUnavailable => "the database cannot be used now; this call changed nothing, retry".to_owned(),
            Self::EndpointsUnavailable(Some(_)) => {
                "accepted, but no RPC endpoint responds; processing continues when one does".to_owned()
            }
            Self::EndpointsUnavailable(None) => "no RPC endpoint responds; retry".to_owned(),
            Self::NoContract(contract) => format!(
                "the RPC endpoint responds, but its chain has no contract at {contract}: the node was restarted with \
                 an empty chain, or it is a node of another chain. The operator corrects REGISTRAR_RPC_URLS, or \
                 deploys the contract on the new chain and starts the service with its address and a new database"
            ),
            Self::ShuttingDown(Some(_)) => {
                "the server is shutting down; processing continues when it is back".to_owned()
            }
            Self::ShuttingDown(None) => "the server is shutting down; nothing was accepted".to_owned(),
            Self::ConfirmationTimeout(registration) => format!(
                "sent, but not confirmed in time; processing continues. {}",
                registration.diagnosis.as_ref().map_or("", |diagnosis| &diagnosis.explanation)
            ),
            Self::WaitTimeout(registration) => format!(
                "still {} when the wait ended; processing continues, check again with the id",
                state_name(registration, encoder)
            ),
            Self::RegistrationFailed(registration) => registration
                .failure
                .as_ref()
                .map_or_else(|| "the registration failed".to_owned(), |failure| failure.message.clone()),
        }
    }

    /// `metadata` of the `ErrorInfo`.
    fn metadata(&self, encoder: &ProtoEncoder) -> Vec<(&'static str, String)> {
        match self {
            Self::ConfirmationTimeout(registration) => {
                let diagnosis = registration.diagnosis.as_ref();
                let hash = registration.transaction.as_ref().map(|transaction| transaction.hash);
                let explanation = diagnosis.map_or("", |diagnosis| diagnosis.explanation.as_str());
                vec![
                    ("cause", diagnosis.map_or("pending", |diagnosis| diagnosis.cause.code()).to_owned()),
                    ("explanation", explanation.chars().take(diagnosis::MAX_EXPLANATION_CHARS).collect()),
                    ("transactionHash", hash.map(|hash| hash.to_string()).unwrap_or_default()),
                    ("explorerUrl", hash.map(|hash| encoder.explorer_url(hash)).unwrap_or_default()),
                ]
            }
            Self::WaitTimeout(registration) => vec![
                ("state", state_name(registration, encoder).to_owned()),
                ("blockedReason", registration.blocked_reason.map_or("", |blocked| blocked.code()).to_owned()),
            ],
            Self::InvalidFields(_)
            | Self::NotFound
            | Self::QueueFull
            | Self::TooManyWaiters
            | Self::StoreUnavailable
            | Self::EndpointsUnavailable(_)
            | Self::NoContract(_)
            | Self::ShuttingDown(_)
            | Self::RegistrationFailed(_) => Vec::new(),
        }
    }

    /// The diagnosis that is sent besides the registration's own.
    fn diagnosis(&self) -> Option<&Diagnosis> {
        if let Self::ConfirmationTimeout(registration) = self { registration.diagnosis.as_ref() } else { None }
    }

    /// `encoder` renders the registration as the caller would see it.
    pub(super) fn into_status(self, encoder: &ProtoEncoder) -> Status {
        let reason = self.reason();
        let code = Code::from_i32(reason.grpc_code().number());
        let metadata = self.metadata(encoder).into_iter();
        let metadata = metadata.map(|(key, value)| (key.to_owned(), redact(&value).into_owned()));
        let mut details =
            ErrorDetails::with_error_info(reason.code(), ERROR_DOMAIN, metadata.collect::<HashMap<_, _>>());
        if let Some(after) = self.retry_after() {
            details.set_retry_info(Some(after));
        }
        let mut message = redact(&self.message(encoder)).into_owned();
        if let Self::InvalidFields(fields) = &self {
            let violation = |(field, problem): &(&'static str, String)| FieldViolation::new(*field, redact(problem));
            details.set_bad_request(fields.iter().map(violation).collect::<Vec<_>>());
        } else {
            message = truncate_encoded(&message, MAX_STATUS_MESSAGE_BYTES);
        }
        let mut trailers = MetadataMap::new();
        insert_ascii(&mut trailers, "x-error-reason", reason.code());
        if let Some(registration) = self.registration() {
            insert_ascii(&mut trailers, "x-registration-id", &registration.id.to_string());
        }
        let bare = Status::with_error_details_and_metadata(code, message.clone(), details, trailers.clone());
        let Some(details) = self.details_with_registration(&bare, encoder) else { return bare };
        Status::with_details_and_metadata(code, message, details.encode_to_vec().into(), trailers)
    }

    /// In the long form if it fits, else in the short one; `None` when neither fits.
    fn details_with_registration(&self, bare: &Status, encoder: &ProtoEncoder) -> Option<pb::Status> {
        let registration = self.registration()?;
        let bare = pb::Status::decode(bare.details()).ok()?;
        [false, true].into_iter().find_map(|short| {
            let mut details = bare.clone();
            details.details.push(error_detail(registration, self.diagnosis(), short, encoder));
            (details.encoded_len() <= MAX_DETAILS_BYTES).then_some(details)
        })
    }
}

fn state_name(registration: &Registration, encoder: &ProtoEncoder) -> &'static str {
    encoder.state(registration.state).as_str_name().trim_start_matches("STATE_")
}

/// What is not plain ASCII is percent-encoded, byte by byte
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses>).
fn truncate_encoded(message: &str, max_bytes: usize) -> String {
    let mut bytes = 0;
    let fits = |c: &char| {
        bytes += if matches!(c, ' '..='~') && *c != '%' { 1 } else { 3 * c.len_utf8() };
        bytes <= max_bytes
    };
    message.chars().take_while(fits).collect()
}

/// The registration's own diagnosis is left out where another is given; the `short` form leaves out what is long and
/// available from `GetRegistration`.
fn error_detail(
    registration: &Registration,
    diagnosis: Option<&Diagnosis>,
    short: bool,
    encoder: &ProtoEncoder,
) -> prost_types::Any {
    let mut message = encoder.registration(registration);
    let mut diagnosis = diagnosis.map(|diagnosis| encoder.diagnosis(diagnosis));
    if diagnosis.is_some() || short {
        message.diagnosis = None;
    }
    if short {
        message.submitted_as.clear();
        if let Some(diagnosis) = &mut diagnosis {
            diagnosis.evidence.clear();
        }
        if let Some(failure) = &mut message.failure {
            failure.message.truncate(failure.message.floor_char_boundary(MAX_SHORT_FAILURE_BYTES));
        }
    }
    let detail = proto::RegistrationErrorDetail { registration: Some(message), diagnosis };
    prost_types::Any {
        type_url: "type.googleapis.com/registrar.v1.RegistrationErrorDetail".to_owned(),
        value: detail.encode_to_vec(),
    }
}

/// Reasons and ids are plain ASCII, so that they always fit a header.
fn insert_ascii(metadata: &mut MetadataMap, key: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        metadata.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{
        Failure, FailureReason, NewRegistration, Pair, RegistrationId, State, StateTimes, Timestamp, UserId,
    };

    /// As large as each of its texts can be, and none of them plain ASCII where that can be.
    fn failed() -> Registration {
        let at = Timestamp::from_seconds(1_800_000_000);
        Registration {
            id: RegistrationId::from_bytes([7; 16]),
            request: NewRegistration {
                pair: Pair {
                    document_hash: crate::registration::DocumentHash::new([7; 32]).unwrap(),
                    case_id: "c".repeat(64).parse().unwrap(),
                },
                submitted_as: "x".repeat(100),
                user_id: UserId::parse_optional(&"u".repeat(128)).unwrap(),
                trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()),
            },
            state: State::Failed,
            finality: None,
            revision: i64::MAX,
            blocked_reason: None,
            transaction: None,
            failure: Some(Failure {
                reason: FailureReason::RejectedByContract,
                message: format!("the node says {}, revert data 0x{}", "\u{fffd}".repeat(200), "0".repeat(10_000)),
            }),
            diagnosis: None,
            times: StateTimes {
                created: at,
                submitted: Some(at),
                included: Some(at),
                confirmed: None,
                failed: Some(at),
                timed_out: None,
                updated: at,
            },
        }
    }

    fn size_of(error: ApiError) -> usize {
        let encoder = ProtoEncoder::from_parts(crate::pipeline::Network::from_chain_id(84532), None, 2);
        let response = error.into_status(&encoder).into_http::<tonic::body::Body>();
        assert!(response.headers().contains_key("grpc-status-details-bin"));
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    }

    #[test]
    fn a_timeout_with_the_longest_diagnosis_stays_under_4_kib_too() {
        let evidence = (0..20).map(|number| (format!("aKeyThatIsLong{number}"), "v".repeat(200))).collect();
        let diagnosis = Diagnosis {
            cause: crate::registration::Cause::DroppedFromMempool,
            explanation: "x".repeat(crate::registration::diagnosis::MAX_EXPLANATION_CHARS),
            evidence,
            time: Timestamp::from_seconds(1_800_000_000),
        };
        let late = Registration {
            state: State::Submitted,
            failure: None,
            diagnosis: Some(diagnosis),
            transaction: Some(crate::registration::Transaction {
                hash: alloy::primitives::B256::repeat_byte(7),
                from: alloy::primitives::Address::repeat_byte(7),
                block: None,
                own: None,
            }),
            ..failed()
        };
        let size = size_of(ApiError::ConfirmationTimeout(Arc::new(late)));
        assert!(size < 4096 - 128, "{size} bytes");
    }

    #[test]
    fn all_trailers_stay_under_4_kib_whatever_a_node_says() {
        let size = size_of(ApiError::RegistrationFailed(Arc::new(failed())));
        assert!(size < 4096 - 128, "{size} bytes");
    }
}
