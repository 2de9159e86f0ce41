//! A start that cannot use its database says what to mend, and never the password.

use crate::harness::{Database, Plan, Service, postgres::PASSWORDS};

/// The exit code and the words that are to be said.
async fn refused(database: &str) -> (i32, String) {
    let (_ground, settings) = Plan::on_demand().prepare().await;
    let refused = Service::refused(&settings.set("REGISTRAR_DATABASE_URL", database)).await;
    assert!(!PASSWORDS.iter().any(|password| refused.said.contains(password)), "{}", refused.said);
    assert!(refused.said.contains("REGISTRAR_DATABASE_URL"), "{}", refused.said);
    (refused.code, refused.said)
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_fault_of_the_settings() {
    let database = Database::new().await;
    let (code, said) = refused(&database.url_by(1)).await;
    assert!(said.contains("cannot be reached"), "{said}");
    assert_eq!(code, 1);
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
