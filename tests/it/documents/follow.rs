//! The programs in the guide to the change feed are files of `tests/foreign`, and miss nothing when they or the service
//! are killed.

use super::{code_blocks, programs::python_stubs, read, root};
use crate::harness::{CASE, StackBuilder, eventually, listener::ReservedPort, process::Process};
use registrar::api::proto::{ListRegistrationsRequest, State};
use serde_json::Value;
use sqlx::{Connection, Row, SqliteConnection};
use std::{collections::BTreeMap, path::Path, process::Command};

/// Revision and state of each document.
type Documents = BTreeMap<String, (i64, String)>;

#[test]
fn the_programs_in_the_guide_to_changes_are_those_that_are_tested() {
    let guide = read("docs/guides/changes.md");
    assert_eq!(code_blocks(&guide, "python"), [read("tests/foreign/follow.py")]);
    assert_eq!(code_blocks(&guide, "js"), [read("tests/foreign/follow.mjs")]);
}

/// Kills the program and the service in turn while documents are registered, and compares what each has at the end.
async fn assert_misses_nothing(program: impl Fn(&str) -> Command, stored: impl AsyncFn() -> Documents) {
    let port = ReservedPort::new();
    let builder = StackBuilder::block_time(0.2).set("REGISTRAR_LISTEN", port.address);
    let mut stack = builder.start().await;
    let start = || Process::spawn("the program", &mut program(&port.address.to_string()));
    let mut following = start();
    let mut number = 0;
    for round in 0..6 {
        for _ in 0..5 {
            stack.client.accept(number, CASE).await;
            number += 1;
        }
        eventually("the program to read", async || (!stored().await.is_empty()).then_some(())).await;
        if round % 2 == 0 {
            stack.crash().await;
        } else {
            following.kill();
            stack.client.confirm(number, CASE).await;
            number += 1;
            following = start();
        }
    }
    eventually("the program to have what the service has", async || {
        let request = ListRegistrationsRequest { page_size: 500, ..Default::default() };
        let all = stack.client.list(request).await.unwrap().registrations;
        let is_done = all.iter().all(|row| row.state() == State::Confirmed);
        let of_service: Documents =
            all.into_iter().map(|row| (row.id.clone(), (row.revision, row.state().as_str_name().to_owned()))).collect();
        assert_eq!(of_service.len() as u64, number);
        (is_done && of_service == stored().await).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_program_in_python_follows_every_change_through_kills_of_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (python, file) = (root().join("tests/foreign/.venv/bin/python"), folder.path().join("documents.db"));
    let stubs = python_stubs(&python).await;
    let program = |server: &str| {
        let mut command = Command::new(&python);
        command.arg(root().join("tests/foreign/follow.py")).arg(server).arg(&file).env("PYTHONPATH", stubs.path());
        command
    };
    assert_misses_nothing(program, async || documents_in_sqlite(&file).await.unwrap_or_default()).await;
}

#[tokio::test]
async fn the_program_in_node_follows_every_change_through_kills_of_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.json");
    let program = |server: &str| {
        let mut command = Command::new("node");
        command.arg(root().join("tests/foreign/follow.mjs")).arg(server).arg(root().join("proto")).arg(&file);
        command
    };
    let stored = async || {
        let Ok(text) = std::fs::read(&file) else { return Documents::new() };
        let stored: Value = serde_json::from_slice(&text).unwrap();
        let document = |(id, document): (&String, &Value)| {
            (id.clone(), (document["revision"].as_i64().unwrap(), document["state"].as_str().unwrap().to_owned()))
        };
        stored["documents"].as_object().unwrap().iter().map(document).collect()
    };
    assert_misses_nothing(program, stored).await;
}

/// `None` before the program has made its tables.
async fn documents_in_sqlite(file: &Path) -> Option<Documents> {
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}?mode=ro", file.display())).await.ok()?;
    let rows = sqlx::query("SELECT id, revision, state FROM documents").fetch_all(&mut connection).await.ok()?;
    Some(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}
