//! Starting: what can be known at start is said at start, clearly, and nothing is made or opened before.

use crate::harness::{
    Anvil, Client, Fault, OWNER, Plan, Registry, Service, Starting, State, account,
    anvil::KEYS,
    registry::{addRegistrarCall, removeRegistrarCall},
    service::{Refused, Settings, command},
    within,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

const CASE: &str = "case-1";

/// A refusal to start for which the settings are to blame, that says all of this.
fn blames_the_settings(refused: &Refused, words: &[&str]) {
    says(refused, 64, words);
}

fn says(refused: &Refused, code: i32, words: &[&str]) {
    assert_eq!(refused.code, code, "{}", refused.said);
    for word in words {
        assert!(refused.said.contains(word), "`{word}` is missing in: {}", refused.said);
    }
    assert!(!refused.said.contains("\"message\":\"listening\""), "it served: {}", refused.said);
}

/// Off a terminal every line is JSON, the last word too.
fn is_last_line_of_the_log(refused: &Refused, words: &str) {
    let last = refused.said.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
    assert_eq!((&line["level"], &line["exit_code"]), (&"ERROR".into(), &refused.code.into()), "{last}");
    assert!(line["message"].as_str().is_some_and(|message| message.contains(words)), "{last}");
}

#[tokio::test]
async fn every_fault_of_the_settings_is_said_at_once_before_a_port_opens_or_a_file_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("registrar.db");
    let mut command = command();
    command.envs([
        ("REGISTRAR_LISTEN", "0.0.0.0:0"),
        ("REGISTRAR_ADMIN_LISTEN", "nowhere"),
        ("REGISTRAR_RPC_URLS", "ftp://user:s3cr3t@host"),
        ("REGISTRAR_CHAIN_ID", "base"),
        ("REGISTRAR_CONTRACT_ADDRESS", "0x12"),
        ("REGISTRAR_SIGNER_KEYS", "0xs3cr3t"),
        ("REGISTRAR_CONFIRMATIONS", "0"),
        ("REGISTRAR_CONFIRMATION_TIMEOUT", "soon"),
        ("REGISTRAR_MAX_WAIT", "never"),
        ("REGISTRAR_MAX_FEE_GWEI", "-1"),
        ("REGISTRAR_DAILY_BUDGET_ETH", "plenty"),
        ("REGISTRAR_QUEUE_LIMIT", "0"),
        ("REGISTRAR_KEEP_SIGNED_BYTES", "0s"),
        ("REGISTRAR_MAX_WAITERS", "x"),
        ("REGISTRAR_SHUTDOWN_GRACE", "-1s"),
        ("TRACING_ENABLED", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("REGISTRAR_DATABASE_URL", &format!("sqlite://{}", database.display())),
    ]);
    let refused = Service::refused_as(command, &Settings::none()).await;

    blames_the_settings(
        &refused,
        &[
            "REGISTRAR_LISTEN",
            "REGISTRAR_ADMIN_LISTEN",
            "REGISTRAR_RPC_URLS",
            "REGISTRAR_CHAIN_ID",
            "REGISTRAR_CONTRACT_ADDRESS",
            "REGISTRAR_SIGNER_KEYS",
            "REGISTRAR_CONFIRMATIONS",
            "REGISTRAR_CONFIRMATION_TIMEOUT",
            "REGISTRAR_MAX_WAIT",
            "REGISTRAR_MAX_FEE_GWEI",
            "REGISTRAR_DAILY_BUDGET_ETH",
            "REGISTRAR_QUEUE_LIMIT",
            "REGISTRAR_KEEP_SIGNED_BYTES",
            "REGISTRAR_MAX_WAITERS",
            "REGISTRAR_SHUTDOWN_GRACE",
            "TRACING_ENABLED",
            "LOG_FORMAT",
        ],
    );
    assert!(!refused.said.contains("s3cr3t"), "a secret is repeated: {}", refused.said);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a file was made");
}

#[tokio::test]
async fn an_address_off_loopback_needs_to_be_meant() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let open = settings.set("REGISTRAR_LISTEN", "0.0.0.0:0");
    let refused = Service::refused(&open).await;
    blames_the_settings(&refused, &["REGISTRAR_LISTEN", "REGISTRAR_ALLOW_INSECURE"]);

    Service::start(&open.set("REGISTRAR_ALLOW_INSECURE", "true")).await;
}

#[tokio::test]
async fn another_chain_than_the_settings_say_is_refused() {
    let (_ground, settings) = Plan::on_demand().anvil(&["--chain-id", "31338"]).prepare().await;
    let refused = Service::refused(&settings).await;

    blames_the_settings(&refused, &["31337", "31338"]);
}

