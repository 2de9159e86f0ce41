//! What went wrong, for a person to read: what happened, why, and what to do next, each of it once.

use super::{
    Exit, blocked,
    screen::{Colour, Screen},
    trouble::{Trouble, name},
};

impl Trouble {
    /// It in words, and what to do next.
    pub(super) fn words(&self, screen: &Screen) -> String {
        let reason = if self.reason.is_empty() { name(self.code) } else { &self.reason };
        let waiting = self.exit() == Exit::Unfinished;
        let head = if waiting { "not there yet" } else { "error" };
        let head = screen.err.paint(if waiting { Colour::Yellow } else { Colour::Red }, head);
        let mut text = format!("{head}: {} ({reason})\n", self.message);
        let mut line = |label: &str, words: &str| {
            text.push_str(&format!("  {} {words}\n", screen.err.paint(Colour::Dim, format!("{label:<7}"))));
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
        if let Some(reason) = self.blocked() {
            line("blocked", &blocked::words(reason));
        }
        line("next", &self.advice(&screen.program));
        if !self.trace_id.is_empty() {
            line("trace", &self.trace_id);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{super::trouble::STORE_UNAVAILABLE, *};
    use crate::config::Environment;
    use tonic::Code;

    fn trouble(code: Code, id: &str) -> Box<Trouble> {
        let mut trouble = Trouble::local(code, "", String::new());
        trouble.registration_id = id.to_owned();
        trouble
    }

    #[test]
    fn nothing_is_said_twice() {
        let screen = Screen::of_process(false, &Environment::default());
        let mut late = trouble(Code::DeadlineExceeded, "the-id");
        late.reason = "CONFIRMATION_TIMEOUT".into();
        late.message = "sent, and not confirmed in time; it goes on. No node knows it.".into();
        late.metadata =
            [("cause", "pending"), ("explanation", "No node knows it.")].map(|(k, v)| (k.into(), v.into())).into();
        assert_eq!(late.words(&screen).matches("No node knows it.").count(), 1, "{}", late.words(&screen));

        let mut waited = trouble(Code::DeadlineExceeded, "the-id");
        waited.reason = "WAIT_TIMEOUT".into();
        waited.message = "accepted, and QUEUED when the wait ended; it goes on: ask again with its id".into();
        assert_eq!(waited.words(&screen).matches("goes on").count(), 1, "{}", waited.words(&screen));

        let mut store = Trouble::local(Code::Unavailable, STORE_UNAVAILABLE, String::new());
        store.message = "the database cannot be used now; this call changed nothing, try again".into();
        assert_eq!(store.words(&screen).matches("try again").count(), 1, "{}", store.words(&screen));
    }
}
