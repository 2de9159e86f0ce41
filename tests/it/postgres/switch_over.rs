//! A switch-over between two servers in streaming replication, behind an address that leads to one of them and keeps
//! open connections to the other.

use super::{CASE, wait_for_lease};
use crate::harness::{
    Client, ReplicatedServers, Service, StackBuilder, Starting, State, TcpProxy, TcpProxyMode, TestStack, WaitFor,
    client::channel,
    document, eventually,
    postgres::{self, Cluster},
    register_request, retry_timing,
};
use sqlx::{Executor, Row};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// From the switch-over to the next confirmation.
const RECOVERY_LIMIT: Duration = Duration::from_secs(10);

async fn readiness(service: &Service) -> (u16, ServingStatus, f64) {
    let mut health = HealthClient::new(channel(service.grpc).await);
    let status = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner().status();
    let up = service.metrics().await.value("registrar_store_up", &[]);
    (service.http("/readyz").await.0, status, up)
}

async fn wait_for_readiness(service: &Service, code: u16, status: ServingStatus, up: f64) {
    let is_it = async || (readiness(service).await == (code, status, up)).then_some(());
    eventually(&format!("{code} and {status:?}"), is_it).await;
}

/// The time until a call that is repeated whenever it fails is confirmed.
async fn next_confirmation(client: &Client, number: u64, since: Instant) -> Duration {
    loop {
        match client.register(register_request(number, CASE, WaitFor::Confirmed)).await {
            Ok(confirmed) => {
                assert_eq!(confirmed.state(), State::Confirmed);
                return since.elapsed();
            }
            Err(error) => assert_eq!(error.kind(), (Code::Unavailable, "STORE_UNAVAILABLE")),
        }
    }
}

/// Two replicas, of which the first holds the lease, on two servers.
async fn replicas() -> (ReplicatedServers, TestStack, Service, Client) {
    let servers = ReplicatedServers::start().await;
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", &servers.address.url).start().await;
    wait_for_lease(&mut stack.service).await;
    let (other, client) = stack.replica().await;
    (servers, stack, other, client)
}

