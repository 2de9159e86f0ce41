//! Errors of client commands, and the exit code of each.

use super::{
    Exit,
    document::DocumentError,
    exit::error_chain,
    reason::{ClientReason, Reason},
    tls_problem::TlsProblem,
};
use crate::{
    api::proto::{self, RegistrationErrorDetail, WaitFor},
    app,
    config::ConfigErrors,
    registration::{ErrorReason, GrpcCode},
    telemetry::redact,
};
use prost::Message;
use std::{collections::BTreeMap, error::Error, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt;

pub(super) type CliResult<T> = Result<T, Box<CliError>>;

#[derive(Clone, Debug)]
pub(super) struct CliError {
    pub code: Code,
    pub reason: Reason,
    /// One line.
    pub message: String,
    /// Data of the reason, such as `cause` and `explanation`.
    pub metadata: BTreeMap<String, String>,
    /// Invalid fields, with descriptions.
    pub fields: Vec<(String, String)>,
    /// Documents of the command that earlier calls have registered, of how many.
    pub accepted: Option<(usize, usize)>,
    /// Whether the call only reads, so that there was nothing to accept.
    pub read_only: bool,
    /// Whether the call asks the chain: any failure is then the lack of an answer, not one.
    pub asks_chain: bool,
    /// When a retry is useful.
    pub retry_after: Option<Duration>,
    /// Empty unless the registration was accepted.
    pub registration_id: String,
    /// The last known state.
    pub registration: Option<proto::Registration>,
    /// The level that was waited for.
    pub wait_for: WaitFor,
    pub diagnosis: Option<proto::Diagnosis>,
    /// Empty if there was no call.
    pub trace_id: String,
}

impl CliError {
    pub(super) fn new(code: Code, reason: impl Into<Reason>, message: String) -> Box<Self> {
        Box::new(Self {
            code,
            reason: reason.into(),
            message,
            metadata: BTreeMap::new(),
            fields: Vec::new(),
            accepted: None,
            read_only: false,
            asks_chain: false,
            retry_after: None,
            registration_id: String::new(),
            registration: None,
            wait_for: WaitFor::Unspecified,
            diagnosis: None,
            trace_id: String::new(),
        })
    }

    pub(super) fn invalid_arguments(message: impl Into<String>) -> Box<Self> {
        Self::new(Code::InvalidArgument, ClientReason::InvalidArguments, message.into())
    }

    pub(super) fn invalid_settings(errors: &ConfigErrors) -> Box<Self> {
        Self::invalid_arguments(errors.to_string())
    }

    /// Of a command that calls no service.
    pub(super) fn failed(error: &app::Error) -> Box<Self> {
        let message = redact(&error_chain(error)).into_owned();
        if error.is_configuration_error() {
            Self::invalid_arguments(message)
        } else {
            Self::new(Code::FailedPrecondition, ClientReason::CommandFailed, message)
        }
    }

    pub(super) fn not_found(message: &str) -> Box<Self> {
        Self::new(Code::NotFound, ErrorReason::RegistrationNotFound, message.to_owned())
    }

    pub(super) fn server_unreachable(server: &str, error: &dyn Error) -> Box<Self> {
        if let Some(problem) = TlsProblem::of(error) {
            return Self::tls_failed(problem);
        }
        let mut cause = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        // A URL without a port means port 80, which is a mistake here.
        let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.starts_with(|c: char| c.is_ascii_digit()));
        let hint = if has_port { "" } else { "; the URL has no port (the default of the service is 50051)" };
        let message = format!("cannot connect to {server}: {cause}{hint}");
        Self::new(Code::Unavailable, ClientReason::ServerUnreachable, redact(&message).into_owned())
    }

    pub(super) fn tls_failed(problem: TlsProblem) -> Box<Self> {
        Self::new(Code::Unavailable, ClientReason::TlsFailed(problem), problem.message().to_owned())
    }

    /// The server does not do what it is to do.
    pub(super) fn invalid_response(message: &str) -> Box<Self> {
        Self::new(Code::Internal, ClientReason::CommandFailed, message.to_owned())
    }

    /// The server ended the stream before the level that was waited for.
    pub(super) fn stream_ended() -> Box<Self> {
        Self::new(Code::Unavailable, ClientReason::ConnectionLost, "the server ended the stream".to_owned())
    }

    pub(super) fn interrupted() -> Box<Self> {
        Self::new(Code::Cancelled, ClientReason::Interrupted, "interrupted while waiting".to_owned())
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.reason == Reason::Client(ClientReason::Interrupted)
    }

    /// From an error of the server or of the transport.
    pub(super) fn from_status(status: &Status) -> Box<Self> {
        // Only an error of the client side has a source.
        if let Some(error) = status.source() {
            if let Some(problem) = TlsProblem::of(error) {
                return Self::tls_failed(problem);
            }
            let deadline = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
            let message = if deadline { "the server did not respond in time" } else { "the connection was lost" };
            return Self::new(Code::Unavailable, ClientReason::ConnectionLost, message.to_owned());
        }
        let trailer =
            |name| status.metadata().get(name).and_then(|text| text.to_str().ok()).unwrap_or_default().to_owned();
        // The server at this address may not be a registrar.
        let clean = |text: &str| redact(text).into_owned();
        let details = status.get_error_details();
        let info = details.error_info();
        let detail = registration_detail(status);
        let registration = detail.as_ref().and_then(|detail| detail.registration.clone());
        Box::new(Self {
            code: status.code(),
            reason: Reason::from_server(&info.map_or_else(|| trailer("x-error-reason"), |info| info.reason.clone())),
            message: clean(status.message()),
            metadata: info
                .map(|info| info.metadata.iter().map(|(k, v)| (k.clone(), clean(v))).collect())
                .unwrap_or_default(),
            fields: details
                .bad_request()
                .map(|bad| bad.field_violations.iter().map(|f| (f.field.clone(), clean(&f.description))).collect())
                .unwrap_or_default(),
            accepted: None,
            read_only: false,
            asks_chain: false,
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            registration_id: registration
                .as_ref()
                .map_or_else(|| trailer("x-registration-id"), |known| known.id.clone()),
            registration,
            wait_for: WaitFor::Unspecified,
            diagnosis: detail.and_then(|detail| detail.diagnosis),
            trace_id: trailer("x-trace-id"),
        })
    }

    /// Adds the accepted registration and the level that was waited for.
    pub(super) fn with_registration(
        mut self: Box<Self>,
        registration: &proto::Registration,
        until: WaitFor,
    ) -> Box<Self> {
        self.wait_for = until;
        self.registration_id.clone_from(&registration.id);
        self.registration.get_or_insert_with(|| registration.clone());
        self
    }

    /// Of a command that registers many documents.
    pub(super) fn with_accepted(mut self: Box<Self>, accepted: usize, all: usize) -> Box<Self> {
        if accepted > 0 {
            self.message = format!("{}; {accepted} of {all} documents were accepted before", self.message);
            self.accepted = Some((accepted, all));
        }
        self
    }

    pub(super) fn mark_read_only(mut self: Box<Self>) -> Box<Self> {
        self.read_only = true;
        self
    }

    /// Of `verify`, whose exit code 1 means that the pair is not registered.
    pub(super) fn mark_chain_query(mut self: Box<Self>) -> Box<Self> {
        self.asks_chain = true;
        self
    }

    pub(super) fn blocked_reason(&self) -> Option<&str> {
        let known = || self.registration.as_ref().map(|registration| &registration.blocked_reason);
        self.metadata.get("blockedReason").or_else(known).map(String::as_str).filter(|reason| !reason.is_empty())
    }

    pub(super) fn exit(&self) -> Exit {
        let exit = self.exit_of_call();
        if self.asks_chain && exit == Exit::Failed { Exit::ServerUnreachable } else { exit }
    }

    fn exit_of_call(&self) -> Exit {
        let accepted = !self.registration_id.is_empty() || self.accepted.is_some();
        match self.code {
            Code::InvalidArgument => Exit::UsageError,
            Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::ResourceExhausted if accepted => {
                Exit::Unfinished
            }
            // The server responded, but cannot answer.
            Code::Unavailable
                if self.read_only
                    && matches!(
                        self.reason,
                        Reason::Server(ErrorReason::AllRpcEndpointsUnavailable | ErrorReason::StoreUnavailable)
                    ) =>
            {
                Exit::Failed
            }
            Code::DeadlineExceeded | Code::Unavailable => Exit::ServerUnreachable,
            Code::FailedPrecondition if self.reason == Reason::Server(ErrorReason::CertificateNotFinal) => {
                Exit::Unfinished
            }
            Code::Cancelled => Exit::Interrupted,
            Code::Ok
            | Code::Unknown
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => Exit::Failed,
        }
    }
}

