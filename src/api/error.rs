//! The one funnel from what went wrong to a gRPC status: few codes, a stable reason, typed details, plain trailers. Its words are
//! redacted here, wherever they come from.

use super::{encode::ProtoEncoder, proto};
use crate::{
    pipeline::{AcceptError, StoreError, TooManyWaiters},
    registration::{Diagnosis, Registration, diagnosis},
    telemetry::redact,
};
use prost::Message;
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb};

/// The domain of every `ErrorInfo`.
const ERROR_DOMAIN: &str = "registrar.v1";
/// Encoded details stay below this, so that with base64 and the plain trailers all stay under 4 KiB.
const MAX_DETAILS_BYTES: usize = 2400;
/// The longest message, in bytes on the wire.
const MAX_STATUS_MESSAGE_BYTES: usize = 500;
/// The longest explanation in the metadata of an `ErrorInfo`, in characters: as long as any is.
const MAX_DETAIL_TEXT_CHARS: usize = diagnosis::MAX_EXPLANATION_CHARS;
/// When a full queue or a full house is worth another try.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(1);
/// When a store or chain that does not answer is worth another try.
const RETRY_AFTER_UNAVAILABLE: Duration = Duration::from_secs(2);

/// Why a call has no good answer.
#[derive(Debug)]
pub(super) enum ApiError {
    /// Every field that is wrong, at once.
    InvalidFields(Vec<(&'static str, String)>),
    /// Nothing with that id or pair.
    NotFound,
    /// Too many registrations are unfinished.
    QueueFull,
    /// Too many calls and streams wait.
    TooManyWaiters,
    /// Nobody answers on the way to the chain.
    EndpointsUnavailable(Option<Box<Registration>>),
    /// The chain is reached, and does not have the contract at this address.
    NoContract(String),
    /// The confirmation clock ran out.
    ConfirmationTimeout(Box<Registration>),
    /// The caller's wait or deadline ended first.
    WaitTimeout(Box<Registration>),
    /// Refused for good.
    RegistrationFailed(Box<Registration>),
    /// The store does not answer.
    StoreUnavailable,
    /// The server is on its way out.
    ShuttingDown(Option<Box<Registration>>),
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
                    tracing::debug!(error = %error, "a call could not use the store");
                } else {
                    tracing::error!(error = %error, "a call could not use the store");
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

/// A status before it is put on the wire.
struct StatusBuilder<'a> {
    code: Code,
    reason: &'a str,
    message: String,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    registration: Option<&'a Registration>,
    diagnosis: Option<&'a Diagnosis>,
}

impl<'a> StatusBuilder<'a> {
    fn new(code: Code, reason: &'a str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            retry_after: None,
            registration: None,
            diagnosis: None,
        }
    }

    fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    fn with_registration(mut self, registration: Option<&'a Registration>) -> Self {
        self.registration = registration;
        self
    }

    fn with_metadata(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

impl ApiError {
    /// The status, with the registration as the caller would see it.
    pub(super) fn into_status(self, presenter: &ProtoEncoder) -> Status {
        match &self {
            Self::InvalidFields(faults) => invalid_fields_status(faults),
            Self::NotFound => build_status(
                StatusBuilder::new(Code::NotFound, "REGISTRATION_NOT_FOUND", "there is no such registration"),
                presenter,
            ),
            Self::QueueFull => build_status(
                StatusBuilder::new(
                    Code::ResourceExhausted,
                    "QUEUE_FULL",
                    "too many registrations are unfinished; nothing was accepted, try again shortly",
                )
                .with_retry_after(RETRY_AFTER_FULL),
                presenter,
            ),
            Self::TooManyWaiters => build_status(
                StatusBuilder::new(
                    Code::ResourceExhausted,
                    "TOO_MANY_WAITERS",
                    "too many calls and streams are waiting; nothing was accepted, try again shortly or with \
                     wait_for = WAIT_FOR_ACCEPTED",
                )
                .with_retry_after(RETRY_AFTER_FULL),
                presenter,
            ),
            Self::StoreUnavailable => build_status(
                StatusBuilder::new(
                    Code::Unavailable,
                    "STORE_UNAVAILABLE",
                    "the database cannot be used now; this call changed nothing, try again",
                )
                .with_retry_after(RETRY_AFTER_UNAVAILABLE),
                presenter,
            ),
            Self::EndpointsUnavailable(registration) => {
                let words = match registration {
                    Some(_) => "accepted, and it will be registered when an RPC endpoint answers again; none does now",
                    None => "no RPC endpoint answers; try again",
                };
                let draft = StatusBuilder::new(Code::Unavailable, "ALL_RPC_ENDPOINTS_UNAVAILABLE", words)
                    .with_retry_after(RETRY_AFTER_UNAVAILABLE);
                build_status(draft.with_registration(registration.as_deref()), presenter)
            }
            Self::NoContract(contract) => {
                let words = format!(
                    "the RPC endpoint answers, but has no contract at {contract}: it was restarted with an empty chain, or shows another chain. \
                     The operator mends REGISTRAR_RPC_URLS, or deploys the contract on the new chain and starts the service with its \
                     address and a new database"
                );
                build_status(StatusBuilder::new(Code::FailedPrecondition, "NO_CONTRACT", words), presenter)
            }
            Self::ShuttingDown(registration) => {
                let words = match registration {
                    Some(_) => "the server shuts down; what was accepted goes on when it is back",
                    None => "the server shuts down; nothing was accepted",
                };
                let draft = StatusBuilder::new(Code::Unavailable, "SHUTTING_DOWN", words)
                    .with_retry_after(RETRY_AFTER_UNAVAILABLE);
                build_status(draft.with_registration(registration.as_deref()), presenter)
            }
            Self::ConfirmationTimeout(registration) => {
                build_status(confirmation_timeout(registration, presenter), presenter)
            }
            Self::WaitTimeout(registration) => {
                let shown = presenter.state(registration.state);
                let state = shown.as_str_name().trim_start_matches("STATE_");
                let words = format!("accepted, and {state} when the wait ended; it goes on: ask again with its id");
                let draft = StatusBuilder::new(Code::DeadlineExceeded, "WAIT_TIMEOUT", words)
                    .with_metadata("state", state)
                    .with_metadata("blockedReason", registration.blocked_reason.map_or("", |blocked| blocked.code()));
                build_status(draft.with_registration(Some(registration)), presenter)
            }
            Self::RegistrationFailed(registration) => {
                let (reason, message) =
                    registration.failure.as_ref().map_or(("FAILED", "the registration failed".to_owned()), |failure| {
                        (failure.reason.code(), failure.message.clone())
                    });
                build_status(
                    StatusBuilder::new(Code::FailedPrecondition, reason, message).with_registration(Some(registration)),
                    presenter,
                )
            }
        }
    }
}

fn confirmation_timeout<'a>(registration: &'a Registration, presenter: &ProtoEncoder) -> StatusBuilder<'a> {
    let hash = registration.transaction.as_ref().map(|transaction| transaction.hash);
    let diagnosis = registration.diagnosis.as_ref();
    let explanation = diagnosis.map_or("", |diagnosis| diagnosis.explanation.as_str());
    let words = format!("sent, and not confirmed in time; it goes on. {explanation}");
    let mut draft = StatusBuilder::new(Code::DeadlineExceeded, "CONFIRMATION_TIMEOUT", words)
        .with_metadata("cause", diagnosis.map_or("pending", |diagnosis| diagnosis.cause.code()))
        .with_metadata("explanation", explanation.chars().take(MAX_DETAIL_TEXT_CHARS).collect::<String>())
        .with_metadata("transactionHash", hash.map(|hash| hash.to_string()).unwrap_or_default())
        .with_metadata("explorerUrl", hash.map(|hash| presenter.explorer_url(hash)).unwrap_or_default())
        .with_registration(Some(registration));
    draft.diagnosis = diagnosis;
    draft
}

fn invalid_fields_status(faults: &[(&'static str, String)]) -> Status {
    let faults: Vec<_> = faults.iter().map(|(field, problem)| (*field, redact(problem))).collect();
    let words: Vec<_> = faults.iter().map(|(field, problem)| format!("{field} {problem}")).collect();
    let violations: Vec<_> =
        faults.iter().map(|(field, problem)| FieldViolation::new(*field, problem.as_ref())).collect();
    let mut details = ErrorDetails::with_bad_request(violations);
    details.set_error_info("INVALID_FIELD", ERROR_DOMAIN, HashMap::new());
    let mut metadata = MetadataMap::new();
    insert_ascii(&mut metadata, "x-error-reason", "INVALID_FIELD");
    Status::with_error_details_and_metadata(Code::InvalidArgument, words.join("; "), details, metadata)
}

fn build_status(draft: StatusBuilder<'_>, presenter: &ProtoEncoder) -> Status {
    let notes = draft.metadata.into_iter().map(|(key, value)| (key, redact(&value).into_owned()));
    let mut details = ErrorDetails::with_error_info(draft.reason, ERROR_DOMAIN, notes.collect::<HashMap<_, _>>());
    if let Some(after) = draft.retry_after {
        details.set_retry_info(Some(after));
    }
    let mut metadata = MetadataMap::new();
    insert_ascii(&mut metadata, "x-error-reason", draft.reason);
    if let Some(registration) = draft.registration {
        insert_ascii(&mut metadata, "x-registration-id", &registration.id.to_string());
    }
    let message = truncate_encoded(&redact(&draft.message), MAX_STATUS_MESSAGE_BYTES);
    let plain = Status::with_error_details_and_metadata(draft.code, message.clone(), details, metadata.clone());
    let Some(registration) = draft.registration else { return plain };
    let Ok(bare) = pb::Status::decode(plain.details()) else { return plain };
    let rich = [false, true].into_iter().find_map(|short| {
        let mut rich = bare.clone();
        rich.details.push(error_detail(registration, draft.diagnosis, short, presenter));
        (rich.encoded_len() <= MAX_DETAILS_BYTES).then_some(rich)
    });
    let Some(rich) = rich else { return plain };
    Status::with_details_and_metadata(draft.code, message, rich.encode_to_vec().into(), metadata)
}

/// As much of a message as fits into so many bytes: what is not plain ASCII is percent-encoded, byte by byte
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses>).
fn truncate_encoded(message: &str, most: usize) -> String {
    let mut bytes = 0;
    let fits = |c: &char| {
        bytes += if matches!(c, ' '..='~') && *c != '%' { 1 } else { 3 * c.len_utf8() };
        bytes <= most
    };
    message.chars().take_while(fits).collect()
}

/// The registration as a detail. Its own copy of the diagnosis is left out where one stands beside it; the `short` form leaves
/// out what is long and can be had by `GetRegistration`.
fn error_detail(
    registration: &Registration,
    diagnosis: Option<&Diagnosis>,
    short: bool,
    presenter: &ProtoEncoder,
) -> prost_types::Any {
    let mut shown = presenter.registration(registration);
    let mut diagnosis = diagnosis.map(|diagnosis| presenter.diagnosis(diagnosis));
    if diagnosis.is_some() || short {
        shown.diagnosis = None;
    }
    if short {
        shown.submitted_as.clear();
        if let Some(diagnosis) = &mut diagnosis {
            diagnosis.evidence.clear();
        }
        if let Some(failure) = &mut shown.failure {
            failure.message.truncate(failure.message.floor_char_boundary(MAX_DETAIL_TEXT_CHARS));
        }
    }
    let detail = proto::RegistrationErrorDetail { registration: Some(shown), diagnosis };
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
        let presenter = ProtoEncoder::from_parts(crate::pipeline::Network::from_chain_id(84532), None, 2);
        let response = error.into_status(&presenter).into_http::<tonic::body::Body>();
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
        let size = size_of(ApiError::ConfirmationTimeout(Box::new(late)));
        assert!(size < 4096 - 128, "{size} bytes");
    }

    #[test]
    fn all_trailers_stay_under_4_kib_whatever_a_node_says() {
        let size = size_of(ApiError::RegistrationFailed(Box::new(failed())));
        assert!(size < 4096 - 128, "{size} bytes");
    }
}
