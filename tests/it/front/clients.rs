//! Clients of other languages and runtimes: the programs of the client guide.

use crate::harness::{CASE, StackBuilder, TestStack, document, listener::free_port, within};
use rust_program::{describe, register};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{process::Command, sync::OnceCell};

#[path = "../../foreign/register.rs"]
mod rust_program;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn run(program: PathBuf, arguments: &[&str]) -> String {
    let mut command = Command::new(&program);
    command.current_dir(root()).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the program", command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?} {arguments:?}: {text}{complaint}");
    text
}

/// Runs a script of `tests/web`, whose client is generated once.
async fn node(script: &str, arguments: &[&str]) -> String {
    static GENERATED: OnceCell<()> = OnceCell::const_new();
    let folder = root().join("tests/web");
    let buf = folder.join("node_modules/.bin/buf");
    assert!(buf.exists(), "{} is missing: `make test` installs it", buf.display());
    let generate = async {
        let mut command = Command::new(buf);
        command.current_dir(&folder).args(["generate", "../../proto"]);
        assert!(within("the generated client", command.status()).await.unwrap().success());
    };
    GENERATED.get_or_init(|| generate).await;
    let script = format!("tests/web/{script}");
    run(PathBuf::from("node"), &[&[script.as_str()], arguments].concat()).await
}

async fn start() -> TestStack {
    StackBuilder::block_time(0.2).start().await
}

/// What a program prints that registers a document, and then one with a wrong case.
async fn assert_registers(stack: &TestStack, [registered, refused]: [String; 2]) {
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    assert!(registered.starts_with(&id) && registered.contains("CONFIRMED 0x"), "{registered}");
    assert!(refused.contains("INVALID_FIELD") && refused.contains("case_id"), "{refused}");
}

#[tokio::test]
async fn python_with_requests_registers_and_shows_what_is_wrong() {
    let stack = start().await;
    let server = stack.service.grpc.to_string();
    let python = root().join("tests/foreign/.venv/bin/python");
    let call = async |case| run(python.clone(), &["tests/foreign/connect.py", &server, &document(1), case]).await;
    assert_registers(&stack, [call(CASE).await, call("not a case").await]).await;
    assert!(call("not a case").await.contains("google.rpc.BadRequest"));
    let trace = stack.client.get_pair(&document(1), CASE).await.unwrap().trace_id;
    assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn node_with_connect_registers_and_shows_what_is_wrong() {
    let stack = start().await;
    let server = stack.service.grpc.to_string();
    let call = async |case| node("node.mjs", &[&server, &document(1), case]).await;
    assert_registers(&stack, [call(CASE).await, call("not a case").await]).await;
    let trace = stack.client.get_pair(&document(1), CASE).await.unwrap().trace_id;
    assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn a_page_in_chromium_registers_and_shows_what_is_wrong() {
    let port = free_port().to_string();
    let origin = format!("http://localhost:{port}");
    let stack = StackBuilder::block_time(0.2).set("REGISTRAR_CORS_ORIGINS", origin).start().await;
    let server = format!("http://{}", stack.service.grpc);
    let call = async |case| node("run-browser.mjs", &[&port, &server, &document(1), case]).await;
    let refused = call("not a case").await;
    assert!(refused.contains("(trace ") && !refused.contains("trace null"), "{refused}");
    assert_registers(&stack, [call(CASE).await, refused]).await;
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_call() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CORS_ORIGINS", "http://localhost:1").start().await;
    let server = format!("http://{}", stack.service.grpc);
    let shown = node("run-browser.mjs", &[&free_port().to_string(), &server, &document(1), CASE]).await;
    assert!(shown.contains("Failed to fetch"), "{shown}");
    assert_eq!(stack.client.list(Default::default()).await.unwrap().registrations, []);
}

#[tokio::test]
async fn a_worker_registers_and_shows_what_is_wrong() {
    let stack = start().await;
    let server = format!("http://{}", stack.service.grpc);
    let folder = tempfile::tempdir().unwrap();
    let body = |case: &str| json!({ "documentHash": document(1), "caseId": case }).to_string();
    let port = free_port().to_string();
    let arguments = [&port, &server, folder.path().to_str().unwrap(), &body(CASE), &body("not a case")];
    let shown = node("run-worker.mjs", &arguments).await;
    let answers: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [registered, refused] = &answers[..] else { panic!("{shown}") };
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    assert_eq!((&registered["id"], &registered["state"]), (&json!(id), &json!("CONFIRMED")), "{shown}");
    assert_eq!((&refused["code"], &refused["reason"]), (&json!("InvalidArgument"), &json!("INVALID_FIELD")), "{shown}");
    assert!(refused["traceId"].is_string(), "{shown}");
}

#[tokio::test]
async fn rust_registers_and_shows_what_is_wrong() {
    let stack = start().await;
    let server = format!("http://{}", stack.service.grpc);
    let registration = register(server.clone(), &document(1), CASE).await.unwrap();
    assert_eq!(registration.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    let refused = describe(&register(server, &document(1), "not a case").await.unwrap_err());
    assert!(
        refused.starts_with("InvalidArgument INVALID_FIELD - 4bf92f3577b34da6") && refused.contains("case_id"),
        "{refused}"
    );
}
