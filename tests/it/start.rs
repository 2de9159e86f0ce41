//! Startup checks: every problem that can be detected is reported before a port opens or a file is created.

use crate::harness::{
    Anvil, CASE, Client, Fault, OWNER, Registry, Service, StackBuilder, Starting, State, account,
    anvil::KEYS,
    registry::{addRegistrarCall, removeRegistrarCall},
    service::{FailedStart, Settings, command},
    within,
};
use serde_json::Value;
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

/// Asserts that the start failed with the exit code of a configuration error and these texts.
fn assert_configuration_error(failed: &FailedStart, words: &[&str]) {
    assert_failed(failed, 64, words);
}

fn assert_failed(failed: &FailedStart, code: i32, words: &[&str]) {
    assert_eq!(failed.code, code, "{}", failed.output);
    for word in words {
        assert!(failed.output.contains(word), "`{word}` is missing in: {}", failed.output);
    }
    assert!(!failed.output.contains("\"message\":\"listening\""), "the service served: {}", failed.output);
}

/// Without a terminal every line is JSON, including the last.
fn assert_last_log_line(failed: &FailedStart, words: &str) {
    let last = failed.output.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"));
    assert_eq!((&line["level"], &line["exit_code"]), (&"ERROR".into(), &failed.code.into()), "{last}");
    assert!(line["message"].as_str().is_some_and(|message| message.contains(words)), "{last}");
}

#[tokio::test]
async fn all_configuration_errors_are_reported_at_once_before_any_side_effect() {
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
    let failed = Service::expect_start_failure_with(command, &Settings::empty()).await;

    assert_configuration_error(
        &failed,
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
    assert!(!failed.output.contains("s3cr3t"), "a secret is repeated: {}", failed.output);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a file was created");
}

#[tokio::test]
async fn listening_beyond_loopback_needs_permission() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let open = settings.clone().set("REGISTRAR_LISTEN", "0.0.0.0:0");
    let failed = Service::expect_start_failure(&open).await;
    assert_configuration_error(&failed, &["REGISTRAR_LISTEN", "REGISTRAR_ALLOW_INSECURE"]);

    for (settings, warnings) in [(&open.set("REGISTRAR_ALLOW_INSECURE", "true"), 1), (&settings, 0)] {
        let log = Service::start(settings).await.log();
        let is_warning = |line: &&Value| {
            line["level"] == "WARN" && line["message"].as_str().unwrap().contains("reachable from other")
        };
        assert_eq!(log.iter().filter(is_warning).count(), warnings, "{log:#?}");
    }
}

#[tokio::test]
async fn a_wrong_chain_id_is_rejected() {
    let (_dependencies, settings) = StackBuilder::on_demand().anvil(&["--chain-id", "31338"]).prepare().await;
    let failed = Service::expect_start_failure(&settings).await;

    assert_configuration_error(&failed, &["31337", "31338"]);
}

#[tokio::test]
async fn an_address_without_a_contract_is_rejected() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let no_contract = account(7).to_string();

    let failed = Service::expect_start_failure(&settings.set("REGISTRAR_CONTRACT_ADDRESS", &no_contract)).await;

    assert_configuration_error(&failed, &[&no_contract]);
}

#[tokio::test]
async fn a_database_of_another_contract_is_rejected() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
    let other = Registry::deploy(&stack.anvil, 1).await;
    assert_ne!(other.address, stack.registry.address);

    let failed =
        Service::expect_start_failure(&stack.settings.clone().set("REGISTRAR_CONTRACT_ADDRESS", other.address)).await;

    assert!(failed.code == 64 || failed.code == 1, "{failed:?}");
    assert!(
        failed.output.contains(&other.address.to_string()),
        "the configured contract is missing in: {}",
        failed.output
    );
    assert!(
        failed.output.contains(&stack.registry.address.to_string()),
        "the database's contract is missing in: {}",
        failed.output
    );
    stack.restart().await;
}

