//! A later version upgrades the database under running replicas of this one.

use crate::harness::{CASE, Database, StackBuilder, Starting, State, document, earlier_version::run_on_sqlite};
use sqlx::{AssertSqlSafe, Executor};

/// What a migration may do, by the rule of the guide: add a column, a table and an index.
const NEXT_VERSION: &str = "ALTER TABLE registrations ADD COLUMN from_a_later_version TEXT;
    ALTER TABLE transactions ADD COLUMN from_a_later_version BIGINT NOT NULL DEFAULT 0;
    CREATE TABLE from_a_later_version (id BIGINT PRIMARY KEY);
    CREATE INDEX of_a_later_version ON registrations (from_a_later_version);";
const LATER_VERSION: &str = "of a later release";

fn record_version(succeeded: &str, checksum: &str) -> String {
    format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'from a later version', {succeeded}, {checksum}, 1);"
    )
}

#[tokio::test]
async fn replicas_continue_while_a_later_version_upgrades_their_database() {
    let database = Database::new().await;
    let stack = StackBuilder::block_time(0.2).set("REGISTRAR_DATABASE_URL", database.url()).start().await;
    let (_replica, other) = stack.replica().await;
    // Statements are prepared before the upgrade.
    stack.client.confirm(1, CASE).await;
    other.confirm(2, CASE).await;
    let in_flight = stack.client.accept(3, CASE).await.id;

    let upgrade = format!("SET search_path = registrar; {NEXT_VERSION} {}", record_version("true", "'\\x00'"));
    // A start that meets a deadlock with the replicas' writes repeats the migration.
    let mut connection = database.connect().await;
    while let Err(error) = connection.execute(AssertSqlSafe(upgrade.clone())).await {
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("40P01"), "{error}");
    }

    stack.client.wait_for_state(&in_flight, State::Confirmed).await;
    for (number, client) in [(4, &stack.client), (5, &other), (6, &stack.client), (7, &other)] {
        client.confirm(number, CASE).await;
    }
    for client in [&stack.client, &other] {
        assert_eq!(client.list(Default::default()).await.unwrap().registrations.len(), 7);
        assert_eq!(client.get(&in_flight).await.unwrap().state(), State::Confirmed);
    }
    stack.registry.assert_registered_exactly((1..=7).map(|number| (document(number), CASE.to_owned()))).await;

    // A replica of this version cannot start on it any more.
    let refused = Starting::new(&stack.settings).until_exit().await;
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.output.contains(LATER_VERSION), "{refused:?}");
    assert!(refused.output.contains("version 999"), "{refused:?}");
}

#[tokio::test]
async fn an_sqlite_file_of_a_later_version_is_refused_and_not_changed() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
    let file = stack.database();
    run_on_sqlite(&file, format!("{NEXT_VERSION} {}", record_version("1", "X'00'"))).await;
    let before = std::fs::read(&file).unwrap();

    let refused = Starting::new(&stack.settings).until_exit().await;

    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.output.contains(LATER_VERSION), "{refused:?}");
    assert!(std::fs::read(&file).unwrap() == before, "the file was changed");
    // As the advice says: the version that upgraded it can still be started.
    run_on_sqlite(
        &file,
        "DELETE FROM _sqlx_migrations WHERE version = 999; DROP TABLE from_a_later_version;".to_owned(),
    )
    .await;
    stack.restart().await;
    stack.client.confirm(2, CASE).await;
}
