//! Everything that can go wrong with a call: what happened, the stable reason, what to do next, and how the process ends.

use super::{
    Exit,
    document::DocumentError,
    invocation::Invocation,
    json,
    output::{Output, print_line},
};
use crate::{
    api::proto::{self, RegistrationErrorDetail, WaitFor},
    telemetry::redact,
};
use prost::Message;
use serde_json::{Value, json};
use std::{collections::BTreeMap, error::Error, time::Duration};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Of a connection that could not be made.
pub(super) const SERVER_UNREACHABLE: &str = "SERVER_UNREACHABLE";
/// Of a connection that broke, or a server that no longer answers.
pub(super) const CONNECTION_LOST: &str = "CONNECTION_LOST";
/// Of a server that no RPC endpoint answers.
pub(super) const ALL_RPC_ENDPOINTS_UNAVAILABLE: &str = "ALL_RPC_ENDPOINTS_UNAVAILABLE";
/// Of a server whose database cannot be used.
pub(super) const STORE_UNAVAILABLE: &str = "STORE_UNAVAILABLE";
/// Of arguments that no server was asked about.
pub(super) const INVALID_ARGUMENTS: &str = "INVALID_ARGUMENTS";
/// Of a Ctrl-C while waiting for accepted work.
const INTERRUPTED: &str = "INTERRUPTED";

/// The answer of a call, or what went wrong.
pub(super) type CliResult<T> = Result<T, Box<CliError>>;

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) struct CliError {
    /// gRPC's name of the kind.
    pub code: Code,
    /// The stable reason; empty when the server gave none.
    pub reason: String,
    /// What happened, in one line.
    pub message: String,
    /// The reason's data, as `cause` and `explanation`.
    pub metadata: BTreeMap<String, String>,
    /// Every field that is wrong, and why.
    pub fields: Vec<(String, String)>,
    /// Whether the call only asked, so that there was nothing to accept.
    pub read_only: bool,
    /// When trying again can help.
    pub retry_after: Option<Duration>,
    /// Of accepted work; empty otherwise.
    pub registration_id: String,
    /// Accepted work as it was last seen.
    pub registration: Option<proto::Registration>,
    /// How far it was waited for.
    pub wait_for: WaitFor,
    /// Why it is not confirmed.
    pub diagnosis: Option<proto::Diagnosis>,
    /// The trace of the call; empty when there was none.
    pub trace_id: String,
}

impl CliError {
    pub(super) fn new(code: Code, reason: &str, message: String) -> Box<Self> {
        Box::new(Self {
            code,
            reason: reason.to_owned(),
            message,
            metadata: BTreeMap::new(),
            fields: Vec::new(),
            read_only: false,
            retry_after: None,
            registration_id: String::new(),
            registration: None,
            wait_for: WaitFor::Unspecified,
            diagnosis: None,
            trace_id: String::new(),
        })
    }

    /// Of arguments that cannot be meant.
    pub(super) fn invalid_arguments(message: impl Into<String>) -> Box<Self> {
        Self::new(Code::InvalidArgument, INVALID_ARGUMENTS, message.into())
    }

    /// Of an answer without what was asked for.
    pub(super) fn not_found(message: &str) -> Box<Self> {
        Self::new(Code::NotFound, "REGISTRATION_NOT_FOUND", message.to_owned())
    }

