//! The programs in the client guide are files of `tests/foreign`, and register a document.

use super::{read, root};
use crate::harness::{StackBuilder, document, within};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

/// The blocks of this language, each as it is written.
fn code_blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_programs_in_the_client_guide_are_those_that_are_tested() {
    let guide = read("docs/guides/clients.md");
    assert_eq!(code_blocks(&guide, "python"), [read("tests/foreign/register.py")]);
    assert_eq!(code_blocks(&guide, "js"), [read("tests/foreign/register.mjs")]);
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

#[tokio::test]
async fn the_program_in_python_registers_and_shows_what_is_wrong() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let server = stack.service.grpc.to_string();
    let stubs = tempfile::tempdir().unwrap();
    let stubs = stubs.path().to_str().unwrap();
    let python = root().join("tests/foreign/.venv/bin/python");
    assert!(python.exists(), "{} is missing: `make test` installs it", python.display());
    let (plain, grpc) = (format!("--python_out={stubs}"), format!("--grpc_python_out={stubs}"));
    let generate = ["-m", "grpc_tools.protoc", "-Iproto", &plain, &grpc, "registrar/v1/registrar.proto"];
    run(&python, &generate, &[]).await;
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
