//! PgBouncer between the service and the server: works when it pools by session, and is refused by name otherwise.

use super::{CASE, start::failed_start_with, wait_for_lease};
use crate::harness::{Client, Database, PgBouncer, Service, StackBuilder, State, document};

#[tokio::test]
async fn pgbouncer_in_session_mode_serves_two_replicas() {
    let database = Database::new().await;
    let pooler = PgBouncer::start("pool_mode = session\nignore_startup_parameters = extra_float_digits").await;
    let builder = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", database.url_by(pooler.port));
    let mut stack = builder.start().await;
    wait_for_lease(&mut stack.service).await;
    let (mut other, client) = stack.replica().await;
    for number in 1..=3 {
        let confirmed = client.confirm(number, CASE).await;
        assert_eq!(stack.client.get(&confirmed.id).await.unwrap(), confirmed);
    }
    stack.anvil.stop_mining().await;
    let pending = client.accept(4, CASE).await;
    client.wait_for_state(&pending.id, State::Submitted).await;

    // The pooler frees the advisory locks of a client that is gone.
    stack.service.kill();

    wait_for_lease(&mut other).await;
    stack.anvil.mine_on_demand().await;
    client.wait_for_state(&pending.id, State::Confirmed).await;
    stack.registry.assert_registered_exactly((1..=4).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_pooler_that_cannot_serve_is_refused_with_the_setting_to_change() {
    let database = Database::new().await;
    let (_dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let ignore = "ignore_startup_parameters = extra_float_digits";
    for (configuration, words) in [
        ("pool_mode = session".to_owned(), "ignore_startup_parameters = extra_float_digits"),
        (format!("pool_mode = transaction\n{ignore}"), "pool_mode = session"),
        (format!("pool_mode = transaction\n{ignore}\nserver_round_robin = 1"), "pool_mode = session"),
        (format!("pool_mode = statement\n{ignore}"), "pool_mode = session"),
    ] {
        let pooler = PgBouncer::start(&configuration).await;
        let (code, output) = failed_start_with(&settings, &database.url_by(pooler.port)).await;
        assert!(output.contains(words), "{configuration}: {output}");
        assert_eq!(code, 64, "{configuration}: {output}");
    }
    // Nothing was left behind.
    let service = Service::start(&settings.set("REGISTRAR_DATABASE_URL", database.url())).await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
}
