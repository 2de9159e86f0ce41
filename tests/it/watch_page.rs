//! `make watch`: Spotlight with a development stack, and what its page shows in a browser.

use crate::harness::{ScratchDir, browser::node, process::Process, within};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

fn watch(directory: &ScratchDir) -> Process {
    let mut command = node("deploy/spotlight/watch.mjs");
    command.arg(env!("CARGO_BIN_EXE_registrar")).envs(directory.variables());
    command.env("REGISTRAR_LISTEN", "127.0.0.1:0").env("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0");
    Process::spawn("make watch", &mut command).with_children()
}

/// Spotlight's URL, and the trace id of the document that times out.
async fn timed_out(process: &mut Process) -> (String, String) {
    let link = |line: &str| {
        let (page, trace) = line.rsplit_once(' ')?.1.rsplit_once("/telemetry/traces/")?;
        line.contains("CONFIRMATION_TIMEOUT, chain_stalled").then(|| (page.to_owned(), trace.to_owned()))
    };
    process.wait_for_line("the document that timed out", link).await
}

/// Opens the page in Chromium, saves screenshots, and returns what the page shows.
async fn inspect_page(directory: &ScratchDir, page: &str, trace: &str, screenshots: &Path) -> Value {
    let mut command = tokio::process::Command::from(node("tests/browser/screenshot.mjs"));
    command.args([page, trace]).arg(screenshots).envs(directory.variables());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = within("the browser", command.output()).await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the browser script failed: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"))
}

/// The child spans.
fn children(span: &Value) -> &Vec<Value> {
    span["spans"].as_array().unwrap()
}

/// The first registration trace that the page shows below its call.
fn registration_span(spans: &[Value]) -> Option<&Value> {
    spans.iter().find_map(|span| {
        let is_registration = |child: &&Value| span["op"] == "grpc.server" && child["op"] == "blockchain.register";
        children(span).iter().find(is_registration).or_else(|| registration_span(children(span)))
    })
}

fn screenshots() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spotlight");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn spotlight_shows_the_waterfall_and_the_timeout_diagnosis() {
    let directory = ScratchDir::new();
    let mut process = watch(&directory);
    let (page, trace) = timed_out(&mut process).await;

    let seen = inspect_page(&directory, &page, &trace, &screenshots()).await;

    let [call] = &seen["waterfall"].as_array().unwrap()[..] else { panic!("more than the call: {seen:#}") };
    assert_eq!(call["op"], "grpc.server", "{seen:#}");
    assert!(call["name"].as_str().unwrap().contains("RegisterDocument"), "{seen:#}");
    let found = registration_span(std::slice::from_ref(call));
    let registration = found.unwrap_or_else(|| panic!("no call with a registration trace below it: {seen:#}"));
    let stages: Vec<&Value> = children(registration).iter().map(|span| &span["op"]).collect();
    assert_eq!(stages, ["blockchain.prepare", "blockchain.send", "blockchain.wait"], "{seen:#}");
    let error = seen["error"].as_str().unwrap();
    for word in ["TransactionTimeoutError: Transaction 0x", "not confirmed after 15 seconds", "chain_stalled", &trace] {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }

    process.signal(Signal::INT);
    assert_eq!(process.exit().await.code(), Some(0));
    directory.assert_unchanged(&[]);
}
