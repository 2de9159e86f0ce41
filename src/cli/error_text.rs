//! What went wrong, for a person to read: what happened, why, and what to do next, each of it once.

use super::{
    Exit, blocked_reason,
    error::{CliError, code_name},
    output::{Color, Output},
};

impl CliError {
    /// It in words, and what to do next.
    pub(super) fn describe(&self, screen: &Output) -> String {
        let reason = if self.reason.is_empty() { code_name(self.code) } else { &self.reason };
        let waiting = self.exit() == Exit::Unfinished;
        let head = if waiting { "not there yet" } else { "error" };
        let head = screen.stderr_style.apply(if waiting { Color::Yellow } else { Color::Red }, head);
        let mut text = format!("{head}: {} ({reason})\n", self.message);
        let mut line = |label: &str, words: &str| {
            text.push_str(&format!("  {} {words}\n", screen.stderr_style.apply(Color::Dim, format!("{label:<7}"))));
        };
        for (field, problem) in &self.fields {
            line("field", &format!("{field}: {problem}"));
        }
        if let Some(cause) = self.metadata.get("cause") {
            // The server's message holds the explanation already, unless it was too long for it.
            let explanation = self.metadata.get("explanation").filter(|words| !self.message.contains(words.as_str()));
            let explanation = explanation.map(|words| format!(": {words}")).unwrap_or_default();
            line("cause", &format!("{cause}{explanation}"));
        }
        if let Some(reason) = self.blocked_reason() {
            line("blocked", &blocked_reason::describe(reason));
        }
        line("next", &self.hint(&screen.invocation));
        if !self.trace_id.is_empty() {
            line("trace", &self.trace_id);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{super::error::STORE_UNAVAILABLE, *};
    use crate::config::Environment;
    use tonic::Code;

    fn error_for(code: Code, id: &str) -> Box<CliError> {
        let mut trouble = CliError::new(code, "", String::new());
        trouble.registration_id = id.to_owned();
        trouble
    }

    #[test]
    fn nothing_is_said_twice() {
        let screen = Output::from_process(false, &Environment::default());
        let mut late = error_for(Code::DeadlineExceeded, "the-id");
        late.reason = "CONFIRMATION_TIMEOUT".into();
        late.message = "sent, and not confirmed in time; it goes on. No node knows it.".into();
        late.metadata =
            [("cause", "pending"), ("explanation", "No node knows it.")].map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(late.describe(&screen).matches("No node knows it.").count(), 1, "{}", late.describe(&screen));

        let mut waited = error_for(Code::DeadlineExceeded, "the-id");
        waited.reason = "WAIT_TIMEOUT".into();
        waited.message = "accepted, and QUEUED when the wait ended; it goes on: ask again with its id".into();
        assert_eq!(waited.describe(&screen).matches("goes on").count(), 1, "{}", waited.describe(&screen));

        let mut store = CliError::new(Code::Unavailable, STORE_UNAVAILABLE, String::new());
        store.message = "the database cannot be used now; this call changed nothing, try again".into();
        assert_eq!(store.describe(&screen).matches("try again").count(), 1, "{}", store.describe(&screen));
    }
}
