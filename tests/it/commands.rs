//! End-to-end tests of the command line: output and exit codes.

use crate::harness::{
    CASE, Fault, StackBuilder, State, TestStack, account,
    cli::{Run, run},
    document,
    listener::ReservedPort,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// The sha2-256 of `hello\n`.
const HELLO: &str = "0x5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// A file with `hello\n` in it.
fn hello() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hello.txt");
    fs::write(&file, "hello\n").unwrap();
    (directory, file)
}

/// Runs a command against the stack's service.
async fn at(stack: &TestStack, arguments: &[&str]) -> Run {
    run(arguments, &[("REGISTRAR_SERVER", &format!("http://{}", stack.service.grpc))]).await
}

#[tokio::test]
async fn a_file_is_registered_looked_up_listed_and_verified() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let (_directory, file) = hello();
    let file = file.to_str().unwrap();

    let registered = at(&stack, &["register", file, "--case", CASE]).await;
    assert_eq!(registered.code, 0, "{registered:?}");
    stack.registry.assert_registered_exactly([(HELLO.into(), CASE.into())]).await;
    let registration = stack.client.get_pair(HELLO, CASE).await.unwrap();
    let output = format!("{}{}", registered.stdout, registered.stderr);
    let hash = registration.transaction.as_ref().unwrap().hash.clone();
    assert!(output.contains(&registration.id) && output.contains(&hash), "{registered:?}");

    let status = at(&stack, &["status", &registration.id]).await;
    assert_eq!(status.code, 0, "{status:?}");
    assert!(
        status.stdout.contains(&registration.id) && status.stdout.to_lowercase().contains("confirmed"),
        "{status:?}"
    );
    let by_hash = at(&stack, &["status", HELLO]).await;
    assert!(by_hash.code == 0 && by_hash.stdout.contains(&registration.id), "{by_hash:?}");

    let list = at(&stack, &["list"]).await;
    assert!(list.code == 0 && list.stdout.contains(&registration.id), "{list:?}");

    let verified = at(&stack, &["verify", file, "--case", CASE]).await;
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(verified.stdout.contains(&hash) && verified.stdout.contains(&account(1).to_string()), "{verified:?}");
    let unverified = at(&stack, &["verify", file, "--case", "another"]).await;
    assert_eq!(unverified.code, 1, "verifying an unregistered document has to fail: {unverified:?}");

    let watched = at(&stack, &["watch", &registration.id]).await;
    assert_eq!(watched.code, 0, "{watched:?}");
}

#[tokio::test]
async fn every_command_prints_json_objects_with_json_flag() {
    let stack = StackBuilder::block_time(0.2).start().await;
    let (_directory, file) = hello();
    let file = file.to_str().unwrap();

    let registered = at(&stack, &["register", file, "--case", CASE, "--json"]).await;
    assert_eq!(registered.code, 0, "{registered:?}");
    let registered = registered.json().pop().unwrap();
    assert_eq!(registered["documentHash"], HELLO, "{registered}");
    assert_eq!(registered["state"], "STATE_CONFIRMED", "{registered}");
    let id = registered["id"].as_str().unwrap();

    let status = at(&stack, &["status", id, "--json"]).await.object();
    assert_eq!((&status["id"], &status["state"]), (&registered["id"], &registered["state"]));
    let list = at(&stack, &["list", "--json"]).await;
    assert!(list.stdout.contains(id), "{list:?}");
    list.json();
    let verified = at(&stack, &["verify", file, "--case", CASE, "--json"]).await.object();
    assert_eq!(verified["registered"], true, "{verified}");
    let watched = at(&stack, &["watch", id, "--json"]).await.json();
    assert_eq!(watched.last().unwrap()["state"], "STATE_CONFIRMED", "{watched:?}");
}

