//! What to do next, when something went wrong.

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

impl CliError {
    /// What to do next.
    pub(super) fn hint(&self, program: &Invocation) -> String {
        let id = &self.registration_id;
        let watch = program.server_command(&format!("watch {id}{}", until_flag(self.wait_for)));
        let again = self.retry_after.map_or("later".to_owned(), |delay| format!("in {}", time::format_duration(delay)));
        let nothing = if self.read_only { "" } else { "nothing was accepted: " };
        match (self.reason.as_str(), id.is_empty()) {
            (SERVER_UNREACHABLE, _) => {
                let (dev, serve) = (program.local_command("dev"), program.local_command("serve"));
                format!("start one with `{dev}` or `{serve}`, or name another with --server or REGISTRAR_SERVER")
            }
            (CONNECTION_LOST, true) if self.read_only => "run the same command again".into(),
            (CONNECTION_LOST, true) => {
                "run the same command again: a document is registered once per case, however often it is sent".into()
            }
            ("CONFIRMATION_TIMEOUT", false) => {
                let explain = program.server_command(&format!("explain {id}"));
                format!("it stays accepted and goes on; `{explain}` looks again, `{watch}` follows it")
            }
            (_, false) if self.exit() == Exit::Unfinished && self.blocked_reason().is_some() => {
                let explain = program.server_command(&format!("explain {id}"));
                format!("`{explain}` says what it waits for and who mends it")
            }
            ("WAIT_TIMEOUT", false) => format!("`{watch}` follows it"),
            (_, false) if self.exit() == Exit::Unfinished => {
                format!("it is accepted and goes on by itself: `{watch}` follows it")
            }
            ("REGISTRATION_NOT_FOUND", _) => {
                format!(
                    "`{}` shows what this server has, `{}` asks the chain",
                    program.server_command("list"),
                    program.local_command("verify")
                )
            }
            (STORE_UNAVAILABLE, true) => "the server's log says what is wrong with its database".into(),
            ("NO_CONTRACT", _) => {
                format!("`{}` shows the chain and the contract it was started with", program.server_command("info"))
            }
            (ALL_RPC_ENDPOINTS_UNAVAILABLE, true) => {
                format!("{nothing}the server cannot reach the chain now; try again {again}")
            }
            ("INVALID_FIELD" | INVALID_ARGUMENTS, _) => "mend that and try again; --help has examples".into(),
            (_, false) => {
                let status = program.server_command(&format!("status {id}"));
                format!("registering it again starts it again once the cause is mended; `{status}` shows it")
            }
            _ if self.code == Code::Unimplemented => {
                "the server at that address does not offer this; is it a registrar?".into()
            }
            _ if self.code == Code::ResourceExhausted || self.code == Code::Unavailable => {
                format!("{nothing}try again {again}")
            }
            _ => "the server's log has the details under the trace id".into(),
        }
    }
}

/// The option of `watch` that waits as far. Nothing for its default.
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

    #[test]
    fn the_advice_follows_as_far_as_was_asked() {
        let registrar = Invocation::from_argv0("registrar".as_ref());
        let registration = Registration { id: "the-id".into(), ..Default::default() };
        for (asked, command) in [
            (WaitFor::Confirmed, "`registrar watch the-id`"),
            (WaitFor::Safe, "`registrar watch the-id --until safe`"),
            (WaitFor::Finalized, "`registrar watch the-id --until finalized`"),
        ] {
            let trouble = CliError::new(Code::DeadlineExceeded, "WAIT_TIMEOUT", String::new());
            let advice = trouble.with_registration(&registration, asked).hint(&registrar);
            assert!(advice.contains(command), "{advice}");
        }
    }

    #[test]
    fn blocked_work_is_explained_and_not_only_watched() {
        let mut waited = CliError::new(Code::DeadlineExceeded, "WAIT_TIMEOUT", String::new());
        waited.registration_id = "the-id".into();
        waited.metadata.insert("blockedReason".into(), "INSUFFICIENT_FUNDS".into());
        let advice = waited.hint(&Invocation::from_argv0("registrar".as_ref()));
        assert!(advice.contains("`registrar explain the-id` says what it waits for"), "{advice}");
        assert!(!advice.contains("watch"), "{advice}");
    }
}
