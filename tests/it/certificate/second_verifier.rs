//! The verifier in Python, which shares no code with this one, on the same files.

use super::{builder, certify, verified};
use crate::{
    documents::{code_blocks, read},
    harness::{CASE, Finality, cli::run, document, within},
};
use std::{fs, path::Path, process::Stdio};
use tokio::process::Command;

/// Exit code and output.
async fn python(arguments: &[&str]) -> (i32, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("tests/foreign/.venv/bin/python");
    assert!(python.exists(), "{} is missing: `make test` installs it", python.display());
    let mut command = Command::new(python);
    command.arg(root.join("tests/foreign/certificate.py")).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the second verifier", command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), text)
}

/// Of both verifiers, which have to agree.
async fn exit_code(what: &str, arguments: &[&str]) -> i32 {
    let (second, text) = python(arguments).await;
    let first = run(&[&["verify", "--certificate"], arguments].concat(), &[]).await;
    assert_eq!(second, first.code, "{what}: {text} {first:?}");
    assert!(!text.contains("Traceback"), "{what}: {text}");
    second
}

#[test]
fn the_verifier_in_the_document_is_the_one_that_is_tested() {
    let page = read("docs/reference/certificate.md");
    assert_eq!(code_blocks(&page, "python")[0], read("tests/foreign/certificate.py"));
}

#[tokio::test]
async fn both_verifiers_agree_about_good_and_bad_files() {
    let stack = builder().start().await;
    for number in 1..=40 {
        stack.client.accept(number, CASE).await;
    }
    stack.client.confirm(1, CASE).await;
    stack.client.confirm(2, CASE).await;
    let response = certify(&stack, Finality::Unsafe).await.unwrap();
    let other = stack.client.certificate(super::of_pair(2, CASE, Finality::Unsafe)).await.unwrap();
    let (certificate, proved) = verified(&response);
    let text = certificate.to_text();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let good = path("good.json");
    fs::write(&good, &text).unwrap();

    assert_eq!(exit_code("no hash", &[&good]).await, 75);
    assert_eq!(exit_code("the right hash", &[&good, "--block-hash", &proved.block_hash.to_string()]).await, 0);
    assert_eq!(exit_code("another hash", &[&good, "--block-hash", &document(1)]).await, 1);
    let empty = path("empty.pdf");
    fs::write(&empty, "").unwrap();
    assert_eq!(exit_code("another document", &[&good, "--document", &empty]).await, 1);

    let other = verified(&other).0;
    let changed = |change: &dyn Fn(&mut registrar::certificate::Certificate)| {
        let mut changed = certificate.clone();
        change(&mut changed);
        changed.to_text()
    };
    let flip = |bytes: &alloy::primitives::Bytes, at: usize| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        alloy::primitives::Bytes::from(flipped)
    };
    let leaf = certificate.storage_proof.len() - 1;
    let bad = [
        ("flipped in the root", changed(&|it| it.account_proof[0] = flip(&it.account_proof[0], 9))),
        ("flipped in the leaf", changed(&|it| it.storage_proof[leaf] = flip(&it.storage_proof[leaf], 20))),
        ("flipped in the header", changed(&|it| it.block.header = flip(&it.block.header, 300))),
        ("no leaf", changed(&|it| drop(it.storage_proof.pop()))),
        ("no proof", changed(&|it| it.account_proof.clear())),
        ("the leaf twice", changed(&|it| it.storage_proof.push(it.storage_proof[leaf].clone()))),
        ("the proof of another", changed(&|it| it.storage_proof = other.storage_proof.clone())),
        ("the pair of another", changed(&|it| it.pair = other.pair.clone())),
        ("another registrar", changed(&|it| it.record.registrar = it.contract)),
        ("a later block", changed(&|it| it.record.block_number += 1)),
        ("an earlier time", changed(&|it| it.record.time -= 1)),
        ("another contract", changed(&|it| it.contract = it.record.registrar)),
        ("another number", changed(&|it| it.block.number += 1)),
        ("another version", text.replacen("\"version\":1", "\"version\":2", 1)),
        ("a version that is not a number", text.replacen("\"version\":1", "\"version\":true", 1)),
        ("a fraction", text.replacen("\"id\":31337", "\"id\":31337.0", 1)),
        ("a further member", text.replacen("\"chain\"", "\"note\":1,\"chain\"", 1)),
        ("a further inner member", text.replacen("\"id\"", "\"note\":1,\"id\"", 1)),
        ("a member twice", text.replacen("\"contract\"", "\"version\":1,\"contract\"", 1)),
        ("another order", text.replacen("\"id\":31337,\"name\":\"anvil\"", "\"name\":\"anvil\",\"id\":31337", 1)),
        ("spaces", text.replacen("\":", "\": ", 1)),
        ("upper case", text.replacen("\"header\":\"0xf9", "\"header\":\"0xF9", 1)),
        ("another slot", text.replacen("\"slot\":\"0x", "\"slot\":\"0x00", 1)),
        ("cut off", text[..text.len() / 2].to_owned()),
        ("empty", String::new()),
        ("a list", "[]\n".to_owned()),
        ("nested", "[".repeat(60_000)),
        ("large", text.clone() + &" ".repeat(70_000)),
    ];
    let file = path("bad.json");
    for (what, bad) in bad {
        assert_ne!(bad, text, "{what}");
        fs::write(&file, bad).unwrap();
        assert_eq!(exit_code(what, &[&file]).await, 1, "{what}");
    }
}
