//! Environment variables, and the list of errors in them.

use super::parsers::may_contain_private_key;
use crate::telemetry::redact::{REPLACEMENT, redact};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt, fs,
    io::ErrorKind,
};

/// A snapshot of the environment variables.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Reads the process's environment. A variable that is not UTF-8 counts as absent.
    pub fn from_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// Adds or replaces variables.
    pub(crate) fn with<'a>(mut self, variables: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        self.0.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self
    }

    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// A variable; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first of these that is set, with its name.
    pub(crate) fn first_set<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// A secret: the variable, or the content of the file that the variable with `_FILE` names.
    pub(crate) fn secret(&self, name: &'static str, errors: &mut ConfigErrors) -> Option<String> {
        let file_variable = format!("{name}_FILE");
        match (self.get(name), self.get(&file_variable)) {
            (Some(_), Some(_)) => {
                errors.add(name, format!("is set, and so is {file_variable}; set only one of them"));
                None
            }
            (Some(value), None) => Some(value.to_owned()),
            (None, Some(path)) => match fs::read_to_string(path) {
                Ok(content) if content.trim().is_empty() => {
                    errors.add(name, format!("the file named by {file_variable} is empty"));
                    None
                }
                Ok(content) => Some(content.trim().to_owned()),
                Err(error) => {
                    let missing = error.kind() == ErrorKind::NotFound;
                    let reason = if missing { "no such file".to_owned() } else { error.kind().to_string() };
                    let named = redact_path(path).map(|path| format!(" ({path})")).unwrap_or_default();
                    errors.add(name, format!("the file{named} named by {file_variable} cannot be read: {reason}"));
                    None
                }
            },
            (None, None) => None,
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct ConfigError {
    variable: &'static str,
    /// What is wrong and how to fix it. Never contains a secret.
    problem: String,
}

/// All invalid settings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(crate) fn add(&mut self, variable: &'static str, problem: impl Into<String>) {
        self.0.push(ConfigError { variable, problem: problem.into() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds errors that are shown under another variable.
    pub(super) fn add_all(&mut self, variable: &'static str, errors: Self) {
        self.0.extend(errors.0.into_iter().map(|error| ConfigError { variable, ..error }));
    }

    pub(super) fn into_result<T>(self, settings: T) -> Result<T, Self> {
        if self.is_empty() { Ok(settings) } else { Err(self) }
    }

    /// In one line, for a command with one setting.
    pub(crate) fn first(&self) -> Option<String> {
        self.0.first().map(|ConfigError { variable, problem }| format!("{variable}: {problem}"))
    }

    /// Parses a value. An invalid one is added to the errors, and `default` is returned to find further errors.
    pub(crate) fn parse_or_default<T, E: fmt::Display>(
        &mut self,
        name: &'static str,
        text: Option<&str>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        match text.map(str::trim).filter(|text| !text.is_empty()) {
            None => default,
            Some(text) => parse(text).unwrap_or_else(|error| {
                self.add(name, format!("`{}` {error}", redact_value(text)));
                default
            }),
        }
    }
}

/// The value as it may be shown: a secret may have been given to the wrong variable.
fn redact_value(text: &str) -> Cow<'_, str> {
    if may_contain_private_key(text) { REPLACEMENT.into() } else { redact(text) }
}

/// The path as it may be shown. `None` if it does not look like a path: it may be the secret itself.
pub(super) fn redact_path(path: &str) -> Option<Cow<'_, str>> {
    path.starts_with(['/', '.', '~']).then(|| redact_value(path))
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(f, "{count} invalid setting{}:", if count == 1 { "" } else { "s" })?;
        for ConfigError { variable, problem } in &self.0 {
            writeln!(f, "  {variable}: {problem}")?;
        }
        write!(f, "`registrar serve --help` describes every setting.")
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_unless_its_name_may_be_the_secret() {
        for (path, expected) in [
            (
                "/run/secrets/none",
                "the file (/run/secrets/none) named by REGISTRAR_SIGNER_KEYS_FILE cannot be read: no such file",
            ),
            ("hunter2", "the file named by REGISTRAR_SIGNER_KEYS_FILE cannot be read: no such file"),
        ] {
            let mut errors = ConfigErrors::default();
            let environment = Environment::default().with([("REGISTRAR_SIGNER_KEYS_FILE", path.to_owned())]);
            assert_eq!(environment.secret("REGISTRAR_SIGNER_KEYS", &mut errors), None);
            assert_eq!(errors.0[0].problem, expected);
        }
    }

    #[test]
    fn a_secret_in_the_wrong_variable_is_not_repeated() {
        let key = "8da4ef21b864d2cc526dbdb2a120bd2874c36c9d0a1fb7f8c63d7f7a8b41de8f";
        for (text, expected) in [
            ("nonsense", "`nonsense` is wrong"),
            (&format!("0x{key}"), "`[redacted]` is wrong"),
            ("https://base.example/v2/key", "`https://base.example/[redacted]` is wrong"),
        ] {
            let mut errors = ConfigErrors::default();
            errors.parse_or_default("REGISTRAR_CONTRACT_ADDRESS", Some(text), (), |_| Err("is wrong"));
            assert_eq!(errors.0[0].problem, expected);
        }
    }
}
