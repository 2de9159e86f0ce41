//! This program as a person can call it again: what is printed to be pasted works where it is read.

use crate::config::Environment;
use std::{ffi::OsStr, path};

/// The server that is asked when none is named.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

/// How this program was called, and which server its commands have to name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Invocation {
    program: String,
    /// `None` where the next call finds it by itself.
    server: Option<String>,
}

impl Invocation {
    /// As this process was called.
    pub(super) fn from_process() -> Self {
        Self::from_argv0(&std::env::args_os().next().unwrap_or_default())
    }

    /// As the first argument says: a path is needed again, a bare name was found on the PATH and will be.
    pub(super) fn from_argv0(argument: &OsStr) -> Self {
        let path = argument.to_str().filter(|text| text.contains(path::is_separator));
        Self { program: path.map_or("registrar".to_owned(), shell_quote), server: None }
    }

    /// With commands that ask this server, also from a shell with this environment.
    pub(super) fn with_server(self, server: &str, environment: &Environment) -> Self {
        let usual = environment.get("REGISTRAR_SERVER").unwrap_or(DEFAULT_SERVER);
        Self { server: (server != usual).then(|| shell_quote(server)), ..self }
    }

    /// A command that asks no server.
    pub(super) fn local_command(&self, words: &str) -> String {
        format!("{} {words}", self.program)
    }

    /// A command that asks the server.
    pub(super) fn server_command(&self, words: &str) -> String {
        let server = self.server.as_ref().map(|server| format!(" --server {server}")).unwrap_or_default();
        format!("{} {words}{server}", self.program)
    }
}

/// As a POSIX shell reads it back.
fn shell_quote(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_calls_the_program_as_it_was_called() {
        for (argument, name) in [
            ("registrar", "registrar"),
            ("reg", "registrar"),
            ("", "registrar"),
            ("target/debug/registrar", "target/debug/registrar"),
            ("/opt/my tools/registrar", "'/opt/my tools/registrar'"),
            ("./it's", r"'./it'\''s'"),
        ] {
            assert_eq!(Invocation::from_argv0(OsStr::new(argument)).local_command("list"), format!("{name} list"));
        }
    }

    #[test]
    fn a_printed_command_names_the_server_where_it_would_not_be_found() {
        let ask = |server, environment: &Environment| {
            Invocation::from_argv0(OsStr::new("registrar")).with_server(server, environment).server_command("list")
        };
        let none = Environment::default();
        let named = Environment::default().with([("REGISTRAR_SERVER", "http://one:1".to_owned())]);
        assert_eq!(ask(DEFAULT_SERVER, &none), "registrar list");
        assert_eq!(ask("http://one:1", &none), "registrar list --server http://one:1");
        assert_eq!(ask("http://one:1", &named), "registrar list");
        assert_eq!(ask(DEFAULT_SERVER, &named), "registrar list --server http://127.0.0.1:50051");
    }
}
