//! The one place that turns an error into a gRPC status: few codes, a stable reason, typed details, plain trailers.
//! Every text in it is redacted here, whatever its source.

use super::{
    encode::ProtoEncoder,
    error_detail::{blocked_reason, cause_metadata, error_detail, explanation, state_name},
    fields::{Field, shown_fields},
    no_certificate::NoCertificate,
    refusal::{CallerLimit, Refusal},
};
use crate::{
    pipeline::{self, AcceptError, StoreError, TooManyWaiters},
    registration::{Diagnosis, ErrorReason, Registration, TraceId},
    telemetry::{OngoingCondition, redact},
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
/// As [`MAX_STATUS_MESSAGE_BYTES`], where the message names fields.
const MAX_FIELDS_MESSAGE_BYTES: usize = 800;
/// A failure of many calls is one condition.
const FAILURE_REPORT_INTERVAL: Duration = Duration::from_secs(60);
const RETRY_AFTER_FULL: Duration = Duration::from_secs(1);
const RETRY_AFTER_UNAVAILABLE: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) enum ApiError {
    /// Every invalid field of the request with its problem.
    InvalidFields(Vec<(Field, String)>),
    /// The message cannot be read, and why.
    MalformedRequest(String),
    /// The maximum of bytes.
    MessageTooLarge(usize),
    NotFound,
    /// Of another database, or of a time that a restored backup does not have.
    ForeignCursor,
    Refused(Refusal),
    QueueFull,
    TooManyWaiters,
    TooManyCalls(TooManyCalls),
    /// The connection of a stream has reached its age.
    ConnectionAge,
    StoreUnavailable,
    /// No endpoint responds; with the registration if one was accepted.
    EndpointsUnavailable(Option<Arc<Registration>>),
    /// The endpoint's chain has no code at this address.
    NoContract(String),
    NoCertificate(NoCertificate),
    /// With the registration if one was accepted.
    ShuttingDown(Option<Arc<Registration>>),
    /// No node had its transaction in time.
    QueueTimeout(Arc<Registration>),
    ConfirmationTimeout(Arc<Registration>),
    /// The caller's wait or deadline ended before the registration was done.
    WaitTimeout(Arc<Registration>),
    RegistrationFailed(Arc<Registration>),
}

/// What a caller has as many of as it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TooManyCalls {
    UnfinishedMessages,
    UtilityStreams,
    Pages,
    BatchCalls,
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::QueueFull { .. } => Self::QueueFull,
            AcceptError::CallerLimit(pipeline::CallerLimit::Unfinished { limit }) => {
                Self::Refused(Refusal::Limit(CallerLimit {
                    key: "max_unfinished",
                    limit,
                    retry_after: RETRY_AFTER_FULL,
                }))
            }
            AcceptError::CallerLimit(pipeline::CallerLimit::Daily { limit, resets_in }) => {
                Self::Refused(Refusal::Limit(CallerLimit { key: "daily_limit", limit, retry_after: resets_in }))
            }
            AcceptError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
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
                static REPORTED: OngoingCondition = OngoingCondition::new();
                if error.is_reported_elsewhere() || !REPORTED.start_every(FAILURE_REPORT_INTERVAL) {
                    tracing::debug!(error = %error, "database query of a call failed");
                } else {
                    tracing::error!(error = %error, "database query of a call failed; reported at most once a minute");
                }
                Self::StoreUnavailable
            }
        }
    }
}

impl From<TooManyWaiters> for ApiError {
    fn from(error: TooManyWaiters) -> Self {
        match error {
            TooManyWaiters::All => Self::TooManyWaiters,
            TooManyWaiters::OfCaller { limit } => {
                Self::Refused(Refusal::Limit(CallerLimit { key: "max_waiting", limit, retry_after: RETRY_AFTER_FULL }))
            }
        }
    }
}

