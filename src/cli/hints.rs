//! What to do next about an error.

use super::{
    Exit,
    error::CliError,
    invocation::Invocation,
    reason::{ClientReason, Reason},
    time,
};
use crate::{api::proto::WaitFor, registration::ErrorReason};
use tonic::Code;

const INVALID_INPUT_HINT: &str = "fix this and try again; see --help for examples";

pub(super) fn hint(error: &CliError, invocation: &Invocation) -> String {
    if error.accepted.is_some() {
        let fix = if error.exit() == Exit::Unfinished { "" } else { "fix this, then " };
        return format!("{fix}run the same command again; it continues, and registers nothing twice");
    }
    if error.reason == Reason::Server(ErrorReason::CertificateNotFinal) {
        return format!("{}, or ask for a lower --min-finality", try_again(error));
    }
    if error.exit() == Exit::Unfinished {
        return unfinished_hint(error, invocation);
    }
    match &error.reason {
        Reason::Client(reason) => client_hint(*reason, error.read_only, invocation),
        Reason::Server(reason) => server_hint(*reason, error, invocation),
        Reason::Unknown(_) => generic_hint(error, invocation),
    }
}

/// The registration was accepted.
fn unfinished_hint(error: &CliError, invocation: &Invocation) -> String {
    let id = &error.registration_id;
    let watch = invocation.server_command(&format!("watch {id}{}", until_flag(error.wait_for)));
    let explain = invocation.server_command(&format!("explain {id}"));
    if matches!(error.reason, Reason::Server(ErrorReason::ConfirmationTimeout | ErrorReason::QueueTimeout)) {
        format!("it stays accepted; `{explain}` diagnoses it again, `{watch}` follows it")
    } else if error.blocked_reason().is_some() {
        format!("`{explain}` shows why it is blocked and how to fix it")
    } else if error.reason == Reason::Server(ErrorReason::WaitTimeout) {
        format!("`{watch}` follows it")
    } else {
        format!("it is accepted and processing continues; `{watch}` follows it")
    }
}

fn client_hint(reason: ClientReason, read_only: bool, invocation: &Invocation) -> String {
    match reason {
        ClientReason::InvalidArguments => INVALID_INPUT_HINT.to_owned(),
        ClientReason::ServerUnreachable => {
            let (dev, serve) = (invocation.local_command("dev"), invocation.local_command("serve"));
            format!("start a server with `{dev}` or `{serve}`, or name another one with --server or REGISTRAR_SERVER")
        }
        ClientReason::AdminUnreachable => {
            "start the service, or name the address of its HTTP server with --admin-listen or REGISTRAR_ADMIN_LISTEN"
                .into()
        }
        ClientReason::CommandFailed => "fix this and run the same command again; what is done is not done twice".into(),
        ClientReason::NotReady => "see the log of the service".into(),
        ClientReason::TlsFailed(problem) => problem.hint().to_owned(),
        ClientReason::ConnectionLost | ClientReason::Interrupted if read_only => "run the same command again".into(),
        ClientReason::ConnectionLost | ClientReason::Interrupted => {
            "run the same command again; a document is registered once per case, however often it is sent".into()
        }
    }
}

fn server_hint(reason: ErrorReason, error: &CliError, invocation: &Invocation) -> String {
    match reason {
        ErrorReason::InvalidField => INVALID_INPUT_HINT.to_owned(),
        ErrorReason::RegistrationNotFound => {
            let (list, verify) = (invocation.server_command("list"), invocation.local_command("verify"));
            format!("`{list}` shows what this server has, `{verify}` checks the chain")
        }
        ErrorReason::CursorForeign => {
            let changes = invocation.server_command("changes --from-beginning");
            format!("`{changes}` reads this database from its beginning; replace what the old cursor belonged to")
        }
        ErrorReason::CredentialsMissing => "set REGISTRAR_TOKEN or REGISTRAR_TOKEN_FILE to the token of a caller, or \
                                            REGISTRAR_CLIENT_CERT_FILE and REGISTRAR_CLIENT_KEY_FILE"
            .into(),
        ErrorReason::CredentialsInvalid | ErrorReason::CredentialsExpired => {
            "ask the operator of the server; its audit log has this trace id".into()
        }
        ErrorReason::ScopeMissing | ErrorReason::CaseNotAllowed => {
            "ask the operator of the server to change the scopes or case_prefixes of this caller".into()
        }
        ErrorReason::RateLimited | ErrorReason::CallerLimit => format!("{}{}", not_accepted(error), try_again(error)),
        ErrorReason::NotRegisteredYet => {
            let (status, verify) = (invocation.server_command("status"), invocation.server_command("verify"));
            format!("`{status}` shows how far a registration is, `{verify}` checks the chain")
        }
        ErrorReason::ProofUnavailable => {
            format!("{}; the operator's endpoints have to offer eth_getProof", try_again(error))
        }
        ErrorReason::NoContract => {
            format!("`{}` shows the server's chain and contract", invocation.server_command("info"))
        }
        ErrorReason::StoreUnavailable => "see the server's log for what is wrong with its database".into(),
        ErrorReason::AllRpcEndpointsUnavailable => {
            format!("{}the server cannot reach the chain; {}", not_accepted(error), try_again(error))
        }
        ErrorReason::QueueFull | ErrorReason::TooManyWaiters | ErrorReason::ShuttingDown => {
            format!("{}{}", not_accepted(error), try_again(error))
        }
        ErrorReason::CertificateNotFinal
        | ErrorReason::RejectedByContract
        | ErrorReason::TransactionReverted
        | ErrorReason::Failed
        | ErrorReason::WaitTimeout
        | ErrorReason::QueueTimeout
        | ErrorReason::ConfirmationTimeout
        | ErrorReason::MalformedRequest
        | ErrorReason::MessageTooLarge
        | ErrorReason::TooManyCalls
        | ErrorReason::ConnectionAge => generic_hint(error, invocation),
    }
}

