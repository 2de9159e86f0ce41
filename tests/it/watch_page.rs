//! `make watch`: Spotlight beside a development stack, and what a person sees on its page in a browser.

use crate::harness::{Place, process::Process, service::command, within};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A script, by its path in the repository, with what it needs from npm and nothing in its environment but ours.
fn node(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join(script);
    let installed = script.with_file_name("node_modules");
    assert!(installed.is_dir(), "{} is not there: `make test` installs it", installed.display());
    let mut node = Command::new("node");
    node.env_clear().envs(command().get_envs().filter_map(|(name, value)| Some((name, value?))));
    node.current_dir(root).arg(script);
    node
}

/// Starts what `make watch` starts.
fn watch(place: &Place) -> Process {
    let mut command = node("deploy/spotlight/watch.mjs");
    command.arg(env!("CARGO_BIN_EXE_registrar")).envs(place.variables());
    command.env("REGISTRAR_LISTEN", "127.0.0.1:0").env("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0");
    Process::spawn("make watch", &mut command).with_children()
}

/// Where Spotlight is, and the trace of the document that times out.
async fn timed_out(process: &mut Process) -> (String, String) {
    let link = |line: &str| {
        let (page, trace) = line.rsplit_once(' ')?.1.rsplit_once("/telemetry/traces/")?;
        line.contains("CONFIRMATION_TIMEOUT, chain_stalled").then(|| (page.to_owned(), trace.to_owned()))
    };
    process.said("which document timed out", link).await
}

/// Opens the page in Chromium and returns what it shows. Leaves screenshots in the folder.
async fn look(place: &Place, page: &str, trace: &str, screenshots: &Path) -> Value {
    let mut command = tokio::process::Command::from(node("tests/browser/look.mjs"));
    command.args([page, trace]).arg(screenshots).envs(place.variables());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = within("the browser", command.output()).await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the page does not show it: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"))
}

/// The spans right below this one.
fn below(span: &Value) -> &Vec<Value> {
    span["spans"].as_array().unwrap()
}

/// The first journey that the page shows below the call that began it. What is above the call is the caller's.
fn journey(spans: &[Value]) -> Option<&Value> {
    spans.iter().find_map(|span| {
        let is_journey = |below: &&Value| span["op"] == "grpc.server" && below["op"] == "blockchain.register";
        below(span).iter().find(is_journey).or_else(|| journey(below(span)))
    })
}

fn screenshots() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spotlight");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test]
async fn spotlight_shows_the_waterfall_and_why_a_document_timed_out() {
    let place = Place::new();
    let mut process = watch(&place);
    let (page, trace) = timed_out(&mut process).await;

    let seen = look(&place, &page, &trace, &screenshots()).await;

    let journey = journey(seen["waterfall"].as_array().unwrap());
    let journey = journey.unwrap_or_else(|| panic!("no call with a journey below it: {seen:#}"));
    let stages: Vec<&Value> = below(journey).iter().map(|span| &span["op"]).collect();
    assert_eq!(stages, ["blockchain.prepare", "blockchain.send", "blockchain.wait"], "{seen:#}");
    let error = seen["error"].as_str().unwrap();
    for word in ["TransactionTimeoutError: Transaction 0x", "not confirmed after 15 seconds", "chain_stalled", &trace] {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }

    process.signal(Signal::INT);
    assert_eq!(process.exit().await.code(), Some(0));
    place.is_as_it_was(&[]);
}
