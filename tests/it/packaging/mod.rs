//! Dockerfile, compose file and workflows: real linters find nothing in them, they agree with the program, and the
//! image runs.

mod compose;
mod context;
pub mod dockerfile;
mod image;
mod sbom;
mod workflows;

use crate::documents::{code_spans, read};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a tool in the project's folder.
///
/// # Panics
/// When the tool is not installed, because skipping the check would hide failures.
fn run(program: impl AsRef<Path>, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let program = program.as_ref();
    let output = Command::new(program).args(arguments).envs(variables.iter().copied()).current_dir(root()).output();
    output.unwrap_or_else(|error| panic!("{} cannot be run ({error}): `make test` installs it", program.display()))
}

/// Runs a tool that has to succeed and returns its output.
fn checked(program: impl AsRef<Path>, arguments: &[&str]) -> String {
    let output = run(&program, arguments, &[]);
    let combined = text_of(&output);
    assert!(output.status.success(), "{} {}:\n{combined}", program.as_ref().display(), arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard output and standard error.
fn text_of(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// A program of the Python environment, `tests/packaging/requirements.txt`.
fn python_tool(name: &str) -> PathBuf {
    root().join("tests/packaging/.venv/bin").join(name)
}

fn yaml(path: &str) -> Value {
    let json = checked(python_tool("python"), &["tests/packaging/yaml_to_json.py", path]);
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every name in the reference of the settings.
fn settings() -> BTreeSet<String> {
    code_spans(&read("docs/reference/settings.md")).into_iter().collect()
}

/// The names in a text that begin with `REGISTRAR_`.
fn setting_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("REGISTRAR_")).collect()
}

/// Whether a reference to an image ends with the digest of its content.
fn is_pinned(image: &str) -> bool {
    let digest = image.split_once("@sha256:").map_or("", |(_, digest)| digest);
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
