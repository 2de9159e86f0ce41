//! `registrar certificate` and `registrar verify --certificate`.

use super::{FINAL_AFTER, block_hash, builder, verified};
use crate::harness::{
    CASE, TestStack,
    cli::{Run, run},
    listener::ReservedPort,
};
use serde_json::json;
use std::{fs, path::Path};
use tempfile::TempDir;

/// A document, its registration, and the paths of the document and of a certificate to be.
struct Case {
    stack: TestStack,
    folder: TempDir,
}

impl Case {
    async fn start() -> Self {
        let (stack, folder) = (builder().start().await, tempfile::tempdir().unwrap());
        let case = Self { stack, folder };
        fs::write(case.path("contract.pdf"), "a contract\n").unwrap();
        let registered = case.at(&["register", &case.path("contract.pdf"), "--case", CASE]).await;
        assert_eq!(registered.code, 0, "{registered:?}");
        case
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    async fn at(&self, arguments: &[&str]) -> Run {
        run(arguments, &[("REGISTRAR_SERVER", &format!("http://{}", self.stack.service.grpc))]).await
    }
}

/// Without a server, and with nothing at its default address either.
async fn verify(arguments: &[&str]) -> Run {
    let port = ReservedPort::new();
    let server = format!("http://{}", port.address);
    run(&[&["verify", "--certificate"], arguments].concat(), &[("REGISTRAR_SERVER", &server)]).await
}

#[tokio::test]
async fn a_certificate_is_written_and_checked_without_a_server() {
    let case = Case::start().await;
    let (document, file) = (case.path("contract.pdf"), case.path("contract.json"));
    let get = ["certificate", &document, "--case", CASE, "-o", &file];

    let early = case.at(&get).await;
    assert_eq!(early.code, 75, "{early:?}");
    assert!(early.stderr.contains("CERTIFICATE_NOT_FINAL") && early.stderr.contains("--min-finality"), "{early:?}");
    assert!(!Path::new(&file).exists());
    case.stack.anvil.mine(FINAL_AFTER).await;
    let written =
        crate::harness::eventually("the certificate", async || Some(case.at(&get).await).filter(|run| run.code == 0))
            .await;
    assert!(written.stdout.contains("verify --certificate") && written.stdout.contains("finalized"), "{written:?}");

    let text = fs::read(&file).unwrap();
    let response = super::GetCertificateResponse { certificate: text.clone(), ..Default::default() };
    let (certificate, proved) = verified(&response);
    let hash = block_hash(&case.stack, proved.block_number).await.to_string();
    let url = case.stack.anvil.url().to_owned();

    let unvouched = verify(&[&file, "--document", &document]).await;
    assert_eq!(unvouched.code, 75, "{unvouched:?}");
    assert!(unvouched.stdout.contains("valid, if its block is on the chain") && unvouched.stdout.contains(&hash));
    let by_hash = verify(&[&file, "--document", &document, "--block-hash", &hash[2..]]).await;
    assert!(by_hash.code == 0 && by_hash.stdout.starts_with("valid\n"), "{by_hash:?}");
    let by_node = verify(&[&file, &document, "--case", CASE, "--rpc", &url]).await;
    assert!(by_node.code == 0 && by_node.stdout.contains("the node at 127.0.0.1"), "{by_node:?}");
    assert!(!by_node.stdout.contains("no document was compared"), "{by_node:?}");
    let json = verify(&[&file, "--rpc", &url, "--json"]).await.object();
    assert_eq!((&json["valid"], &json["vouchedBy"]), (&json!(true), &json!("the node at 127.0.0.1")), "{json}");
    assert_eq!((&json["documentCompared"], &json["caseId"]), (&json!(false), &json!(CASE)), "{json}");
    assert_eq!(json["provedBy"]["blockHash"], json!(hash), "{json}");
    assert_eq!(json["stated"]["transactionHash"], json!(certificate.transaction.unwrap().to_string()), "{json}");

    let itself = case.at(&["certificate", &document, "-o", &document]).await;
    assert!(itself.code == 64 && itself.stderr.contains("would replace the document"), "{itself:?}");
    assert_eq!(fs::read_to_string(&document).unwrap(), "a contract\n");
    let printed = case.at(&["certificate", &document, "-o", "-"]).await;
    assert!(printed.code == 0 && printed.stdout.starts_with("{\"version\":1,"), "{printed:?}");
    let summary = case.at(&["certificate", &document, "-o", &file, "--json"]).await.object();
    assert_eq!((&summary["file"], &summary["provedBy"]["blockHash"]), (&json!(file), &json!(hash)), "{summary}");
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_named() {
    let case = Case::start().await;
    let (document, file, other) = (case.path("contract.pdf"), case.path("contract.json"), case.path("other.pdf"));
    fs::write(&other, "another contract\n").unwrap();
    let get = ["certificate", &document, "-o", &file, "--min-finality", "unsafe"];
    assert_eq!(case.at(&get).await.code, 0);
    let text = fs::read_to_string(&file).unwrap();
    let edited = case.path("edited.json");
    let zero = "0".repeat(64);

    for (what, text, arguments, problem) in [
        ("document", text.clone(), vec!["--document", &other], "it is about the document"),
        ("case", text.clone(), vec!["--case", "another"], "it is about the case case-1, and the case to verify is"),
        ("block", text.clone(), vec!["--block-hash", &zero], "is not the block 0x0000"),
        ("case in it", text.replace("case-1", "case-2"), vec![], "state.slot is not the slot"),
        ("truncated", text[..text.len() - 9].to_owned(), vec![], "EOF while parsing"),
        ("version", text.replacen("\"version\":1", "\"version\":7", 1), vec![], "it has version 7"),
    ] {
        fs::write(&edited, &text).unwrap();
        let run = verify(&[&[edited.as_str()], &arguments[..]].concat()).await;
        assert_eq!(run.code, 1, "{what}: {run:?}");
        assert!(run.stdout.starts_with("invalid certificate: ") && run.stdout.contains(problem), "{what}: {run:?}");
        let json = verify(&[&[edited.as_str()], &arguments[..], &["--json"]].concat()).await.object();
        assert_eq!(json["valid"], json!(false), "{what}");
        assert!(json["problem"].as_str().unwrap().contains(problem), "{what}: {json}");
    }
}

#[tokio::test]
async fn a_node_that_does_not_have_the_block_is_distinguished_from_one_that_has_another() {
    let case = Case::start().await;
    let (document, file) = (case.path("contract.pdf"), case.path("contract.json"));
    let get = ["certificate", &document, "-o", &file, "--min-finality", "unsafe"];
    assert_eq!(case.at(&get).await.code, 0);
    let other_chain = crate::harness::Anvil::start(&["--chain-id", "4711"]).await;
    let younger = crate::harness::Anvil::start(&[]).await;
    let gone = ReservedPort::new();
    let gone = format!("http://{}", gone.address);

    for (url, problem) in [
        (other_chain.url(), "is on chain 4711, and the certificate is of chain 31337"),
        (younger.url(), "does not have the block"),
        (gone.as_str(), "no connection"),
    ] {
        let run = verify(&[&file, "--rpc", url]).await;
        assert_eq!(run.code, 75, "{run:?}");
        assert!(run.stdout.contains(problem), "{run:?}");
    }
    younger.mine(20).await;
    let contradicted = verify(&[&file, "--rpc", younger.url()]).await;
    assert_eq!(contradicted.code, 1, "{contradicted:?}");
    assert!(contradicted.stdout.contains("that is known to be right"), "{contradicted:?}");
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.json").to_str().unwrap().to_owned();
    let run = async |arguments: &[&str]| run(arguments, &[]).await;
    for (arguments, message) in [
        (vec!["verify", "--certificate", &missing], "cannot be read"),
        (vec!["verify", "contract.pdf"], "--case"),
        (vec!["verify"], "--case"),
        (vec!["verify", "--certificate", &missing, "--block-hash", "12"], "is not the hash of a block"),
        (vec!["verify", "contract.pdf", "--case", "1", "--block-hash", "12"], "--block-hash"),
        (vec!["certificate", "contract.pdf", "--case", "1"], "--output"),
    ] {
        let run = run(&arguments).await;
        assert!(run.code == 64 && run.stderr.contains(message), "{arguments:?}: {run:?}");
    }
}
