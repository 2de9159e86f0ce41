//! End-to-end tests of the command line: output and exit codes.

use crate::harness::{
    CASE, Fault, StackBuilder, State, TestStack, account,
    cli::{Run, run},
    document,
    listener::ReservedPort,
};
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
    for command in ["serve", "dev", "deploy", "register", "status", "watch", "list", "verify"] {
        assert!(help.stdout.contains(command), "{command} in {}", help.stdout);
        let of_command = run(&[command, "--help"], &[]).await;
        assert_eq!(of_command.code, 0, "{of_command:?}");
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
