//! What the pages show.

use super::{Stuck, check, page_of};
use crate::harness::{
    CASE, Database, Fault, StackBuilder, State, TcpProxy, TcpProxyMode, WaitFor, account, document, eventually,
    register_all_request, register_request,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, time::Duration};
use tokio::time::Instant;

const TOKEN: &str = "rgs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[track_caller]
fn assert_has(text: &Value, words: &[&str]) {
    let text = text.as_str().unwrap_or_else(|| panic!("no such panel: {text}"));
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

/// As the page shortens addresses and hashes.
fn short(text: &str) -> String {
    format!("{}…{}", &text[..10], &text[text.len() - 8..])
}

#[tokio::test]
async fn each_panel_shows_what_the_service_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callers.toml");
    let hash = alloy::primitives::hex::encode(Sha256::digest(TOKEN));
    let callers = format!(
        "[[callers]]\nname = \"aaa-service\"\ntokens = [\"sha256:{hash}\"]\nscopes = [\"register\", \"read\"]\n"
    );
    fs::write(&file, callers).unwrap();
    let builder = StackBuilder::on_demand().endpoints(2);
    let builder = builder.set("REGISTRAR_AUTH", "enforce").set("REGISTRAR_CALLERS_FILE", file.display());
    let stack = builder
        .set("REGISTRAR_CONFIRMATION_TIMEOUT", "6s")
        .set("REGISTRAR_TRACE_URL", "https://traces.example/trace/{trace_id}")
        .start()
        .await;
    let client = stack.client.with_token(TOKEN);
    stack.client.with_token("wrong").register(register_request(9, CASE, WaitFor::Accepted)).await.unwrap_err();
    let Stuck { stack, confirmed, stuck } = Stuck::on(&client, stack).await;
    let fault = stack.proxies()[1].inject_all(Fault::RefuseConnections);
    let seen = eventually("the endpoint is down", async || {
        let seen = check(&stack, "read", json!({ "paths": ["/ui/"] })).await;
        seen["/ui/"]["panels"]["endpoints"].as_str().unwrap().contains("down").then_some(seen)
    })
    .await;
    drop(fault);

    let panels = &seen["/ui/"]["panels"];
    let late = "A transaction is not confirmed in time";
    assert_has(
        &panels["health"],
        &["Needs attention", late, "below the base fee", "is down", "1 of 2 usable", "ready"],
    );
    assert_has(&panels["work"], &["2 / min Accepted", "1 / min Confirmed", "submitted 1", "oldest queued none"]);
    assert_has(&panels["stages"], &["prepare", "send", "wait", "total", " ms"]);
    let transaction = stuck.transaction.as_ref().unwrap();
    let (signer, hash) = (short(&account(1).to_string()), short(&transaction.hash));
    assert_has(&panels["pending"], &["submitted", &signer, "late", "% of the base fee", "below base fee"]);
    assert!(panels["pending"].as_str().unwrap().contains(&hash) || transaction.attempts > 1, "{panels:#}");
    assert_has(&panels["signers"], &[&signer, " ETH", "this replica"]);
    assert_has(&panels["endpoints"], &["healthy", "down"]);
    assert_has(&panels["causes"], &["fee_too_low 0 1 0"]);
    assert_has(&panels["callers"], &["aaa-service", "not known 0 1 CREDENTIALS_INVALID 1"]);
    assert_has(&panels["latest"], &[CASE, "case-2", "confirmed", "submitted", "aaa-service"]);
    assert_has(&panels["failed"], &["None."]);
    let links = seen["/ui/"]["links"].to_string();
    for registration in [&confirmed, &stuck] {
        assert!(links.contains(&page_of(registration)), "{links}");
    }
}

#[tokio::test]
async fn the_page_of_a_stuck_transaction_names_the_cause_and_what_was_done() {
    let Stuck { stack, confirmed, stuck } = Stuck::start(StackBuilder::on_demand()).await;
    let (path, finished) = (page_of(&stuck), page_of(&confirmed));

    let seen = check(&stack, "read", json!({ "paths": [path, finished] })).await;

    let panels = &seen[&path]["panels"];
    assert_has(
        &panels["state"],
        &["case-2", "submitted", &document(2), "no block includes it yet", "Blocked: FEE_CAP"],
    );
    assert_has(&panels["diagnosis"], &["fee_too_low", "maximum fee is 2.5 gwei per gas", "Evidence"]);
    assert_has(&panels["waterfall"], &["queue", "prepare", "send", "wait", "so far"]);
    assert_has(&panels["timeline"], &["accepted: on disk", "signed", "sent", "confirmation timeout"]);
    let attempts = stack.client.get(&stuck.id).await.unwrap().transaction.unwrap().attempts.to_string();
    assert_has(&panels["transaction"], &[&account(1).to_string(), "nonce 1", &format!("attempts {attempts}")]);
    assert_has(&panels["transaction"], &["below the base fee of", "What happened to it"]);
    assert_has(&panels["identity"], &[&stuck.id, &stuck.trace_id]);
    let trace = format!("https://traces.example/trace/{}", stuck.trace_id);
    assert!(seen[&path]["links"].to_string().contains(&trace), "{seen:#}");
    assert_eq!(seen[&path]["title"], "case-2, submitted · Registrar");

    let panels = &seen[&finished]["panels"];
    assert_has(&panels["state"], &["confirmed", "On chain after"]);
    assert_has(&panels["timeline"], &["included in block", "confirmed at the required depth"]);
    assert_has(&panels["transaction"], &["gas used", "fee", " ETH", "confirmations"]);
    assert!(panels["diagnosis"].is_null(), "{panels:#}");
}

