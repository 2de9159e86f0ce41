//! How this program was called, so that printed commands work when pasted.

use crate::config::Environment;
use std::{ffi::OsStr, path};

pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Invocation {
    program: String,
    /// `None` if the next call uses the same server by default.
    server: Option<String>,
}

impl Invocation {
    pub(super) fn from_process() -> Self {
        Self::from_argv0(&std::env::args_os().next().unwrap_or_default())
    }

    /// A path is kept; a bare name was found on the PATH.
    pub(super) fn from_argv0(argument: &OsStr) -> Self {
        let path = argument.to_str().filter(|text| text.contains(path::is_separator));
        Self { program: path.map_or("registrar".to_owned(), shell_quote), server: None }
    }

    /// For a shell with this environment.
    pub(super) fn with_server(self, server: &str, environment: &Environment) -> Self {
        let default = environment.get("REGISTRAR_SERVER").unwrap_or(DEFAULT_SERVER);
        Self { server: (server != default).then(|| shell_quote(server)), ..self }
    }

    /// A command that calls no server.
    pub(super) fn local_command(&self, words: &str) -> String {
        format!("{} {words}", self.program)
    }

    pub(super) fn server_command(&self, words: &str) -> String {
        let server = self.server.as_ref().map(|server| format!(" --server {server}")).unwrap_or_default();
        format!("{} {words}{server}", self.program)
    }
}

/// For a POSIX shell.
fn shell_quote(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_repeats_the_path_of_the_program() {
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
    fn a_printed_command_names_a_server_that_is_not_the_default() {
        let list = |server, environment: &Environment| {
            Invocation::from_argv0(OsStr::new("registrar")).with_server(server, environment).server_command("list")
        };
        let none = Environment::default();
        let named = Environment::default().with([("REGISTRAR_SERVER", "http://one:1".to_owned())]);
        assert_eq!(list(DEFAULT_SERVER, &none), "registrar list");
        assert_eq!(list("http://one:1", &none), "registrar list --server http://one:1");
        assert_eq!(list("http://one:1", &named), "registrar list");
        assert_eq!(list(DEFAULT_SERVER, &named), "registrar list --server http://127.0.0.1:50051");
    }
}