#[tokio::test]
async fn a_database_of_a_previous_anvil_is_rejected() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    stack.service.kill();
    // Same chain id, same contract address, different blocks.
    let restarted = Anvil::start(&["--timestamp", "1000000000"]).await;
    let registry = Registry::deploy(&restarted, 1).await;
    assert_eq!(registry.address, stack.registry.address);

    let failed =
        Service::expect_start_failure(&stack.settings.clone().set("REGISTRAR_RPC_URLS", restarted.url())).await;

    assert!(failed.code == 64 || failed.code == 1, "{failed:?}");
    assert!(failed.output.contains("database"), "{}", failed.output);
    assert_eq!(registry.events().await, []);
}

#[tokio::test]
async fn a_second_process_on_one_database_is_rejected_and_the_first_keeps_working() {
    let mut stack = StackBuilder::on_demand().start().await;

    let failed = Service::expect_start_failure(&stack.settings).await;

    assert_failed(&failed, 1, &[stack.database().to_str().unwrap(), "in use by another"]);
    assert_last_log_line(&failed, "in use");
    stack.client.confirm(1, CASE).await;
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
    stack.restart().await;
}

#[tokio::test]
async fn removing_a_key_with_pending_transactions_is_rejected() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    stack.service.kill();

    let without = stack.settings.clone().set("REGISTRAR_SIGNER_KEYS", KEYS[2]);
    let failed = Service::expect_start_failure(&without).await;

    assert_configuration_error(&failed, &["REGISTRAR_SIGNER_KEYS", &account(1).to_string()]);
    stack.restart().await;
    stack.anvil.mine_on_demand().await;
    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    // Once its transactions are final, the key may be removed.
    stack.service.kill();
    stack.settings = without;
    stack.restart().await;
}

/// The binary run as an unprivileged user, to whom file modes apply.
fn as_unprivileged_user(directory: &Path) -> Command {
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
async fn a_read_only_database_file_is_rejected() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let mut service = Service::start(&settings).await;
    service.terminate();
    assert_eq!(service.exit_code().await, 0);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(dependencies.directory.path(), 0o777);
    mode(&dependencies.database(), 0o444);
    let before = fs::read(dependencies.database()).unwrap();

    let failed =
        Service::expect_start_failure_with(as_unprivileged_user(dependencies.directory.path()), &settings).await;

    assert_ne!(failed.code, 0);
    let output = failed.output.to_lowercase();
    assert!(
        output.contains("read-only") || output.contains("readonly") || output.contains("permission"),
        "{}",
        failed.output
    );
    assert_eq!(fs::read(dependencies.database()).unwrap(), before, "the file was changed");
    mode(&dependencies.database(), 0o644);
    Service::start(&settings).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_created_is_rejected() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let missing = dependencies.directory.path().join("no/such/folder/registrar.db");

    let failed = Service::expect_start_failure(
        &settings.set("REGISTRAR_DATABASE_URL", format!("sqlite://{}", missing.display())),
    )
    .await;

    assert_ne!(failed.code, 0);
    assert!(
        failed.output.contains("REGISTRAR_DATABASE_URL") || failed.output.contains("database"),
        "{}",
        failed.output
    );
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_rejected_and_unchanged() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    fs::write(dependencies.database(), "my thesis").unwrap();

    let failed = Service::expect_start_failure(&settings).await;

    assert_ne!(failed.code, 0);
    assert_eq!(fs::read(dependencies.database()).unwrap(), b"my thesis");
}

#[tokio::test]
async fn a_database_with_foreign_tables_is_rejected_and_unchanged() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let made = Command::new("python3")
        .args(["-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('create table thesis (text)')"])
        .arg(dependencies.database())
        .status()
        .unwrap();
    assert!(made.success());
    let before = fs::read(dependencies.database()).unwrap();

    let failed = Service::expect_start_failure(&settings).await;

    assert_ne!(failed.code, 0);
    assert!(failed.output.contains("thesis"), "the table is missing in: {}", failed.output);
    assert_eq!(fs::read(dependencies.database()).unwrap(), before);
}