impl From<DocumentError> for Box<CliError> {
    fn from(error: DocumentError) -> Self {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        CliError::invalid_arguments(format!("{error}{cause}"))
    }
}

fn registration_detail(status: &Status) -> Option<RegistrationErrorDetail> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let detail = details.iter().find(|any| any.type_url.ends_with("/registrar.v1.RegistrationErrorDetail"))?;
    RegistrationErrorDetail::decode(detail.value.as_slice()).ok()
}

pub(super) fn code_name(code: Code) -> &'static str {
    GrpcCode::from_number(i32::from(code).into()).name()
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, pb};

    fn error_for(code: Code, id: &str) -> Box<CliError> {
        let mut error = CliError::new(code, Reason::Unknown(String::new()), String::new());
        error.registration_id = id.to_owned();
        error
    }

    #[test]
    fn the_exit_code_says_whether_the_registration_was_accepted() {
        for (code, nothing_accepted, accepted) in [
            (Code::InvalidArgument, Exit::UsageError, Exit::UsageError),
            (Code::Unavailable, Exit::ServerUnreachable, Exit::Unfinished),
            (Code::DeadlineExceeded, Exit::ServerUnreachable, Exit::Unfinished),
            (Code::ResourceExhausted, Exit::Failed, Exit::Unfinished),
            (Code::Cancelled, Exit::Interrupted, Exit::Unfinished),
            (Code::FailedPrecondition, Exit::Failed, Exit::Failed),
            (Code::NotFound, Exit::Failed, Exit::Failed),
            (Code::Internal, Exit::Failed, Exit::Failed),
        ] {
            assert_eq!(error_for(code, "").exit(), nothing_accepted, "{code:?}");
            assert_eq!(error_for(code, "id").exit(), accepted, "{code:?} with an id");
        }
    }

    #[test]
    fn a_missing_port_is_pointed_out() {
        let message = |server| CliError::server_unreachable(server, &std::io::Error::other("refused")).message;
        for server in ["localhost", "http://localhost", "http://localhost/"] {
            assert!(message(server).contains("has no port"), "{server}");
        }
        for server in ["localhost:50051", "http://127.0.0.1:50051/", "[::1]:50051"] {
            assert!(!message(server).contains("has no port"), "{server}");
        }
    }

    pub(in crate::cli) fn timeout_status() -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info("CONFIRMATION_TIMEOUT", "registrar.v1", [("cause".to_owned(), "nonce_gap".to_owned())]);
        details.set_retry_info(Some(Duration::from_secs(2)));
        let base = Status::with_error_details(Code::DeadlineExceeded, "not confirmed", details);
        let mut rich = pb::Status::decode(base.details()).unwrap();
        let registration = proto::Registration { id: "the-id".into(), ..Default::default() };
        rich.details.push(prost_types::Any {
            type_url: "type.googleapis.com/registrar.v1.RegistrationErrorDetail".into(),
            value: RegistrationErrorDetail { registration: Some(registration), diagnosis: None }.encode_to_vec(),
        });
        Status::with_details(Code::DeadlineExceeded, "not confirmed", rich.encode_to_vec().into())
    }

    #[test]
    fn the_details_of_an_error_are_read() {
        let error = CliError::from_status(&timeout_status());
        assert_eq!((error.reason.code(), error.exit()), ("CONFIRMATION_TIMEOUT", Exit::Unfinished));
        assert_eq!(error.registration.unwrap().id, "the-id");
    }
}
