//! This program as a person can call it again: what is printed to be pasted works where it is read.

use crate::config::Environment;
use std::{ffi::OsStr, path};

/// The server that is asked when none is named.
pub(super) const USUAL_SERVER: &str = "http://127.0.0.1:50051";

/// How this program was called, and which server its commands have to name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Program {
    name: String,
    /// `None` where the next call finds it by itself.
    server: Option<String>,
}

impl Program {
    /// As this process was called.
    pub(super) fn of_process() -> Self {
        Self::called(&std::env::args_os().next().unwrap_or_default())
    }

    /// As the first argument says: a path is needed again, a bare name was found on the PATH and will be.
    pub(super) fn called(argument: &OsStr) -> Self {
        let path = argument.to_str().filter(|text| text.contains(path::is_separator));
        Self { name: path.map_or("registrar".to_owned(), quoted), server: None }
    }

    /// With commands that ask this server, also from a shell with this environment.
    pub(super) fn at(self, server: &str, environment: &Environment) -> Self {
        let usual = environment.get("REGISTRAR_SERVER").unwrap_or(USUAL_SERVER);
        Self { server: (server != usual).then(|| quoted(server)), ..self }
    }

    /// A command that asks no server.
    pub(super) fn run(&self, words: &str) -> String {
        format!("{} {words}", self.name)
    }

    /// A command that asks the server.
    pub(super) fn ask(&self, words: &str) -> String {
        let server = self.server.as_ref().map(|server| format!(" --server {server}")).unwrap_or_default();
        format!("{} {words}{server}", self.name)
    }
}

/// As a POSIX shell reads it back.
fn quoted(text: &str) -> String {
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
            assert_eq!(Program::called(OsStr::new(argument)).run("list"), format!("{name} list"));
        }
    }

    #[test]
    fn a_printed_command_names_the_server_where_it_would_not_be_found() {
        let ask = |server, environment: &Environment| {
            Program::called(OsStr::new("registrar")).at(server, environment).ask("list")
        };
        let none = Environment::default();
        let named = Environment::default().with([("REGISTRAR_SERVER", "http://one:1".to_owned())]);
        assert_eq!(ask(USUAL_SERVER, &none), "registrar list");
        assert_eq!(ask("http://one:1", &none), "registrar list --server http://one:1");
        assert_eq!(ask("http://one:1", &named), "registrar list");
        assert_eq!(ask(USUAL_SERVER, &named), "registrar list --server http://127.0.0.1:50051");
    }
}