    /// Of a connection that cannot be made.
    pub(super) fn server_unreachable(server: &str, error: &dyn Error) -> Box<Self> {
        let mut cause = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        // A URL without a port means port 80, which nobody means.
        let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.starts_with(|c: char| c.is_ascii_digit()));
        let hint = if has_port { "" } else { "; no port is named, and the service's usual one is 50051" };
        let message = format!("no server answers at {server}: {cause}{hint}");
        Self::new(Code::Unavailable, SERVER_UNREACHABLE, redact(&message).into_owned())
    }

    /// Of a stream that the server ended before it came to what was waited for.
    pub(super) fn stream_ended() -> Box<Self> {
        Self::new(Code::Unavailable, CONNECTION_LOST, "the server ended the stream".to_owned())
    }

    /// Of a person who does not want to wait.
    pub(super) fn interrupted() -> Box<Self> {
        Self::new(Code::Cancelled, INTERRUPTED, "interrupted while waiting".to_owned())
    }

    /// Whether a person did not want to wait.
    pub(super) fn is_interrupted(&self) -> bool {
        self.reason == INTERRUPTED
    }

    /// Reads the server's error, or the transport's.
    pub(super) fn from_status(status: &Status) -> Box<Self> {
        // Only an error that was made on this side has a source.
        if status.source().is_some() {
            let deadline = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
            let message = if deadline { "the server did not answer in time" } else { "the connection broke" };
            return Self::new(Code::Unavailable, CONNECTION_LOST, message.to_owned());
        }
        let trailer =
            |name| status.metadata().get(name).and_then(|text| text.to_str().ok()).unwrap_or_default().to_owned();
        // Whoever answers at that address may not be one of us.
        let clean = |text: &str| redact(text).into_owned();
        let details = status.get_error_details();
        let info = details.error_info();
        let about = registration_detail(status);
        let registration = about.as_ref().and_then(|about| about.registration.clone());
        Box::new(Self {
            code: status.code(),
            reason: info.map_or_else(|| trailer("x-error-reason"), |info| info.reason.clone()),
            message: clean(status.message()),
            metadata: info
                .map(|info| info.metadata.iter().map(|(k, v)| (k.clone(), clean(v))).collect())
                .unwrap_or_default(),
            fields: details
                .bad_request()
                .map(|bad| bad.field_violations.iter().map(|f| (f.field.clone(), clean(&f.description))).collect())
                .unwrap_or_default(),
            read_only: false,
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            registration_id: registration
                .as_ref()
                .map_or_else(|| trailer("x-registration-id"), |known| known.id.clone()),
            registration,
            wait_for: WaitFor::Unspecified,
            diagnosis: about.and_then(|about| about.diagnosis),
            trace_id: trailer("x-trace-id"),
        })
    }

    /// The same, about work that is known to be accepted, and was waited for as far as this.
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

    /// The same, of a call that only asked.
    pub(super) fn mark_read_only(mut self: Box<Self>) -> Box<Self> {
        self.read_only = true;
        self
    }

    /// What accepted work waits for that somebody has to mend, if there is something.
    pub(super) fn blocked_reason(&self) -> Option<&str> {
        let known = || self.registration.as_ref().map(|registration| &registration.blocked_reason);
        self.metadata.get("blockedReason").or_else(known).map(String::as_str).filter(|reason| !reason.is_empty())
    }

    /// How the process ends.
    pub(super) fn exit(&self) -> Exit {
        let accepted = !self.registration_id.is_empty();
        match self.code {
            Code::InvalidArgument => Exit::UsageError,
            Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled | Code::ResourceExhausted if accepted => {
                Exit::Unfinished
            }
            // The server is there, and cannot say.
            Code::Unavailable
                if self.read_only
                    && matches!(self.reason.as_str(), ALL_RPC_ENDPOINTS_UNAVAILABLE | STORE_UNAVAILABLE) =>
            {
                Exit::Failed
            }
            Code::DeadlineExceeded | Code::Unavailable => Exit::ServerUnreachable,
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

    /// `{"error":{…}}`, without what is not known.
    pub(super) fn to_json(&self, program: &Invocation) -> Value {
        let mut error =
            json!({ "code": code_name(self.code), "message": self.message, "exitCode": self.exit().code() });
        let mut put = |key: &str, value: Value| {
            if !value.is_null() && value != "" {
                error[key] = value;
            }
        };
        put("reason", self.reason.clone().into());
        put("registrationId", self.registration_id.clone().into());
        put("traceId", self.trace_id.clone().into());
        put("advice", self.hint(program).into());
        put("metadata", if self.metadata.is_empty() { Value::Null } else { json!(self.metadata) });
        let fields: Vec<Value> =
            self.fields.iter().map(|(field, problem)| json!({ "field": field, "description": problem })).collect();
        put("fields", if fields.is_empty() { Value::Null } else { fields.into() });
        put("retryAfterSeconds", self.retry_after.map_or(Value::Null, |delay| delay.as_secs_f64().into()));
        put("registration", self.registration.as_ref().map_or(Value::Null, json::to_value));
        put("diagnosis", self.diagnosis.as_ref().map_or(Value::Null, json::to_value));
        json!({ "error": error })
    }

    /// Tells it: JSON to standard output, words to standard error.
    pub(super) fn report(&self, screen: &Output) -> Exit {
        if screen.json {
            print_line(&self.to_json(&screen.invocation).to_string());
        } else {
            eprint!("{}", self.describe(screen));
        }
        self.exit()
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
    let ours = details.iter().find(|any| any.type_url.ends_with("/registrar.v1.RegistrationErrorDetail"))?;
    RegistrationErrorDetail::decode(ours.value.as_slice()).ok()
}

/// The code as gRPC's documents write it (<https://grpc.io/docs/guides/status-codes/>).
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, pb};

    fn invocation() -> Invocation {
        Invocation::from_argv0("registrar".as_ref())
    }

    fn error_for(code: Code, id: &str) -> Box<CliError> {
        let mut trouble = CliError::new(code, "", String::new());
        trouble.registration_id = id.to_owned();
        trouble
    }

    #[test]
    fn the_exit_code_says_whether_work_was_accepted() {
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
    fn a_server_without_a_port_is_asked_for_one() {
        let message = |server| CliError::server_unreachable(server, &std::io::Error::other("refused")).message;
        for server in ["localhost", "http://localhost", "http://localhost/"] {
            assert!(message(server).contains("no port is named"), "{server}");
        }
        for server in ["localhost:50051", "http://127.0.0.1:50051/", "[::1]:50051"] {
            assert!(!message(server).contains("no port is named"), "{server}");
        }
    }

    #[test]
    fn the_details_of_an_error_are_read_and_written_as_json() {
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
        let status = Status::with_details(Code::DeadlineExceeded, "not confirmed", rich.encode_to_vec().into());
        let trouble = CliError::from_status(&status);
        assert_eq!(trouble.exit(), Exit::Unfinished);
        let json = trouble.to_json(&invocation());
        assert_eq!(json["error"]["code"], "DEADLINE_EXCEEDED");
        assert_eq!(json["error"]["reason"], "CONFIRMATION_TIMEOUT");
        assert_eq!(json["error"]["registrationId"], "the-id");
        assert_eq!(json["error"]["registration"]["id"], "the-id");
        assert_eq!(json["error"]["metadata"]["cause"], "nonce_gap");
        assert_eq!(json["error"]["retryAfterSeconds"], 2.0);
        assert!(json["error"].get("diagnosis").is_none());
    }

    #[test]
    fn plain_trailers_do_where_there_are_no_details() {
        let mut status = Status::unavailable("the server shuts down");
        status.metadata_mut().insert("x-error-reason", "SHUTTING_DOWN".parse().unwrap());
        status.metadata_mut().insert("x-registration-id", "the-id".parse().unwrap());
        let trouble = CliError::from_status(&status);
        assert_eq!((trouble.reason.as_str(), trouble.exit()), ("SHUTTING_DOWN", Exit::Unfinished));
        assert!(trouble.hint(&invocation()).contains("`registrar watch the-id`"));
    }

    #[test]
    fn a_question_that_the_server_cannot_answer_now_is_no_server_out_of_reach() {
        for (reason, asked, registering) in [
            (ALL_RPC_ENDPOINTS_UNAVAILABLE, Exit::Failed, Exit::ServerUnreachable),
            (STORE_UNAVAILABLE, Exit::Failed, Exit::ServerUnreachable),
            ("SHUTTING_DOWN", Exit::ServerUnreachable, Exit::ServerUnreachable),
            (SERVER_UNREACHABLE, Exit::ServerUnreachable, Exit::ServerUnreachable),
            (CONNECTION_LOST, Exit::ServerUnreachable, Exit::ServerUnreachable),
        ] {
            let trouble = CliError::new(Code::Unavailable, reason, String::new());
            assert_eq!(trouble.exit(), registering, "{reason}");
            let question = trouble.mark_read_only();
            assert_eq!(question.exit(), asked, "{reason}");
            assert!(!question.hint(&invocation()).contains("accepted"), "{}", question.hint(&invocation()));
        }
        let verify = CliError::new(Code::Unavailable, ALL_RPC_ENDPOINTS_UNAVAILABLE, String::new()).mark_read_only();
        assert!(verify.hint(&invocation()).contains("the server cannot reach the chain now"));
    }
}