#[tokio::test]
async fn a_hash_can_be_registered_instead_of_a_file() {
    let stack = StackBuilder::on_demand().start().await;
    let run = at(&stack, &["register", &document(1), "--case", CASE]).await;
    assert_eq!(run.code, 0, "{run:?}");
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

/// The sha2-256 of `hello\n` as CID v1 with the codecs raw and dag-pb.
const HELLO_RAW: &str = "f01551220";
const HELLO_DAG_PB: &str = "f01701220";

#[tokio::test]
async fn a_cid_that_is_not_of_the_file_has_a_warning_in_every_answer() {
    let stack = StackBuilder::on_demand().start().await;
    let (_directory, file) = hello();
    let file = file.to_str().unwrap();
    let [raw, dag_pb] = [HELLO_RAW, HELLO_DAG_PB].map(|prefix| format!("{prefix}{}", &HELLO[2..]));
    let warning = |value: &Value| value["warning"].as_str().unwrap().to_owned();

    let unknown = at(&stack, &["verify", file, "--case", CASE]).await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.stdout.contains("`ipfs add`"), "no hint: {unknown:?}");
    let unknown = at(&stack, &["verify", file, "--case", CASE, "--json"]).await.object();
    assert!(warning(&unknown).contains("`ipfs add`"), "{unknown}");
    let unknown = at(&stack, &["status", file]).await;
    assert!(unknown.stderr.contains("`ipfs add`"), "no hint: {unknown:?}");

    let by_raw = at(&stack, &["register", &raw, "--case", CASE, "--json"]).await.object();
    assert_eq!((warning(&by_raw).as_str(), &by_raw["documentHash"]), ("", &HELLO.into()));
    let by_dag_pb = at(&stack, &["register", &dag_pb, "--case", CASE, "--json"]).await.object();
    assert!(warning(&by_dag_pb).contains("dag-pb") && by_dag_pb["id"] == by_raw["id"], "{by_dag_pb}");
    let text = at(&stack, &["register", &dag_pb, "--case", "other"]).await;
    assert!(text.stdout.contains("warning") && text.stdout.contains("dag-pb"), "{text:?}");
    let status = at(&stack, &["status", &dag_pb, "--case", "other", "--json"]).await.object();
    assert!(warning(&status).contains("dag-pb"), "{status}");
    for (document, words) in [(file, ""), (&raw, ""), (&dag_pb, "dag-pb")] {
        let verified = at(&stack, &["verify", document, "--case", CASE, "--json"]).await.object();
        assert_eq!(verified["registered"], true);
        assert!(warning(&verified).contains(words) && warning(&verified).is_empty() == words.is_empty(), "{verified}");
    }
}

#[tokio::test]
async fn an_empty_file_is_not_registered_and_a_pasted_hash_is_trimmed() {
    let stack = StackBuilder::on_demand().start().await;
    let (directory, _) = hello();
    let empty = directory.path().join("empty.pdf");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();

    let refused = at(&stack, &["register", empty, "--case", CASE]).await;
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.stderr.contains("empty.pdf` is empty (0 bytes)"), "{refused:?}");
    assert!(stack.client.list(Default::default()).await.unwrap().registrations.is_empty());
    let unknown = at(&stack, &["verify", empty, "--case", CASE, "--json"]).await.object();
    assert!(unknown["warning"].as_str().unwrap().contains("empty input"), "{unknown}");

    let line = format!("{HELLO}  hello.txt\n");
    let refused = at(&stack, &["register", &line, "--case", CASE]).await;
    assert!(refused.code == 64 && refused.stderr.contains("a line of sha256sum"), "{refused:?}");
    for (number, pasted) in
        [format!("{HELLO}\n"), format!(" sha256:{} ", &HELLO[2..].to_uppercase())].iter().enumerate()
    {
        let case = format!("pasted-{number}");
        let registered = at(&stack, &["register", pasted, "--case", &case, "--json"]).await.object();
        assert_eq!((&registered["documentHash"], &registered["submittedAs"]), (&HELLO.into(), &pasted.trim().into()));
    }
}

#[tokio::test]
async fn an_unconfirmed_registration_exits_75_and_is_confirmed_later() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let (_directory, file) = hello();

    let run = at(&stack, &["register", file.to_str().unwrap(), "--case", CASE, "--wait-timeout", "1s"]).await;

    assert_eq!(run.code, 75, "{run:?}");
    let registration = stack.client.get_pair(HELLO, CASE).await.unwrap();
    assert!(
        format!("{}{}", run.stdout, run.stderr).contains(&registration.id),
        "the output names the registration: {run:?}"
    );
    stack.anvil.mine_on_demand().await;
    let watched = at(&stack, &["watch", &registration.id]).await;
    assert_eq!(watched.code, 0, "{watched:?}");
}

#[tokio::test]
async fn waiting_for_acceptance_alone_exits_0() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;

    let run = at(&stack, &["register", &document(1), "--case", CASE, "--wait-for", "accepted", "--json"]).await;

    assert_eq!(run.code, 0, "{run:?}");
    let registration = run.json().pop().unwrap();
    assert!(["STATE_QUEUED", "STATE_SUBMITTED"].contains(&registration["state"].as_str().unwrap()), "{registration}");
}