/// From the status code and the registration alone.
fn generic_hint(error: &CliError, invocation: &Invocation) -> String {
    let id = &error.registration_id;
    if !id.is_empty() {
        let status = invocation.server_command(&format!("status {id}"));
        format!("fix the cause, then register it again to restart it; `{status}` shows it")
    } else if error.code == Code::Unimplemented {
        "the server at this address does not have this method; is it a registrar?".into()
    } else if error.code == Code::ResourceExhausted || error.code == Code::Unavailable {
        format!("{}{}", not_accepted(error), try_again(error))
    } else {
        "see the server's log for this trace id".into()
    }
}

fn not_accepted(error: &CliError) -> &'static str {
    if error.read_only { "" } else { "nothing was accepted; " }
}

fn try_again(error: &CliError) -> String {
    error
        .retry_after
        .map_or("try again later".to_owned(), |delay| format!("try again in {}", time::format_duration(delay)))
}

/// The option of `watch` for the same level. Empty for the default.
fn until_flag(level: WaitFor) -> String {
    match level {
        WaitFor::Unspecified | WaitFor::Confirmed => String::new(),
        WaitFor::Accepted | WaitFor::Submitted | WaitFor::Included | WaitFor::Safe | WaitFor::Finalized => {
            format!(" --until {}", level.as_str_name().trim_start_matches("WAIT_FOR_").to_lowercase())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::Registration;
    use tonic::Status;

    fn tonic_code(reason: ErrorReason) -> Code {
        Code::from_i32(reason.grpc_code().number())
    }

    fn hint_for(error: &CliError) -> String {
        hint(error, &Invocation::from_argv0("registrar".as_ref()))
    }

    #[test]
    fn the_hint_waits_for_the_requested_level() {
        let registration = Registration { id: "the-id".into(), ..Default::default() };
        for (level, command) in [
            (WaitFor::Confirmed, "`registrar watch the-id`"),
            (WaitFor::Safe, "`registrar watch the-id --until safe`"),
            (WaitFor::Finalized, "`registrar watch the-id --until finalized`"),
        ] {
            let error = CliError::new(Code::DeadlineExceeded, ErrorReason::WaitTimeout, String::new());
            let hint = hint_for(&error.with_registration(&registration, level));
            assert!(hint.contains(command), "{hint}");
        }
    }

    #[test]
    fn a_blocked_registration_is_explained_instead_of_watched() {
        let mut error = CliError::new(Code::DeadlineExceeded, ErrorReason::WaitTimeout, String::new());
        error.registration_id = "the-id".into();
        error.metadata.insert("blockedReason".into(), "INSUFFICIENT_FUNDS".into());
        let hint = hint_for(&error);
        assert!(hint.contains("`registrar explain the-id` shows why it is blocked"), "{hint}");
        assert!(!hint.contains("watch"), "{hint}");
    }

    #[test]
    fn an_error_without_details_is_described_by_its_trailers() {
        let mut status = Status::unavailable("the server shuts down");
        status.metadata_mut().insert("x-error-reason", "SHUTTING_DOWN".parse().unwrap());
        status.metadata_mut().insert("x-registration-id", "the-id".parse().unwrap());
        let error = CliError::from_status(&status);
        assert_eq!((error.reason.code(), error.exit()), ("SHUTTING_DOWN", Exit::Unfinished));
        assert!(hint_for(&error).contains("`registrar watch the-id`"));
    }

    #[test]
    fn a_failed_read_does_not_count_as_an_unreachable_server() {
        for (reason, reading, registering) in [
            (Reason::from(ErrorReason::AllRpcEndpointsUnavailable), Exit::Failed, Exit::ServerUnreachable),
            (ErrorReason::StoreUnavailable.into(), Exit::Failed, Exit::ServerUnreachable),
            (ErrorReason::ShuttingDown.into(), Exit::ServerUnreachable, Exit::ServerUnreachable),
            (ClientReason::ServerUnreachable.into(), Exit::ServerUnreachable, Exit::ServerUnreachable),
            (ClientReason::ConnectionLost.into(), Exit::ServerUnreachable, Exit::ServerUnreachable),
        ] {
            let error = CliError::new(Code::Unavailable, reason.clone(), String::new());
            assert_eq!(error.exit(), registering, "{reason:?}");
            let read = error.mark_read_only();
            assert_eq!(read.exit(), reading, "{reason:?}");
            assert!(!hint_for(&read).contains("accepted"), "{}", hint_for(&read));
        }
        let reason = ErrorReason::AllRpcEndpointsUnavailable;
        let verify = CliError::new(Code::Unavailable, reason, String::new()).mark_read_only();
        assert!(hint_for(&verify).contains("the server cannot reach the chain"));
        for reason in [ErrorReason::AllRpcEndpointsUnavailable, ErrorReason::NoContract, ErrorReason::ScopeMissing] {
            let error = CliError::new(tonic_code(reason), reason, String::new()).mark_read_only();
            assert_eq!(error.mark_chain_query().exit(), Exit::ServerUnreachable, "{reason:?}");
        }
        let invalid = CliError::invalid_arguments("no hash").mark_chain_query();
        assert_eq!(invalid.exit(), Exit::UsageError);
    }
}
