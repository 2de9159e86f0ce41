//! The commands of the guides for backup and restore, run as they are printed.

use crate::{
    documents::{code_blocks, read, section},
    harness::{CASE, Database, StackBuilder, State, TestStack, document, postgres::program},
};
use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

/// The blocks of shell commands of a section.
fn commands(page: &str, heading: &str) -> Vec<String> {
    code_blocks(section(&read(page), heading), "sh").into_iter().map(str::to_owned).collect()
}

fn run(commands: &str, directory: &Path, variables: &[(&str, &str)]) {
    let postgres = Path::new(program("psql").get_program()).parent().unwrap().to_owned();
    let path = env::join_paths([postgres].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", commands]).current_dir(directory).env("PATH", path);
    let output = shell.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{commands}\n{}", String::from_utf8_lossy(&output.stderr));
}

async fn stop(stack: &mut TestStack) {
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
}

/// Backs up between two registrations, restores, and expects both.
async fn backup_and_restore(mut stack: TestStack, backup: &str, restore: &str, variables: &[(&str, &str)]) {
    let directory = stack.database().parent().unwrap().to_owned();
    let before = stack.client.confirm(1, CASE).await;
    run(backup, &directory, variables);
    let after = stack.client.confirm(2, CASE).await.transaction.unwrap();
    stop(&mut stack).await;

    run(restore, &directory, variables);
    stack.restart().await;

    assert_eq!(stack.client.get(&before.id).await.unwrap().state(), State::Confirmed);
    let listed = stack.client.list(Default::default()).await.unwrap().registrations;
    assert!(listed.iter().any(|registration| registration.id == before.id));
    assert_eq!(stack.client.confirm(2, CASE).await.transaction.unwrap().hash, after.hash);
    stack.registry.assert_registered_exactly((1..=2).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn an_sqlite_file_is_backed_up_and_restored() {
    let commands = commands("docs/guides/operate.md", "## Backup and restore");
    let [backup, restore] = &commands[..] else { panic!("{commands:?}") };
    backup_and_restore(StackBuilder::on_demand().start().await, backup, restore, &[]).await;
}

#[tokio::test]
async fn a_postgresql_database_is_backed_up_and_restored() {
    let commands = commands("docs/guides/postgres.md", "## Backup");
    let [backup, restore] = &commands[..] else { panic!("{commands:?}") };
    let url = Database::new().await.url();
    let stack = StackBuilder::on_demand().set("REGISTRAR_DATABASE_URL", &url).start().await;
    backup_and_restore(stack, backup, restore, &[("DATABASE_URL", &url)]).await;
}
