//! The programs in the client guide are files of `tests/foreign`, and register a document.

use super::{code_blocks, read, root};
use crate::harness::{StackBuilder, document, within};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;

#[test]
fn the_programs_in_the_client_guide_are_those_that_are_tested() {
    let guide = read("docs/guides/clients.md");
    let files = |names: &[&str]| names.iter().map(|name| read(&format!("tests/{name}"))).collect::<Vec<_>>();
    assert_eq!(code_blocks(&guide, "python"), files(&["foreign/register.py", "foreign/connect.py"]));
    let scripts = ["foreign/register.mjs", "web/register.js", "web/node.mjs", "web/browser.js", "web/worker.js"];
    assert_eq!(code_blocks(&guide, "js"), files(&scripts));
    assert_eq!(code_blocks(&guide, "rust"), files(&["foreign/register.rs"]));
}

async fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(program);
    command.current_dir(root()).args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the program", command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A folder with the generated client.
pub(super) async fn python_stubs(python: &Path) -> TempDir {
    assert!(python.exists(), "{} is missing: `make test` installs it", python.display());
    let folder = tempfile::tempdir().unwrap();
    let stubs = folder.path().to_str().unwrap();
    let (plain, grpc) = (format!("--python_out={stubs}"), format!("--grpc_python_out={stubs}"));
    let generate = ["-m", "grpc_tools.protoc", "-Iproto", &plain, &grpc, "registrar/v1/registrar.proto"];
    run(python, &generate, &[]).await;
    folder
}

#[tokio::test]
async fn the_program_in_python_registers_and_shows_what_is_wrong() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let server = stack.service.grpc.to_string();
    let python = root().join("tests/foreign/.venv/bin/python");
    let stubs = python_stubs(&python).await;
    let stubs = stubs.path().to_str().unwrap();
    let call = |case| ["tests/foreign/register.py", &server, &document(1), case].map(str::to_owned);

    let registered = call("case-1");
    let registered = run(&python, &registered.each_ref().map(String::as_str), &[("PYTHONPATH", stubs)]).await;
    let invalid = call("not a case");
    let invalid = run(&python, &invalid.each_ref().map(String::as_str), &[("PYTHONPATH", stubs)]).await;

    assert!(registered.contains(" STATE_CONFIRMED 0x"), "{registered}");
    assert!(invalid.starts_with("INVALID_ARGUMENT INVALID_FIELD") && invalid.contains("case_id"), "{invalid}");
}

#[tokio::test]
async fn the_program_in_node_registers_and_shows_what_is_wrong() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let server = stack.service.grpc.to_string();
    let installed = root().join("tests/foreign/node_modules/@grpc/grpc-js");
    assert!(installed.exists(), "{} is missing: `make test` installs it", installed.display());
    let node = PathBuf::from("node");
    let call = |case| ["tests/foreign/register.mjs", &server, "proto", &document(1), case].map(str::to_owned);

    let registered = call("case-1");
    let registered = run(&node, &registered.each_ref().map(String::as_str), &[]).await;
    let invalid = call("not a case");
    let invalid = run(&node, &invalid.each_ref().map(String::as_str), &[]).await;

    assert!(registered.contains(" STATE_CONFIRMED 0x"), "{registered}");
    assert!(invalid.starts_with("INVALID_ARGUMENT INVALID_FIELD") && invalid.contains("case_id"), "{invalid}");
}

#[tokio::test]
async fn the_curl_calls_of_the_documents_register() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let server = stack.service.grpc.to_string();
    let hello = "0x2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    for (page, case) in [("README.md", "CURL-1"), ("docs/start.md", "CURL-1"), ("docs/guides/clients.md", "CURL-2")] {
        let page = read(page);
        let blocks = code_blocks(&page, "sh");
        let call =
            blocks.iter().find(|block| block.starts_with("curl ") && block.contains("RegisterDocument")).unwrap();
        let answer = run(Path::new("sh"), &["-c", &call.replace("127.0.0.1:50051", &server)], &[]).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let registration = &answer["registration"];
        let seen = (&registration["documentHash"], &registration["caseId"], &registration["state"]);
        assert_eq!(seen, (&hello.into(), &case.into(), &"STATE_CONFIRMED".into()), "{answer}");
    }
}
