//! What is under `deploy/`, for operators: the rules fire when they should, ask for numbers that are there, and lead to a page
//! that says what to do, in words that are true.
//!
//! Prometheus, promtool and amtool are the real ones, of Debian's packages `prometheus` and `prometheus-alertmanager`.

mod dashboard;
mod live;
mod pages;
mod prometheus;
mod promql;
mod rules;
mod sentry;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file or folder under `deploy/`.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// A file under `deploy/`.
fn text(path: &str) -> String {
    let path = deploy(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of JSON under `deploy/`.
fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a folder under `deploy/` with this ending, by their path under `deploy/`.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(deploy(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> =
        names.filter(|name| name.ends_with(ending)).map(|name| format!("{folder}/{name}")).collect();
    files.sort();
    assert!(!files.is_empty(), "there is no {ending} in {folder}");
    files
}

/// A source file of the service.
fn source(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)).unwrap()
}