impl ApiError {
    pub(super) fn reason(&self) -> ErrorReason {
        match self {
            Self::InvalidFields(_) => ErrorReason::InvalidField,
            Self::MalformedRequest(_) => ErrorReason::MalformedRequest,
            Self::MessageTooLarge(_) => ErrorReason::MessageTooLarge,
            Self::TooManyCalls(_) => ErrorReason::TooManyCalls,
            Self::ConnectionAge => ErrorReason::ConnectionAge,
            Self::NotFound => ErrorReason::RegistrationNotFound,
            Self::ForeignCursor => ErrorReason::CursorForeign,
            Self::Refused(refusal) => refusal.reason(),
            Self::QueueFull => ErrorReason::QueueFull,
            Self::TooManyWaiters => ErrorReason::TooManyWaiters,
            Self::StoreUnavailable => ErrorReason::StoreUnavailable,
            Self::EndpointsUnavailable(_) => ErrorReason::AllRpcEndpointsUnavailable,
            Self::NoContract(_) => ErrorReason::NoContract,
            Self::NoCertificate(error) => error.reason(),
            Self::ShuttingDown(_) => ErrorReason::ShuttingDown,
            Self::QueueTimeout(_) => ErrorReason::QueueTimeout,
            Self::ConfirmationTimeout(_) => ErrorReason::ConfirmationTimeout,
            Self::WaitTimeout(_) => ErrorReason::WaitTimeout,
            Self::RegistrationFailed(registration) => {
                registration.failure.as_ref().map_or(ErrorReason::Failed, |failure| failure.reason.into())
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull | Self::TooManyWaiters | Self::TooManyCalls(_) => Some(RETRY_AFTER_FULL),
            Self::Refused(refusal) => refusal.retry_after(),
            Self::NoCertificate(error) => error.retry_after(),
            Self::ConnectionAge => Some(Duration::ZERO),
            Self::StoreUnavailable | Self::EndpointsUnavailable(_) | Self::ShuttingDown(_) => {
                Some(RETRY_AFTER_UNAVAILABLE)
            }
            Self::InvalidFields(_)
            | Self::MalformedRequest(_)
            | Self::MessageTooLarge(_)
            | Self::NotFound
            | Self::ForeignCursor
            | Self::NoContract(_)
            | Self::QueueTimeout(_)
            | Self::ConfirmationTimeout(_)
            | Self::WaitTimeout(_)
            | Self::RegistrationFailed(_) => None,
        }
    }

    /// What was accepted before the error.
    fn registration(&self) -> Option<&Registration> {
        match self {
            Self::InvalidFields(_)
            | Self::MalformedRequest(_)
            | Self::MessageTooLarge(_)
            | Self::NotFound
            | Self::ForeignCursor
            | Self::Refused(_)
            | Self::QueueFull
            | Self::TooManyWaiters
            | Self::TooManyCalls(_)
            | Self::ConnectionAge
            | Self::StoreUnavailable
            | Self::NoCertificate(_)
            | Self::NoContract(_) => None,
            Self::EndpointsUnavailable(registration) | Self::ShuttingDown(registration) => registration.as_deref(),
            Self::QueueTimeout(registration)
            | Self::ConfirmationTimeout(registration)
            | Self::WaitTimeout(registration)
            | Self::RegistrationFailed(registration) => Some(registration),
        }
    }

    fn message(&self, encoder: &ProtoEncoder) -> String {
        match self {
            Self::InvalidFields(fields) => {
                let fields = shown_fields(fields);
                fields.iter().map(|(field, problem)| format!("{field} {problem}")).collect::<Vec<_>>().join("; ")
            }
            Self::MalformedRequest(problem) => {
                format!("the request cannot be read: {problem}; send one message of the method's request type")
            }
            Self::MessageTooLarge(max) => format!("the message has more than {max} bytes, the limit of this method"),
            Self::NotFound => "no such registration".to_owned(),
            Self::ForeignCursor => "after_cursor is of another database, or of a time that was lost when a backup was \
                                    restored; read again with from_beginning, and replace what was made of this feed"
                .to_owned(),
            Self::Refused(refusal) => refusal.message(),
            Self::NoCertificate(error) => error.message(),
            Self::QueueFull => "too many registrations are unfinished, in all or of this connection; nothing was \
                                accepted, retry shortly"
                .to_owned(),
            Self::TooManyWaiters => "too many calls and streams are waiting, in all or of this connection; nothing \
                                     was accepted, retry shortly or with wait_for = WAIT_FOR_ACCEPTED"
                .to_owned(),
            Self::TooManyCalls(what) => {
                let what = match what {
                    TooManyCalls::UnfinishedMessages => "calls whose message is not complete",
                    TooManyCalls::UtilityStreams => "streams of health and reflection",
                    TooManyCalls::Pages => "pages that are read or not yet received",
                    TooManyCalls::BatchCalls => "calls with many documents",
                };
                format!("too many {what}, in all or of this connection; this call changed nothing, retry shortly")
            }
            Self::ConnectionAge => "the connection has reached its maximum age; open the stream again, on a new \
                                    connection"
                .to_owned(),
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
            Self::QueueTimeout(registration) => {
                format!("not sent in time; processing continues. {}", explanation(registration))
            }
            Self::ConfirmationTimeout(registration) => {
                format!("sent, but not confirmed in time; processing continues. {}", explanation(registration))
            }
            Self::WaitTimeout(registration) => {
                let blocked = registration.blocked_reason.map(|reason| format!(" ({})", reason.code()));
                format!(
                    "still {}{} when the wait ended; processing continues, check again with the id",
                    state_name(registration, encoder),
                    blocked.unwrap_or_default()
                )
            }
            Self::RegistrationFailed(registration) => registration
                .failure
                .as_ref()
                .map_or_else(|| "the registration failed".to_owned(), |failure| failure.message.clone()),
        }
    }

    /// `metadata` of the `ErrorInfo`.
    fn metadata(&self, encoder: &ProtoEncoder) -> Vec<(&'static str, String)> {
        match self {
            Self::QueueTimeout(registration) => {
                let mut metadata = cause_metadata(registration);
                metadata.push(("blockedReason", blocked_reason(registration)));
                metadata
            }
            Self::ConfirmationTimeout(registration) => {
                let hash = registration.transaction.as_ref().map(|transaction| transaction.hash);
                let mut metadata = cause_metadata(registration);
                metadata.extend([
                    ("transactionHash", hash.map(|hash| hash.to_string()).unwrap_or_default()),
                    ("explorerUrl", hash.map(|hash| encoder.explorer_url(hash)).unwrap_or_default()),
                ]);
                metadata
            }
            Self::WaitTimeout(registration) => vec![
                ("state", state_name(registration, encoder).to_owned()),
                ("blockedReason", blocked_reason(registration)),
            ],
            Self::Refused(Refusal::Limit(CallerLimit { key, .. })) => vec![("limit", (*key).to_owned())],
            Self::InvalidFields(_)
            | Self::MalformedRequest(_)
            | Self::MessageTooLarge(_)
            | Self::NotFound
            | Self::ForeignCursor
            | Self::Refused(_)
            | Self::QueueFull
            | Self::TooManyWaiters
            | Self::TooManyCalls(_)
            | Self::ConnectionAge
            | Self::StoreUnavailable
            | Self::EndpointsUnavailable(_)
            | Self::NoContract(_)
            | Self::NoCertificate(_)
            | Self::ShuttingDown(_)
            | Self::RegistrationFailed(_) => Vec::new(),
        }
    }

    /// The diagnosis that is sent besides the registration's own.
    fn diagnosis(&self) -> Option<&Diagnosis> {
        if let Self::QueueTimeout(registration) | Self::ConfirmationTimeout(registration) = self {
            registration.diagnosis.as_ref()
        } else {
            None
        }
    }

    /// Ends a stream. Its trailers name the trace here, since the middleware does not see them.
    pub(super) fn into_stream_status(self, encoder: &ProtoEncoder, trace_id: TraceId) -> Status {
        let mut status = self.into_status(encoder);
        insert_ascii(status.metadata_mut(), "x-trace-id", &trace_id.to_string());
        status
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
            let violation =
                |(field, problem): &(Field, String)| FieldViolation::new(field.to_string(), redact(problem));
            details.set_bad_request(shown_fields(fields).iter().map(violation).collect::<Vec<_>>());
            message = truncate_encoded(&message, MAX_FIELDS_MESSAGE_BYTES);
        } else {
            message = truncate_encoded(&message, MAX_STATUS_MESSAGE_BYTES);
        }
        let mut trailers = MetadataMap::new();
        insert_ascii(&mut trailers, "x-error-reason", reason.code());
        if let Self::Refused(refusal) = &self
            && let Some(challenge) = refusal.challenge()
        {
            insert_ascii(&mut trailers, "www-authenticate", challenge);
        }
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
                caller: "x".repeat(63).parse().ok(),
                trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()).into(),
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
                queued: at,
                delayed: None,
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
    fn a_thousand_invalid_documents_stay_under_4_kib() {
        let problem = |name| format!("has {}", "a".repeat(100) + name);
        let fields = (0..1_000).flat_map(|index| {
            ["document_hash", "case_id"].map(|name| (Field::OfDocument { index, name }, problem(name)))
        });
        let size = size_of(ApiError::InvalidFields(fields.step_by(3).collect()));
        assert!(size < 4096 - 128, "{size} bytes");
    }

    #[test]
    fn all_trailers_stay_under_4_kib_whatever_a_node_says() {
        let size = size_of(ApiError::RegistrationFailed(Arc::new(failed())));
        assert!(size < 4096 - 128, "{size} bytes");
    }
}