async fn recover_from_a_read_only_server() -> Result<(), String> {
    let (servers, stack, other, client) = replicas().await;
    stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;
    let pending = stack.client.accept(2, CASE).await;
    stack.client.wait_for_state(&pending.id, State::Submitted).await;

    servers.make_old_read_only().await;

    for service in [&stack.service, &other] {
        wait_for_readiness(service, 503, ServingStatus::NotServing, 0.0).await;
    }
    let refused = client.register(register_request(3, CASE, WaitFor::Accepted)).await.unwrap_err();
    assert_eq!(refused.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
    let mut starting = Starting::new(&stack.settings);
    let waits = "waiting for the database server of REGISTRAR_DATABASE_URL";
    starting.wait_for_log(waits, |line| line["message"] == waits).await;
    stack.anvil.mine_on_demand().await;

    servers.switch_over().await;
    let switched = Instant::now();

    let took = next_confirmation(&client, 3, switched).await;
    stack.client.wait_for_state(&pending.id, State::Confirmed).await;
    for service in [&stack.service, &other] {
        wait_for_readiness(service, 200, ServingStatus::Serving, 1.0).await;
        let log = service.log();
        let reports = log.iter().filter(|line| line["level"] == "ERROR").collect::<Vec<_>>();
        assert!(reports.len() == 1 && reports[0]["error"].as_str().unwrap().contains("only reads"), "{reports:#?}");
    }
    Client::connect(starting.until_serving().await.grpc).await.confirm(4, CASE).await;
    stack.registry.assert_registered_exactly((1..=4).map(|number| (document(number), CASE.to_owned()))).await;
    eprintln!("confirmed {took:?} after the switch-over");
    if took < RECOVERY_LIMIT { Ok(()) } else { Err(format!("confirmed after {took:?}")) }
}

#[tokio::test]
async fn replicas_recover_from_a_switch_over_whose_old_server_only_reads() {
    retry_timing("a confirmation after a switch-over", recover_from_a_read_only_server).await;
}

async fn recover_from_a_forgotten_server() -> Result<(), String> {
    let (servers, stack, _other, client) = replicas().await;
    stack.client.confirm(1, CASE).await;

    // The old server stays writable: it was not fenced.
    servers.promote().await;
    servers.address.switch_to(servers.new.socket());
    let switched = Instant::now();
    let (mut old, mut new) = (servers.connect_old().await, servers.connect_new().await);
    // Accepted meanwhile, maybe by the old server: then it is lost with it.
    for number in 2..5 {
        let _ = stack.client.register(register_request(number, CASE, WaitFor::Accepted)).await;
    }

    let used = "SELECT COUNT(DISTINCT pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> \
                pg_backend_pid() AND application_name = ''";
    eventually("the replicas to leave the old server", async || {
        let used: i64 = old.fetch_one(used).await.unwrap().get(0);
        (used == 0).then_some(())
    })
    .await;
    let took = next_confirmation(&client, 5, switched).await;
    for number in 2..6 {
        next_confirmation(&stack.client, number, switched).await;
    }
    let rows = "SELECT COUNT(*) FROM registrar.registrations WHERE state = 'confirmed'";
    let confirmed: i64 = new.fetch_one(rows).await.unwrap().get(0);
    assert_eq!(confirmed, 5, "the new server has all");
    stack.registry.assert_registered_exactly((1..=5).map(|number| (document(number), CASE.to_owned()))).await;
    eprintln!("confirmed {took:?} after the switch-over");
    if took < RECOVERY_LIMIT { Ok(()) } else { Err(format!("confirmed after {took:?}")) }
}

#[tokio::test]
async fn replicas_leave_a_server_that_their_address_no_longer_leads_to() {
    retry_timing("a confirmation after a switch-over", recover_from_a_forgotten_server).await;
}

/// An address that lists both servers, each behind a proxy of its own.
fn listed(servers: [&Cluster; 2]) -> ([TcpProxy; 2], String) {
    let proxies = servers.map(|server| TcpProxy::to(server.socket(), |port| format!("127.0.0.1:{port}")));
    let hosts = format!("{},{}", proxies[0].url, proxies[1].url);
    let url = postgres::url_at(&hosts, "postgres", "sslmode=disable&target_session_attrs=read-write");
    (proxies, url)
}

async fn follow_the_primary_among_listed_servers() -> Result<(), String> {
    let servers = ReplicatedServers::start().await;
    // The standby comes first: it can only be read.
    let ([_new, old], url) = listed([&servers.new, &servers.old]);
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", &url).start().await;
    wait_for_lease(&mut stack.service).await;
    let (other, client) = stack.replica().await;
    stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;
    let pending = stack.client.accept(2, CASE).await;
    stack.client.wait_for_state(&pending.id, State::Submitted).await;

    servers.promote().await;
    old.set_mode(TcpProxyMode::Refuse);
    let switched = Instant::now();
    stack.anvil.mine_on_demand().await;

    let took = next_confirmation(&client, 3, switched).await;
    stack.client.wait_for_state(&pending.id, State::Confirmed).await;
    for service in [&stack.service, &other] {
        wait_for_readiness(service, 200, ServingStatus::Serving, 1.0).await;
    }
    stack.restart().await;
    stack.client.confirm(4, CASE).await;
    stack.registry.assert_registered_exactly((1..=4).map(|number| (document(number), CASE.to_owned()))).await;
    eprintln!("confirmed {took:?} after the switch-over");
    if took < RECOVERY_LIMIT { Ok(()) } else { Err(format!("confirmed after {took:?}")) }
}

#[tokio::test]
async fn an_address_may_list_the_servers_of_which_one_is_the_primary() {
    retry_timing("a confirmation after a switch-over", follow_the_primary_among_listed_servers).await;
}

#[tokio::test]
async fn a_listed_server_with_another_database_is_never_used() {
    let (servers, foreign) = (ReplicatedServers::start().await, Cluster::prepare().start());
    drop(postgres::connect(&foreign.url_of("postgres")).await);
    let ([own, _foreign], url) = listed([&servers.old, &foreign]);
    let stack = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", &url).start().await;
    stack.client.confirm(1, CASE).await;

    own.set_mode(TcpProxyMode::Refuse);
    wait_for_readiness(&stack.service, 503, ServingStatus::NotServing, 0.0).await;
    let refused = stack.client.register(register_request(2, CASE, WaitFor::Accepted)).await.unwrap_err();
    assert_eq!(refused.kind(), (Code::Unavailable, "STORE_UNAVAILABLE"));
    own.set_mode(TcpProxyMode::Forward);

    wait_for_readiness(&stack.service, 200, ServingStatus::Serving, 1.0).await;
    stack.client.confirm(2, CASE).await;
    let mut foreign = postgres::connect(&foreign.url_of("postgres")).await;
    let ours = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'registrar'";
    assert!(foreign.fetch_optional(ours).await.unwrap().is_none(), "the other database was written to");
}
