//! Variables, and the list of what is wrong with them.

use crate::telemetry::redact::{REPLACEMENT, redact};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    fmt, fs,
    io::ErrorKind,
};

/// The environment's variables, read once.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Reads the process's environment. A variable that is not UTF-8 counts as absent.
    pub fn from_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// The same with some variables set.
    pub fn with<'a>(mut self, variables: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        self.0.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self
    }

    /// The names of all variables, in order.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// A variable; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first of these that is set, with its name.
    pub fn first_set<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &str)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// A secret: the variable, or the content of the file that the variable with `_FILE` names.
    pub fn secret(&self, name: &'static str, faults: &mut ConfigErrors) -> Option<String> {
        let file_variable = format!("{name}_FILE");
        match (self.get(name), self.get(&file_variable)) {
            (Some(_), Some(_)) => {
                faults.add(name, format!("is set, and so is {file_variable}: set one of them"));
                None
            }
            (Some(value), None) => Some(value.to_owned()),
            (None, Some(path)) => match fs::read_to_string(path) {
                Ok(content) if content.trim().is_empty() => {
                    faults.add(name, format!("the file that {file_variable} names is empty"));
                    None
                }
                Ok(content) => Some(content.trim().to_owned()),
                Err(error) => {
                    let missing = error.kind() == ErrorKind::NotFound;
                    let why = if missing { "no such file".to_owned() } else { error.kind().to_string() };
                    let named = redact_path(path).map(|path| format!(" ({path})")).unwrap_or_default();
                    faults.add(name, format!("the file that {file_variable} names{named} cannot be read: {why}"));
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

/// One setting that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong with it and what would be right. Never holds a secret.
    pub problem: String,
}

/// Everything that is wrong with the settings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Notes one.
    pub fn add(&mut self, name: &'static str, problem: impl Into<String>) {
        self.0.push(ConfigError { name, problem: problem.into() });
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a value; notes what is wrong with it and goes on with `default`.
    pub fn parse_or_default<T, E: fmt::Display>(
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

/// A value that may be shown: what was meant for another variable may be a secret, and is one if it is as long as a key.
fn redact_value(text: &str) -> Cow<'_, str> {
    const MIN_SECRET_HEX_DIGITS: usize = 64;
    let key = text.split(|c: char| !c.is_ascii_hexdigit()).any(|digits| digits.len() >= MIN_SECRET_HEX_DIGITS);
    if key { REPLACEMENT.into() } else { redact(text) }
}

/// A path that may be shown. What is none may be the secret itself, given to the wrong variable.
fn redact_path(path: &str) -> Option<Cow<'_, str>> {
    path.starts_with(['/', '.', '~']).then(|| redact_value(path))
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(f, "{count} setting{} wrong:", if count == 1 { " is" } else { "s are" })?;
        for ConfigError { name, problem } in &self.0 {
            writeln!(f, "  {name}: {problem}")?;
        }
        write!(f, "`registrar serve --help` explains every setting.")
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_is_named_unless_its_name_may_be_the_secret() {
        for (path, expected) in [
            (
                "/run/secrets/none",
                "the file that REGISTRAR_SIGNER_KEYS_FILE names (/run/secrets/none) cannot be read: no such file",
            ),
            ("hunter2", "the file that REGISTRAR_SIGNER_KEYS_FILE names cannot be read: no such file"),
        ] {
            let mut faults = ConfigErrors::default();
            let environment = Environment::default().with([("REGISTRAR_SIGNER_KEYS_FILE", path.to_owned())]);
            assert_eq!(environment.secret("REGISTRAR_SIGNER_KEYS", &mut faults), None);
            assert_eq!(faults.0[0].problem, expected);
        }
    }

    #[test]
    fn what_was_given_to_the_wrong_variable_is_not_repeated_if_it_may_be_a_secret() {
        let key = "8da4ef21b864d2cc526dbdb2a120bd2874c36c9d0a1fb7f8c63d7f7a8b41de8f";
        for (text, expected) in [
            ("nonsense", "`nonsense` is wrong"),
            (&format!("0x{key}"), "`[redacted]` is wrong"),
            ("https://base.example/v2/key", "`https://base.example/[redacted]` is wrong"),
        ] {
            let mut faults = ConfigErrors::default();
            faults.parse_or_default("REGISTRAR_CONTRACT_ADDRESS", Some(text), (), |_| Err("is wrong"));
            assert_eq!(faults.0[0].problem, expected);
        }
    }
}
