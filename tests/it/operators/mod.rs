//! The files under `deploy/` for operators: rules fire as intended, queries match existing metrics, and alerts lead to
//! a correct page.
//!
//! Prometheus, promtool and amtool come from Debian's packages `prometheus` and `prometheus-alertmanager`.

mod dashboard;
mod live;
mod pages;
mod prometheus;
mod promql;
mod rules;
mod sentry;

use serde_json::Value;
use std::path::{Path, PathBuf};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn text(path: &str) -> String {
    let path = deploy(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files with this ending in a folder under `deploy/`, relative to it.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(deploy(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> =
        names.filter(|name| name.ends_with(ending)).map(|name| format!("{folder}/{name}")).collect();
    files.sort();
    assert!(!files.is_empty(), "no {ending} file in {folder}");
    files
}

fn source(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(path)).unwrap()
}
