//! A start without a usable database: waits for what may recover, reports the rest with its fix, and never logs the
//! password.

use super::CASE;
use crate::harness::{
    Client, Database, Service, StackBuilder, Starting, TcpProxy, TcpProxyMode,
    postgres::{Cluster, PASSWORDS},
    service::Settings,
};
use sqlx::{AssertSqlSafe, Executor};

/// The exit code and the output of a failed start.
pub(super) async fn failed_start_with(settings: &Settings, database: &str) -> (i32, String) {
    let failed = Service::expect_start_failure(&settings.clone().set("REGISTRAR_DATABASE_URL", database)).await;
    assert!(!PASSWORDS.iter().any(|password| failed.output.contains(password)), "{}", failed.output);
    assert!(failed.output.contains("REGISTRAR_DATABASE_URL"), "{}", failed.output);
    (failed.code, failed.output)
}

async fn failed_start(database: &str) -> (i32, String) {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    failed_start_with(&settings, database).await
}

/// Waits until the service logs that it waits for its database.
async fn wait_for_database_warning(starting: &mut Starting) {
    let message = "waiting for the database server of REGISTRAR_DATABASE_URL";
    starting.wait_for_log(message, |line| line["message"] == message && line["level"] == "WARN").await;
}

#[tokio::test]
async fn an_unreachable_server_fails_the_start_with_exit_code_1() {
    let database = Database::new().await;
    let (code, output) = failed_start(&database.url_by(1)).await;
    assert!(output.contains("cannot be reached"), "{output}");
    assert_eq!(code, 1);
    // Once per reason, not per attempt.
    assert!((1..=3).contains(&output.matches("waiting for the database server").count()), "{output}");
}

#[tokio::test]
async fn a_rejection_by_the_server_is_a_configuration_error() {
    let database = Database::new().await;
    database.run("CREATE ROLE other LOGIN PASSWORD 'other'").await;
    for (url, words) in [
        (database.url_as("other", PASSWORDS[1]), "user or the password"),
        (database.url_as("other", "other"), "CREATE SCHEMA registrar"),
        (database.url().replace("/test_", "/absent_"), "createdb"),
    ] {
        let (code, output) = failed_start(&url).await;
        assert!(output.contains(words), "{output}");
        assert_eq!(code, 64, "{output}");
    }
}

#[tokio::test]
async fn a_start_waits_for_a_starting_server() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let cluster = Cluster::prepare();
    let mut starting = Starting::new(&settings.set("REGISTRAR_DATABASE_URL", cluster.url_of("postgres")));
    wait_for_database_warning(&mut starting).await;

    let _cluster = cluster.start();

    let mut service = starting.until_serving().await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
    service.terminate();
    assert_eq!(service.exit_code().await, 0);
}

#[tokio::test]
async fn a_start_waits_for_an_unreachable_database() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let proxy = TcpProxy::new(&Database::new().await);
    proxy.set_mode(TcpProxyMode::Refuse);
    let mut starting = Starting::new(&settings.set("REGISTRAR_DATABASE_URL", &proxy.url));
    wait_for_database_warning(&mut starting).await;

    proxy.set_mode(TcpProxyMode::Forward);

    let service = starting.until_serving().await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
}

#[tokio::test]
async fn a_start_waits_for_a_server_with_too_many_connections() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let database = Database::new().await;
    database.run("CREATE ROLE guest LOGIN PASSWORD 'welcome' CONNECTION LIMIT 0").await;
    database.run("CREATE SCHEMA registrar AUTHORIZATION guest").await;
    let mut starting = Starting::new(&settings.set("REGISTRAR_DATABASE_URL", database.url_as("guest", "welcome")));
    wait_for_database_warning(&mut starting).await;

    database.run("ALTER ROLE guest CONNECTION LIMIT -1").await;

    let service = starting.until_serving().await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
}

#[tokio::test]
async fn a_start_waits_for_a_server_that_only_reads() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let database = Database::new().await;
    let set = |value: &str| {
        format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {value}', current_database()); END $$")
    };
    database.run(&set("default_transaction_read_only = on")).await;
    let mut starting = Starting::new(&settings.set("REGISTRAR_DATABASE_URL", database.url()));
    wait_for_database_warning(&mut starting).await;

    let mut connection = database.connect().await;
    connection.execute("SET default_transaction_read_only = off").await.unwrap();
    connection.execute(AssertSqlSafe(set("default_transaction_read_only = off"))).await.unwrap();

    let service = starting.until_serving().await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
}

#[tokio::test]
async fn sigterm_ends_a_start_that_waits_for_the_database() {
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let proxy = TcpProxy::new(&Database::new().await);
    // A stalled connection attempt would take seconds to time out.
    for mode in [TcpProxyMode::Refuse, TcpProxyMode::Stall] {
        proxy.set_mode(mode);
        let mut starting = Starting::new(&settings.clone().set("REGISTRAR_DATABASE_URL", &proxy.url));
        match mode {
            TcpProxyMode::Stall => proxy.connected().await,
            TcpProxyMode::Refuse | TcpProxyMode::Forward | TcpProxyMode::DropCommitReplies => {
                wait_for_database_warning(&mut starting).await
            }
        }

        starting.terminate();

        let exited = starting.until_exit().await;
        assert_eq!(exited.code, 0, "{}", exited.output);
    }
}