#[tokio::test]
async fn a_port_in_use_is_reported() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["REGISTRAR_LISTEN", "REGISTRAR_ADMIN_LISTEN"] {
        let failed = Service::expect_start_failure(&settings.clone().set(name, &address)).await;
        // Exit code 1, because the port may become free.
        assert_failed(&failed, 1, &[&address]);
        assert_last_log_line(&failed, name);
    }
}

#[tokio::test]
async fn a_start_waits_for_the_node() {
    let (dependencies, settings) = StackBuilder::on_demand().through_proxy().prepare().await;
    let away = dependencies.proxies[0].inject_all(Fault::LoseRequest);
    let starting = tokio::spawn(async move { Service::start(&settings).await });
    away.until_hit().await;

    away.release();

    let service = within("the start", starting).await.unwrap();
    let client = Client::connect(service.grpc).await;
    client.confirm(1, CASE).await;
}

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_the_node() {
    let (dependencies, settings) = StackBuilder::on_demand().through_proxy().prepare().await;
    let away = dependencies.proxies[0].inject_all(Fault::LoseRequest);
    let starting = Starting::new(&settings);
    away.until_hit().await;

    starting.terminate();

    let exited = starting.until_exit().await;
    assert_eq!(exited.code, 0, "{}", exited.output);
}

/// Starts a service whose signer cannot work and waits until the log names the signer.
async fn start_and_expect_signer_error(settings: &Settings) -> (Service, Client) {
    let mut service = Service::start(settings).await;
    let signer = account(1).to_string().to_lowercase();
    service
        .wait_for_log("an error that names the signer", |line| {
            line["level"] == "ERROR" && line.to_string().to_lowercase().contains(&signer)
        })
        .await;
    let client = Client::connect(service.grpc).await;
    (service, client)
}

#[tokio::test]
async fn a_signer_without_funds_is_logged_at_start_and_its_work_waits() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    dependencies.anvil.set_balance(account(1), 0).await;
    let (_service, client) = start_and_expect_signer_error(&settings).await;

    let accepted = client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    let blocked = client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);

    dependencies.anvil.set_balance(account(1), 1_000_000_000_000_000_000).await;
    client.wait_for_state(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_signer_that_is_not_a_registrar_is_logged_at_start_and_its_work_waits() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    dependencies.registry.send(account(OWNER), removeRegistrarCall { account: account(1) }).await;
    let (_service, client) = start_and_expect_signer_error(&settings).await;

    let accepted = client.accept(1, CASE).await;
    let reason = "SIGNER_NOT_ALLOWED";
    let blocked = client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;
    assert_eq!(blocked.state(), State::Queued);

    dependencies.registry.send(account(OWNER), addRegistrarCall { account: account(1) }).await;
    client.wait_for_state(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn keys_and_url_credentials_are_never_logged() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let address = dependencies.anvil.url().trim_start_matches("http://");
    let url = format!("http://user:passw0rd@{address}/?key=s3cr3t");
    let settings = settings.set("REGISTRAR_RPC_URLS", url).set("RUST_LOG", "trace,h2=trace");
    let mut service = Service::start(&settings).await;
    let client = Client::connect(service.grpc).await;
    client.confirm(1, CASE).await;
    drop(dependencies);
    let mut request = crate::harness::register_request(2, CASE, crate::harness::WaitFor::Submitted);
    request.wait_timeout = crate::harness::seconds(2);
    client.register(request).await.unwrap_err();
    service.terminate();
    service.exit_code().await;

    let log = service.log();
    assert!(log.len() > 5, "too few log lines: {log:?}");
    let key = &crate::harness::anvil::KEYS[1][2..];
    for line in log {
        let text = line.to_string();
        for secret in ["passw0rd", "s3cr3t", key] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
