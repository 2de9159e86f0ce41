//! A backup with PostgreSQL's own tools while the service runs.

use super::CASE;
use crate::harness::{Database, StackBuilder, State, document, postgres::program};
use std::process::Stdio;

#[tokio::test]
async fn a_dump_of_a_running_service_can_be_restored() {
    let database = Database::new().await;
    let url = database.url();
    let mut stack = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", &url).start().await;
    let before = stack.client.confirm(1, CASE).await;
    let dump = program("pg_dump").args(["--schema=registrar", &url]).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let after = stack.client.confirm(2, CASE).await.transaction.unwrap();
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);

    database.run("DROP SCHEMA registrar CASCADE").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.sql");
    std::fs::write(&file, dump.stdout).unwrap();
    let arguments = ["--quiet", "--set=ON_ERROR_STOP=1", "--file", file.to_str().unwrap(), &url];
    assert!(program("psql").args(arguments).stdout(Stdio::null()).status().unwrap().success());
    stack.restart().await;

    assert_eq!(stack.client.get(&before.id).await.unwrap().state(), State::Confirmed);
    assert_eq!(stack.client.confirm(2, CASE).await.transaction.unwrap().hash, after.hash);
    stack.client.confirm(3, CASE).await;
    stack.registry.assert_registered_exactly((1..=3).map(|number| (document(number), CASE.to_owned()))).await;
}
