//! What to do next about an error.

use super::{
    Exit,
    error::{
        ALL_RPC_ENDPOINTS_UNAVAILABLE, CONNECTION_LOST, CliError, INVALID_ARGUMENTS, SERVER_UNREACHABLE,
        STORE_UNAVAILABLE,
    },
    invocation::Invocation,
    time,
};
use crate::api::proto::WaitFor;
use tonic::Code;

pub(super) fn hint(error: &CliError, invocation: &Invocation) -> String {
    let id = &error.registration_id;
    let is_unfinished = error.exit() == Exit::Unfinished;
    let watch = invocation.server_command(&format!("watch {id}{}", until_flag(error.wait_for)));
    let explain = invocation.server_command(&format!("explain {id}"));
    let retry = error.retry_after.map_or("later".to_owned(), |delay| format!("in {}", time::format_duration(delay)));
    let not_accepted = if error.read_only { "" } else { "nothing was accepted; " };
    match (error.reason.as_str(), id.is_empty()) {
        (SERVER_UNREACHABLE, _) => {
            let (dev, serve) = (invocation.local_command("dev"), invocation.local_command("serve"));
            format!("start a server with `{dev}` or `{serve}`, or name another one with --server or REGISTRAR_SERVER")
        }
        (CONNECTION_LOST, true) if error.read_only => "run the same command again".into(),
        (CONNECTION_LOST, true) => {
            "run the same command again; a document is registered once per case, however often it is sent".into()
        }
        ("CONFIRMATION_TIMEOUT", false) => {
            format!("it stays accepted; `{explain}` diagnoses it again, `{watch}` follows it")
        }
        (_, false) if is_unfinished && error.blocked_reason().is_some() => {
            format!("`{explain}` says what it waits for and what to do")
        }
        ("WAIT_TIMEOUT", false) => format!("`{watch}` follows it"),
        (_, false) if is_unfinished => format!("it is accepted and processing continues; `{watch}` follows it"),
        ("REGISTRATION_NOT_FOUND", _) => {
            let (list, verify) = (invocation.server_command("list"), invocation.local_command("verify"));
            format!("`{list}` shows what this server has, `{verify}` checks the chain")
        }
        (STORE_UNAVAILABLE, true) => "see the server's log for what is wrong with its database".into(),
        ("NO_CONTRACT", _) => {
            format!("`{}` shows the server's chain and contract", invocation.server_command("info"))
        }
        (ALL_RPC_ENDPOINTS_UNAVAILABLE, true) => {
            format!("{not_accepted}the server cannot reach the chain; try again {retry}")
        }
        ("INVALID_FIELD" | INVALID_ARGUMENTS, _) => "fix this and try again; see --help for examples".into(),
        (_, false) => {
            let status = invocation.server_command(&format!("status {id}"));
            format!("fix the cause, then register it again to restart it; `{status}` shows it")
        }
        _ if error.code == Code::Unimplemented => {
            "the server at this address does not have this method; is it a registrar?".into()
        }
        _ if error.code == Code::ResourceExhausted || error.code == Code::Unavailable => {
            format!("{not_accepted}try again {retry}")
        }
        _ => "see the server's log for this trace id".into(),
    }
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
            let error = CliError::new(Code::DeadlineExceeded, "WAIT_TIMEOUT", String::new());
            let hint = hint_for(&error.with_registration(&registration, level));
            assert!(hint.contains(command), "{hint}");
        }
    }

    #[test]
    fn a_blocked_registration_is_explained_instead_of_watched() {
        let mut error = CliError::new(Code::DeadlineExceeded, "WAIT_TIMEOUT", String::new());
        error.registration_id = "the-id".into();
        error.metadata.insert("blockedReason".into(), "INSUFFICIENT_FUNDS".into());
        let hint = hint_for(&error);
        assert!(hint.contains("`registrar explain the-id` says what it waits for"), "{hint}");
        assert!(!hint.contains("watch"), "{hint}");
    }

    #[test]
    fn an_error_without_details_is_described_by_its_trailers() {
        let mut status = Status::unavailable("the server shuts down");
        status.metadata_mut().insert("x-error-reason", "SHUTTING_DOWN".parse().unwrap());
        status.metadata_mut().insert("x-registration-id", "the-id".parse().unwrap());
        let error = CliError::from_status(&status);
        assert_eq!((error.reason.as_str(), error.exit()), ("SHUTTING_DOWN", Exit::Unfinished));
        assert!(hint_for(&error).contains("`registrar watch the-id`"));
    }

    #[test]
    fn a_failed_read_does_not_count_as_an_unreachable_server() {
        for (reason, reading, registering) in [
            (ALL_RPC_ENDPOINTS_UNAVAILABLE, Exit::Failed, Exit::ServerUnreachable),
            (STORE_UNAVAILABLE, Exit::Failed, Exit::ServerUnreachable),
            ("SHUTTING_DOWN", Exit::ServerUnreachable, Exit::ServerUnreachable),
            (SERVER_UNREACHABLE, Exit::ServerUnreachable, Exit::ServerUnreachable),
            (CONNECTION_LOST, Exit::ServerUnreachable, Exit::ServerUnreachable),
        ] {
            let error = CliError::new(Code::Unavailable, reason, String::new());
            assert_eq!(error.exit(), registering, "{reason}");
            let read = error.mark_read_only();
            assert_eq!(read.exit(), reading, "{reason}");
            assert!(!hint_for(&read).contains("accepted"), "{}", hint_for(&read));
        }
        let verify = CliError::new(Code::Unavailable, ALL_RPC_ENDPOINTS_UNAVAILABLE, String::new()).mark_read_only();
        assert!(hint_for(&verify).contains("the server cannot reach the chain"));
    }
}