#[tokio::test]
async fn a_failed_registration_exits_1_with_its_reason() {
    let stack = StackBuilder::on_demand().start().await;
    let code = serde_json::json!([stack.registry.address, "0x60006000fd"]);
    stack.anvil.rpc().run("anvil_setCode", code).await;

    let run = at(&stack, &["register", &document(1), "--case", CASE]).await;

    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("REJECTED_BY_CONTRACT") || run.stdout.contains("REJECTED_BY_CONTRACT"), "{run:?}");
}

#[tokio::test]
async fn an_unreachable_server_exits_69() {
    let closed_port = ReservedPort::new();
    let server = format!("http://{}", closed_port.address);
    for arguments in [
        vec!["register", HELLO, "--case", CASE],
        vec!["status", "0190b4f6-0000-7000-8000-000000000000"],
        vec!["list"],
        vec!["verify", HELLO, "--case", CASE],
        vec!["watch", "0190b4f6-0000-7000-8000-000000000000"],
    ] {
        let run = run(&arguments, &[("REGISTRAR_SERVER", &server)]).await;
        assert_eq!(run.code, 69, "{arguments:?}: {run:?}");
        assert!(run.stderr.contains(&closed_port.address.to_string()), "the output names the server: {run:?}");
    }
}

#[tokio::test]
async fn usage_errors_exit_64_without_a_request() {
    let stack = StackBuilder::on_demand().start().await;
    for arguments in [
        vec!["register"],
        vec!["register", HELLO],
        vec!["register", HELLO, "--case", "no case"],
        vec!["register", "/no/such/file", "--case", CASE],
        vec!["register", HELLO, "--case", CASE, "--wait-for", "nonsense"],
        vec!["register", HELLO, "--case", CASE, "--wait-timeout", "soon"],
        vec!["status", "neither-an-id-nor-a-hash"],
        vec!["nonsense"],
        vec!["list", "--nonsense"],
    ] {
        let run = at(&stack, &arguments).await;
        assert_eq!(run.code, 64, "{arguments:?}: {run:?}");
        assert!(!run.stderr.is_empty() && run.stdout.is_empty(), "{arguments:?}: {run:?}");
    }
    assert!(stack.client.list(Default::default()).await.unwrap().registrations.is_empty());
}

#[tokio::test]
async fn an_unknown_registration_exits_1() {
    let stack = StackBuilder::on_demand().start().await;
    for arguments in
        [["status", "0190b4f6-0000-7000-8000-000000000000"], ["watch", "0190b4f6-0000-7000-8000-000000000000"]]
    {
        let run = at(&stack, &arguments).await;
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains("REGISTRATION_NOT_FOUND") || run.stderr.contains("no registration"), "{run:?}");
    }
}

#[tokio::test]
async fn help_names_every_command_and_every_setting_and_exits_0() {
    let help = run(&["--help"], &[]).await;
    assert_eq!(help.code, 0);
    for command in ["serve", "dev", "deploy", "register", "status", "watch", "list", "verify", "completions", "man"] {
        assert!(help.stdout.contains(command), "{command} in {}", help.stdout);
        let of_command = run(&[command, "--help"], &[]).await;
        assert_eq!(of_command.code, 0, "{of_command:?}");
        assert!(of_command.stdout.contains("Exit codes: 0 "), "{of_command:?}");
    }
    let key = crate::harness::anvil::KEYS[1];
    let serve = run(&["serve", "--help"], &[("REGISTRAR_SIGNER_KEYS", key)]).await;
    for setting in [
        "REGISTRAR_LISTEN",
        "REGISTRAR_ADMIN_LISTEN",
        "REGISTRAR_RPC_URLS",
        "REGISTRAR_CHAIN_ID",
        "REGISTRAR_CONTRACT_ADDRESS",
        "REGISTRAR_SIGNER_KEYS",
        "REGISTRAR_DATABASE_URL",
        "REGISTRAR_CONFIRMATIONS",
        "REGISTRAR_CONFIRMATION_TIMEOUT",
        "REGISTRAR_QUEUE_TIMEOUT",
        "REGISTRAR_MAX_WAIT",
        "REGISTRAR_MAX_FEE_GWEI",
        "REGISTRAR_DAILY_BUDGET_ETH",
        "REGISTRAR_QUEUE_LIMIT",
        "REGISTRAR_KEEP_SIGNED_BYTES",
        "REGISTRAR_SHUTDOWN_GRACE",
    ] {
        assert!(serve.stdout.contains(setting), "{setting} in {}", serve.stdout);
    }
    assert!(!serve.stdout.contains(&key[2..]), "help shows a secret");
}