#[tokio::test]
async fn an_address_without_a_contract_is_refused() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let nobody = account(7).to_string();

    let refused = Service::refused(&settings.set("REGISTRAR_CONTRACT_ADDRESS", &nobody)).await;

    blames_the_settings(&refused, &[&nobody]);
}

#[tokio::test]
async fn a_database_of_another_contract_is_refused() {
    let mut stack = Plan::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
    let other = Registry::deploy(&stack.anvil, 1).await;
    assert_ne!(other.address, stack.registry.address);

    let refused = Service::refused(&stack.settings.clone().set("REGISTRAR_CONTRACT_ADDRESS", other.address)).await;

    assert!(refused.code == 64 || refused.code == 1, "{refused:?}");
    assert!(refused.said.contains(&other.address.to_string()), "it names the contract: {}", refused.said);
    assert!(refused.said.contains(&stack.registry.address.to_string()), "it names both: {}", refused.said);
    stack.start_again().await;
}

#[tokio::test]
async fn a_database_of_an_anvil_that_was_started_anew_is_refused() {
    let mut stack = Plan::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    stack.service.kill();
    // The same chain id, and the same contract at the same address: only the blocks are others.
    let anew = Anvil::start(&["--timestamp", "1000000000"]).await;
    let registry = Registry::deploy(&anew, 1).await;
    assert_eq!(registry.address, stack.registry.address);

    let refused = Service::refused(&stack.settings.clone().set("REGISTRAR_RPC_URLS", anew.url())).await;

    assert!(refused.code == 64 || refused.code == 1, "{refused:?}");
    assert!(refused.said.contains("database"), "{}", refused.said);
    assert_eq!(registry.events().await, []);
}

#[tokio::test]
async fn a_second_copy_on_the_same_database_is_refused_and_the_first_goes_on() {
    let mut stack = Plan::on_demand().start().await;

    let refused = Service::refused(&stack.settings).await;

    says(&refused, 1, &[stack.database().to_str().unwrap(), "in use by another"]);
    is_last_line_of_the_log(&refused, "in use");
    stack.client.confirm(1, CASE).await;
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
    stack.start_again().await;
}

#[tokio::test]
async fn a_key_that_is_taken_away_while_its_work_is_out_is_asked_for() {
    let mut stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await;
    stack.service.kill();

    let without = stack.settings.clone().set("REGISTRAR_SIGNER_KEYS", KEYS[2]);
    let refused = Service::refused(&without).await;

    blames_the_settings(&refused, &["REGISTRAR_SIGNER_KEYS", &account(1).to_string()]);
    stack.start_again().await;
    stack.anvil.mine_on_demand().await;
    stack.client.reaches(&accepted.id, State::Confirmed).await;
    // Once it is drained, it may go.
    stack.service.kill();
    stack.settings = without;
    stack.start_again().await;
}

/// The binary as a user who is not root, for whom a file's mode means something.
fn as_somebody_else(directory: &Path) -> Command {
    let copy = directory.join("registrar-binary");
    fs::copy(env!("CARGO_BIN_EXE_registrar"), &copy).unwrap();
    let mut plain = Command::new(copy);
    plain.env_clear();
    if rustix::process::geteuid().is_root() {
        plain.uid(65534).gid(65534);
    }
    plain
}

