//! Sentry's own event normalizer (PyPI `sentry-relay`): reports what Sentry would reject or change.

use crate::harness::wait::within;
use serde::Deserialize;
use serde_json::Value;
use std::{path::Path, process::Stdio};
use tokio::{io::AsyncWriteExt, process::Command};

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Finding {
    /// Index of the item.
    pub item: usize,
    /// Path in the item; empty when the whole item is rejected.
    pub path: String,
    pub problem: String,
}

pub async fn normalise(items: &[Value]) -> Vec<Finding> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: `make test` installs it", python.display());
    let mut command = Command::new(python);
    command.arg(folder.join("relay.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let items = serde_json::to_vec(items).unwrap();
    let written = async move { input.write_all(&items).await };
    let (written, output) =
        within("Sentry's normaliser", async { tokio::join!(written, child.wait_with_output()) }).await;
    let output = output.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && written.is_ok(), "Sentry's normaliser fails: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"))
}

/// Asserts that Sentry would accept these items unchanged.
pub async fn assert_accepted(items: &[Value]) {
    assert!(!items.is_empty(), "no items to check");
    let findings = normalise(items).await;
    let descriptions = findings.iter().map(|finding| format!("{finding:?} in {}", items[finding.item]));
    assert!(findings.is_empty(), "{}", descriptions.collect::<Vec<_>>().join("\n"));
}
