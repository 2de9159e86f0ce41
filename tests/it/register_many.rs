//! `registrar register` with many documents.

use crate::harness::{
    CASE, StackBuilder, TestStack, account,
    cli::{Run, run, run_with_input},
    document,
};
use std::{collections::BTreeSet, fs, path::Path};

async fn at(stack: &TestStack, arguments: &[&str]) -> Run {
    run(arguments, &[("REGISTRAR_SERVER", &format!("http://{}", stack.service.grpc))]).await
}

async fn at_with_input(stack: &TestStack, arguments: &[&str], input: &str) -> Run {
    let server = format!("http://{}", stack.service.grpc);
    run_with_input(arguments, &[("REGISTRAR_SERVER", &server)], input.as_bytes()).await
}

/// Files in two folders, two of them with the same content.
fn archive(folder: &Path) {
    for (name, content) in [("A-1/a.pdf", "a"), ("A-1/b.pdf", "b"), ("B-2/c.pdf", "c"), ("B-2/copy.pdf", "c")] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn list_of(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("{}  file-{number}.pdf\n", document(number).trim_start_matches("0x"))).collect()
}

#[tokio::test]
async fn a_folder_is_registered_and_again_without_registering_anything_twice() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let folder = tempfile::tempdir().unwrap();
    archive(folder.path());
    let path = folder.path().to_str().unwrap();
    let first = at(&stack, &["register", "-r", path, "--case-from", "folder"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.stdout.starts_with("4 documents: 3 new, 1 with the content of another one\n"), "{first:?}");
    assert!(first.stdout.contains("CONFIRMED   4\n"), "{first:?}");
    let case_b = stack
        .client
        .list(registrar::api::proto::ListRegistrationsRequest { case_id: "B-2".into(), ..Default::default() });
    assert_eq!(case_b.await.unwrap().registrations.len(), 1);

    fs::write(folder.path().join("B-2/new.pdf"), "new").unwrap();
    let again = at(&stack, &["register", "-r", path, "--case-from", "folder", "--json"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    let lines = again.json();
    let names: Vec<_> = lines.iter().map(|line| line["name"].as_str().unwrap().trim_start_matches(path)).collect();
    assert_eq!(names, ["/A-1/a.pdf", "/A-1/b.pdf", "/B-2/c.pdf", "/B-2/copy.pdf", "/B-2/new.pdf"]);
    assert!(lines.iter().all(|line| line["state"] == "STATE_CONFIRMED"), "{again:?}");
    assert_eq!(stack.client.list(Default::default()).await.unwrap().registrations.len(), 4);
}

#[tokio::test]
async fn thousands_of_hashes_come_from_a_list_or_from_standard_input() {
    let stack = StackBuilder::block_time(0.5).start().await;
    let accept = ["register", "--from", "-", "--case", CASE, "--wait-for", "accepted"];
    let accepted = at_with_input(&stack, &accept, &list_of(0..2_500)).await;
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.stdout.starts_with("2500 documents: 2500 new\n"), "{accepted:?}");
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), list_of(2_400..2_600)).unwrap();
    let arguments = ["register", "--from", list.path().to_str().unwrap(), "--case", CASE, "--json"];
    let confirmed = at(&stack, &arguments).await;
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    let lines = confirmed.json();
    assert_eq!((lines.len(), &lines[0]["name"]), (200, &"file-2400.pdf".into()));
    assert!(lines.iter().all(|line| line["state"] == "STATE_CONFIRMED"));
    let ids: BTreeSet<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 200);

    let piped = at_with_input(&stack, &["register", "-", "--case", CASE, "--json"], "hello\n").await;
    let hello = "0x5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!((piped.code, &piped.object()["documentHash"]), (0, &hello.into()));
}

#[tokio::test]
async fn every_faulty_document_is_named_and_nothing_is_sent() {
    let stack = StackBuilder::on_demand().start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("good.pdf"), "good").unwrap();
    fs::write(path("empty.pdf"), "").unwrap();
    let (good, empty, missing) = (path("good.pdf"), path("empty.pdf"), path("missing.pdf"));
    let arguments = ["register", &good, &empty, &missing, "--case", CASE];
    let refused = at(&stack, &arguments).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (64, ""), "{refused:?}");
    for part in [empty.as_str(), "--allow-empty", &missing, "no such file"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    assert!(!refused.stderr.contains(&good), "{refused:?}");
    assert_eq!(stack.client.list(Default::default()).await.unwrap().registrations, []);
}

#[tokio::test]
async fn a_command_that_ends_early_says_what_is_accepted_and_continues_when_it_is_run_again() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_QUEUE_LIMIT", 2_500).start().await;
    stack.anvil.stop_mining().await;
    let list = tempfile::NamedTempFile::new().unwrap();
    fs::write(list.path(), list_of(0..1_100)).unwrap();
    let arguments = ["register", "--from", list.path().to_str().unwrap(), "--case", CASE, "--wait-timeout", "1s"];
    let waited = at(&stack, &arguments).await;
    assert_eq!(waited.code, 75, "{waited:?}");
    assert!(waited.stdout.starts_with("1100 documents: 1100 new\n"), "{waited:?}");
    assert!(waited.stderr.contains("run the same command again"), "{waited:?}");

    stack.anvil.mine_on_demand().await;
    let again = at(&stack, &arguments[..5]).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.starts_with("1100 documents: 0 new, 1100 registered before\n"), "{again:?}");
    assert!(again.stdout.contains("CONFIRMED   1100\n"), "{again:?}");
}

#[tokio::test]
async fn documents_that_do_not_advance_are_named_with_the_reason() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    let run = at(&stack, &["register", &document(1), &document(2), "--case", CASE, "--wait-timeout", "3s"]).await;
    assert_eq!(run.code, 75, "{run:?}");
    assert!(run.stdout.contains("INSUFFICIENT_FUNDS"), "{run:?}");
    assert!(run.stdout.contains(&document(2)), "{run:?}");
}
