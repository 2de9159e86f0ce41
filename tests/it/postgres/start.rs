//! A start that cannot use its database waits for what may come by itself, and says of the rest what to mend, and never the password.

use super::CASE;
use crate::harness::{
    Client, Database, Line, LineCondition, Plan, Service, Starting,
    postgres::{Cluster, PASSWORDS},
    service::Settings,
};

/// The exit code and the words that are to be said.
pub(super) async fn refused_on(settings: &Settings, database: &str) -> (i32, String) {
    let refused = Service::refused(&settings.clone().set("REGISTRAR_DATABASE_URL", database)).await;
    assert!(!PASSWORDS.iter().any(|password| refused.said.contains(password)), "{}", refused.said);
    assert!(refused.said.contains("REGISTRAR_DATABASE_URL"), "{}", refused.said);
    (refused.code, refused.said)
}

async fn refused(database: &str) -> (i32, String) {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    refused_on(&settings, database).await
}

/// Returns when it says that it waits for its database.
async fn waits(starting: &mut Starting) {
    let message = "waiting for the database server of REGISTRAR_DATABASE_URL";
    starting.logged(message, |line| line["message"] == message && line["level"] == "WARN").await;
}

#[tokio::test]
async fn a_server_that_does_not_come_is_given_up_and_no_fault_of_the_settings() {
    let database = Database::new().await;
    let (code, said) = refused(&database.url_by(1)).await;
    assert!(said.contains("cannot be reached"), "{said}");
    assert_eq!(code, 1);
    // Once for each reason, however often it tried.
    assert!((1..=3).contains(&said.matches("waiting for the database server").count()), "{said}");
}

#[tokio::test]
async fn what_the_server_refuses_is_a_fault_of_the_settings() {
    let database = Database::new().await;
    database.run("CREATE ROLE other LOGIN PASSWORD 'other'").await;
    for (url, words) in [
        (database.url_as("other", PASSWORDS[1]), "user or the password"),
        (database.url_as("other", "other"), "CREATE SCHEMA registrar"),
        (database.url().replace("/test_", "/absent_"), "createdb"),
    ] {
        let (code, said) = refused(&url).await;
        assert!(said.contains(words), "{said}");
        assert_eq!(code, 64, "{said}");
    }
}

#[tokio::test]
async fn a_start_waits_for_a_server_that_is_still_on_its_way() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let cluster = Cluster::prepare();
    let mut starting = Starting::of(&settings.set("REGISTRAR_DATABASE_URL", cluster.url_of("postgres")));
    waits(&mut starting).await;

    let _cluster = cluster.start();

    let mut service = starting.serves().await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
    service.terminate();
    assert_eq!(service.exit_code().await, 0);
}

#[tokio::test]
async fn a_start_waits_while_the_database_cannot_be_reached() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let line = Line::to(&Database::new().await);
    line.becomes(LineCondition::Cut);
    let mut starting = Starting::of(&settings.set("REGISTRAR_DATABASE_URL", &line.url));
    waits(&mut starting).await;

    line.becomes(LineCondition::Sound);

    let service = starting.serves().await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
}

#[tokio::test]
async fn a_start_waits_while_the_server_has_too_many_guests() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let database = Database::new().await;
    database.run("CREATE ROLE guest LOGIN PASSWORD 'welcome' CONNECTION LIMIT 0").await;
    database.run("CREATE SCHEMA registrar AUTHORIZATION guest").await;
    let mut starting = Starting::of(&settings.set("REGISTRAR_DATABASE_URL", database.url_as("guest", "welcome")));
    waits(&mut starting).await;

    database.run("ALTER ROLE guest CONNECTION LIMIT -1").await;

    let service = starting.serves().await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
}

#[tokio::test]
async fn a_start_that_waits_for_its_database_ends_well_when_it_is_told_to() {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let line = Line::to(&Database::new().await);
    // Nobody answers, and nobody hangs up: a try would take seconds.
    for condition in [LineCondition::Cut, LineCondition::Silent] {
        line.becomes(condition);
        let mut starting = Starting::of(&settings.clone().set("REGISTRAR_DATABASE_URL", &line.url));
        match condition {
            LineCondition::Silent => line.called().await,
            LineCondition::Cut | LineCondition::Sound | LineCondition::LosesCommits => waits(&mut starting).await,
        }

        starting.terminate();

        let ended = starting.ends().await;
        assert_eq!(ended.code, 0, "{}", ended.said);
    }
}