#[tokio::test]
async fn completions_and_manual_pages_know_the_commands_and_their_options() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], &[]).await;
        assert_eq!((script.code, script.stderr.as_str()), (0, ""), "{shell}");
        assert!(["register", "wait-for"].iter().all(|word| script.stdout.contains(word)), "{shell}: {}", script.stdout);
    }
    let script = run(&["completions", "bash"], &[]).await.stdout;
    let checked = tokio::process::Command::new("bash").args(["-n", "-c", &script]).status().await.unwrap();
    assert!(checked.success(), "bash cannot read its script");
    let page = run(&["man"], &[]).await;
    assert!(page.code == 0 && page.stdout.contains(".TH registrar 1"), "{page:?}");
    let page = run(&["man", "signer", "new"], &[]).await;
    assert!(page.code == 0 && page.stdout.contains("keystore"), "{page:?}");
    let unknown = run(&["man", "nonsense"], &[]).await;
    assert_eq!((unknown.code, unknown.stdout.as_str()), (64, ""), "{unknown:?}");
}

#[tokio::test]
async fn info_shows_queue_balances_and_endpoints_with_options_on_either_side() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.set_balance(account(1), 0).await;
    stack.client.accept(1, CASE).await;
    let server = format!("http://{}", stack.service.grpc);

    let before = run(&["--json", "--server", &server, "info"], &[]).await;
    let after = run(&["info", "--json", "--server", &server], &[]).await;

    let info = before.object();
    assert_eq!((before.code, &info["chainId"]), (0, &after.object()["chainId"]), "{before:?}");
    assert_eq!(info["queueTimeout"], "60s");
    assert_eq!(info["queued"], "1");
    assert!(info["oldestQueuedTime"].is_string(), "{info:#}");
    let signer = &info["signers"][0];
    assert_eq!((&signer["address"], &signer["balanceWei"]), (&json!(account(1).to_string()), &json!("0")));
    let endpoint = &info["endpoints"][0];
    assert_eq!((&endpoint["name"], &endpoint["state"]), (&json!("127.0.0.1"), &json!("healthy")));
    let text = run(&["info", "--server", &server], &[]).await.stdout;
    for words in ["(0 ETH)", "127.0.0.1 healthy, block ", "1, the oldest for ", "1 m 00 s after it is queued"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[tokio::test]
async fn verify_distinguishes_not_registered_from_no_answer() {
    let mut stack = StackBuilder::on_demand().start().await;
    let server = format!("http://{}", stack.service.grpc);
    let hash = document(1);
    let verify = ["verify", &hash, "--case", CASE, "--server", &server];

    assert_eq!(run(&verify, &[]).await.code, 1, "it is not registered");
    stack.anvil.kill();
    let unanswered = run(&verify, &[]).await;
    assert_eq!(unanswered.code, 69, "the chain does not answer: {unanswered:?}");
    stack.service.kill();
    assert_eq!(run(&verify, &[]).await.code, 69, "the server is away");
}

#[tokio::test]
async fn deploy_prints_only_the_address_and_adds_every_signer_as_registrar() {
    // Every test's contract is deployed by `registrar deploy`, and the harness asserts that it prints only the address.
    let (dependencies, _) = StackBuilder::on_demand().signers(2).prepare().await;
    for number in [0, 1, 2] {
        let call = crate::harness::registry::isRegistrarCall { account: account(number) };
        assert!(dependencies.registry.read(call).await, "account {number}");
    }
}

#[tokio::test]
async fn deploy_reports_missing_settings_and_a_wrong_chain_id() {
    let none = run(&["deploy"], &[]).await;
    assert_eq!((none.code, none.stdout.as_str()), (64, ""), "{none:?}");
    assert!(none.stderr.contains("REGISTRAR_SIGNER_KEYS"), "{none:?}");

    let (dependencies, _) = StackBuilder::on_demand().prepare().await;
    let key = crate::harness::anvil::KEYS[0];
    let variables =
        [("REGISTRAR_RPC_URLS", dependencies.anvil.url()), ("REGISTRAR_CHAIN_ID", "1"), ("REGISTRAR_SIGNER_KEYS", key)];
    let other = run(&["deploy"], &variables).await;
    assert_eq!((other.code, other.stdout.as_str()), (64, ""), "{other:?}");
    assert!(other.stderr.contains("31337"), "{other:?}");
}

#[tokio::test]
async fn an_unreachable_chain_exits_75_for_accepted_work() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    let away = stack.proxy().inject_all(Fault::LoseRequest);

    let run = at(&stack, &["register", &document(1), "--case", CASE, "--wait-timeout", "2s"]).await;

    assert_eq!(run.code, 75, "the work was accepted: {run:?}");
    away.release();
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    stack.client.wait_for_state(&id, State::Confirmed).await;
}
