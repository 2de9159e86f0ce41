//! Sentry's own normaliser (PyPI `sentry-relay`): what Sentry would find wrong with an event or a transaction.

use crate::harness::wait::within;
use serde::Deserialize;
use serde_json::Value;
use std::{path::Path, process::Stdio};
use tokio::{io::AsyncWriteExt, process::Command};

/// Something that Sentry would complain of.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Finding {
    /// The position in the list.
    pub item: usize,
    /// Where in it; empty when the whole is refused.
    pub path: String,
    /// What.
    pub problem: String,
}

/// Normalises these events and transactions, and returns what was found.
pub async fn normalise(items: &[Value]) -> Vec<Finding> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "{} is not there: `make test` installs it", python.display());
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

/// That Sentry would find nothing wrong with any of these.
pub async fn finds_nothing(items: &[Value]) {
    assert!(!items.is_empty(), "nothing to look at");
    let findings = normalise(items).await;
    let told = findings.iter().map(|finding| format!("{finding:?} in {}", items[finding.item]));
    assert!(findings.is_empty(), "{}", told.collect::<Vec<_>>().join("\n"));
}