#[tokio::test]
async fn a_registration_is_found_by_each_of_its_keys() {
    let stack = StackBuilder::on_demand().start().await;
    let first = stack.client.confirm(1, "case-1").await;
    let second = stack.client.confirm(2, "case-2").await;
    let third = stack.client.confirm(3, "case-2").await;
    let page = page_of(&first);
    let plain = document(1)[2..].to_owned();
    let cid = cid_of(&plain);
    let transaction = first.transaction.as_ref().unwrap().hash.clone();
    let only_first = [document(1), plain, cid, transaction, first.id.clone(), "case-1".to_owned()];
    let others = ["case-2", "no-such-case", "!"].map(str::to_owned);
    let texts: Vec<_> = only_first.iter().chain(&others).collect();

    let seen = check(&stack, "search", json!({ "texts": texts })).await;

    for text in &only_first {
        assert_eq!(seen[text]["path"], page, "{text}: {seen:#}");
    }
    assert_eq!(seen["case-2"]["path"], "/ui/search");
    for registration in [&second, &third] {
        assert_has(&seen["case-2"]["main"], &["Case (2)", &short(&registration.document_hash)]);
    }
    assert_has(&seen["no-such-case"]["main"], &["Nothing found"]);
    assert_has(&seen["!"]["main"], &["neither a hash, a CID or an id, nor a case"]);
}

/// A CIDv1 with the codec `raw`, in base16.
fn cid_of(sha256: &str) -> String {
    format!("f01551220{sha256}")
}

#[tokio::test]
async fn a_case_with_more_registrations_than_a_page_shows_the_older_ones_on_the_next() {
    let stack = StackBuilder::on_demand().start().await;
    stack.client.register_all(register_all_request(1..=55)).await.unwrap();
    let first = check(&stack, "read", json!({ "paths": [format!("/ui/search?q={CASE}")] })).await;
    let page = &first[format!("/ui/search?q={CASE}")];
    assert_has(&page["main"], &["Case (50 shown)", "Older"]);
    let links = page["links"].as_array().unwrap();
    let older = links.iter().filter_map(Value::as_str).find(|link| link.contains("after=")).unwrap();
    let path = older.split_once("/ui/").map(|(_, path)| format!("/ui/{path}")).unwrap();
    let second = check(&stack, "read", json!({ "paths": [path] })).await;
    assert_has(&second[&path]["main"], &["Case (5)"]);
    assert!(!second[&path]["main"].as_str().unwrap().contains("Older"));
}

#[tokio::test]
async fn a_failed_registration_shows_its_reason() {
    let stack = StackBuilder::on_demand().start().await;
    // PUSH1 0, PUSH1 0, REVERT
    let code = json!([stack.registry.address, "0x60006000fd"]);
    stack.anvil.rpc().run("anvil_setCode", code).await;
    let accepted = stack.client.accept(1, CASE).await;
    let failed = stack.client.wait_for_state(&accepted.id, State::Failed).await;
    let path = page_of(&failed);

    let seen = check(&stack, "read", json!({ "paths": ["/ui/", path] })).await;

    assert_has(&seen["/ui/"]["panels"]["failed"], &["REJECTED_BY_CONTRACT", CASE]);
    assert_has(&seen["/ui/"]["panels"]["causes"], &["REJECTED_BY_CONTRACT 1 0 0"]);
    assert_has(&seen["/ui/"]["panels"]["work"], &["1 / min Failed"]);
    assert_has(&seen[&path]["panels"]["state"], &["failed", "REJECTED_BY_CONTRACT"]);
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_shown_without_delay() {
    let proxy = TcpProxy::new(&Database::new().await);
    let stack = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", &proxy.url).start().await;
    let confirmed = stack.client.confirm(1, CASE).await;
    let path = page_of(&confirmed);
    let seen = check(&stack, "read", json!({ "paths": ["/ui/", path] })).await;
    assert_has(&seen["/ui/"]["panels"]["health"], &["Everything works"]);
    assert_has(&seen["/ui/"]["panels"]["latest"], &[CASE]);

    proxy.set_mode(TcpProxyMode::Stall);
    // A page of before may be shared for a second.
    eventually("the page says so", async || {
        let started = Instant::now();
        let (status, page) = stack.service.http("/ui/").await;
        let took = started.elapsed();
        assert!(status == 200 && took < Duration::from_secs(3), "{status} after {took:?}");
        let words = ["The database cannot be used", "The database did not answer in time"];
        words.iter().all(|words| page.contains(words)).then_some(())
    })
    .await;
    assert_eq!(stack.service.http(&path).await.0, 503);
}

#[tokio::test]
async fn the_certificate_of_a_confirmed_registration_is_downloaded() {
    let stack = StackBuilder::on_demand().start().await;
    let confirmed = stack.client.confirm(1, CASE).await;
    let path = page_of(&confirmed);
    let download = format!("{path}/certificate");
    let seen = check(&stack, "read", json!({ "paths": [path] })).await;
    assert!(seen[&path]["links"].to_string().contains(&download), "{seen:#}");

    let (status, file) = stack.service.http(&download).await;

    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!((status, &file["document"]["caseId"]), (200, &json!(CASE)));
    assert_eq!(file["document"]["sha256"], format!("0x{}", confirmed.document_hash.trim_start_matches("0x")));

    stack.anvil.stop_mining().await;
    let waiting = page_of(&stack.client.accept(2, CASE).await);
    let (status, page) = stack.service.http(&format!("{waiting}/certificate")).await;
    assert!(status == 503 && page.contains("no record of this document and case yet"), "{status} {page}");
    assert!(!stack.service.http(&waiting).await.1.contains("/certificate"));
}