#[tokio::test]
async fn a_read_only_database_file_is_refused() {
    let (ground, settings) = Plan::on_demand().prepare().await;
    let mut service = Service::start(&settings).await;
    service.terminate();
    assert_eq!(service.exit_code().await, 0);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(ground.directory.path(), 0o777);
    mode(&ground.database(), 0o444);
    let before = fs::read(ground.database()).unwrap();

    let refused = Service::refused_as(as_somebody_else(ground.directory.path()), &settings).await;

    assert_ne!(refused.code, 0);
    let said = refused.said.to_lowercase();
    assert!(said.contains("read-only") || said.contains("readonly") || said.contains("permission"), "{}", refused.said);
    assert_eq!(fs::read(ground.database()).unwrap(), before, "nothing is lost");
    mode(&ground.database(), 0o644);
    Service::start(&settings).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_made_is_refused() {
    let (ground, settings) = Plan::on_demand().prepare().await;
    let missing = ground.directory.path().join("no/such/folder/registrar.db");

    let refused =
        Service::refused(&settings.set("REGISTRAR_DATABASE_URL", format!("sqlite://{}", missing.display()))).await;

    assert_ne!(refused.code, 0);
    assert!(refused.said.contains("REGISTRAR_DATABASE_URL") || refused.said.contains("database"), "{}", refused.said);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let (ground, settings) = Plan::on_demand().prepare().await;
    fs::write(ground.database(), "my thesis").unwrap();

    let refused = Service::refused(&settings).await;

    assert_ne!(refused.code, 0);
    assert_eq!(fs::read(ground.database()).unwrap(), b"my thesis");
}

#[tokio::test]
async fn a_database_with_tables_that_are_not_ours_is_refused_and_left_alone() {
    let (ground, settings) = Plan::on_demand().prepare().await;
    let made = Command::new("python3")
        .args(["-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('create table thesis (text)')"])
        .arg(ground.database())
        .status()
        .unwrap();
    assert!(made.success());
    let before = fs::read(ground.database()).unwrap();

    let refused = Service::refused(&settings).await;

    assert_ne!(refused.code, 0);
    assert!(refused.said.contains("thesis"), "it names what it found: {}", refused.said);
    assert_eq!(fs::read(ground.database()).unwrap(), before);
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["REGISTRAR_LISTEN", "REGISTRAR_ADMIN_LISTEN"] {
        let refused = Service::refused(&settings.clone().set(name, &address)).await;
        // Whoever has it may leave it: another start may do.
        says(&refused, 1, &[&address]);
        is_last_line_of_the_log(&refused, name);
    }
}

#[tokio::test]
async fn a_service_that_starts_before_its_node_waits_for_it() {
    let (ground, settings) = Plan::on_demand().through_proxy().prepare().await;
    let away = ground.proxies[0].trap_all(Fault::LoseRequest);
    let starting = tokio::spawn(async move { Service::start(&settings).await });
    away.sprung().await;

    away.release();

    let service = within("the start", starting).await.unwrap();
    let client = Client::connect(service.grpc).await;
    client.confirm(1, CASE).await;
}

#[tokio::test]
async fn a_start_that_waits_for_its_node_ends_well_when_it_is_told_to() {
    let (ground, settings) = Plan::on_demand().through_proxy().prepare().await;
    let away = ground.proxies[0].trap_all(Fault::LoseRequest);
    let starting = Starting::of(&settings);
    away.sprung().await;

    starting.terminate();

    let ended = starting.ends().await;
    assert_eq!(ended.code, 0, "{}", ended.said);
}

/// Starts a service whose signer cannot work, and returns it after it has said so by name.
async fn starts_and_names_the_signer(settings: &Settings) -> (Service, Client) {
    let mut service = Service::start(settings).await;
    let signer = account(1).to_string().to_lowercase();
    service
        .logged("which signer is at fault", |line| {
            line["level"] == "ERROR" && line.to_string().to_lowercase().contains(&signer)
        })
        .await;
    let client = Client::connect(service.grpc).await;
    (service, client)
}

#[tokio::test]
async fn a_signer_without_funds_at_start_is_named_and_its_work_waits_for_money() {
    let (ground, settings) = Plan::on_demand().prepare().await;
    ground.anvil.set_balance(account(1), 0).await;
    let (_service, client) = starts_and_names_the_signer(&settings).await;

    let accepted = client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    let blocked = client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);

    ground.anvil.set_balance(account(1), 1_000_000_000_000_000_000).await;
    client.reaches(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_signer_that_is_no_registrar_at_start_is_named_and_its_work_waits_for_permission() {
    let (ground, settings) = Plan::on_demand().prepare().await;
    ground.registry.send(account(OWNER), removeRegistrarCall { account: account(1) }).await;
    let (_service, client) = starts_and_names_the_signer(&settings).await;

    let accepted = client.accept(1, CASE).await;
    let reason = "SIGNER_NOT_ALLOWED";
    let blocked = client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);

    ground.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;
    client.reaches(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn no_key_and_no_url_with_its_password_is_ever_logged() {
    let (ground, settings) = Plan::on_demand().prepare().await;
    let address = ground.anvil.url().trim_start_matches("http://");
    let url = format!("http://user:passw0rd@{address}/?key=s3cr3t");
    let settings = settings.set("REGISTRAR_RPC_URLS", url).set("RUST_LOG", "trace");
    let mut service = Service::start(&settings).await;
    let client = Client::connect(service.grpc).await;
    client.confirm(1, CASE).await;
    drop(ground);
    let mut request = crate::harness::registering(2, CASE, crate::harness::WaitFor::Submitted);
    request.wait_timeout = crate::harness::seconds(2);
    client.register(request).await.unwrap_err();
    service.terminate();
    service.exit_code().await;

    let log = service.log();
    assert!(log.len() > 5, "it logs: {log:?}");
    let key = &crate::harness::anvil::KEYS[1][2..];
    for line in log {
        let text = line.to_string();
        for secret in ["passw0rd", "s3cr3t", key] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
