//! What a killed service of an earlier version left: `tests/upgrade/make_fixture.py` has written its database, with a
//! binary of that version, and the chain it was on.

use super::{anvil::Anvil, registry::Registry, service::Settings};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade")
}

pub struct EarlierVersion {
    pub anvil: Anvil,
    pub registry: Registry,
    /// As it reported them, by id.
    pub registrations: BTreeMap<String, Value>,
    directory: PathBuf,
}

impl EarlierVersion {
    pub async fn load(version: u32, engine: &str) -> Self {
        let directory = fixtures().join(format!("schema-{version:02}")).join(engine);
        let left: Value = serde_json::from_slice(&fs::read(directory.join("left.json")).unwrap()).unwrap();
        let chain = directory.join("chain.json");
        let anvil = Anvil::start(&["--load-state", chain.to_str().unwrap()]).await;
        let registry = Registry::at(&anvil, left["contract"].as_str().unwrap().parse().unwrap());
        let registrations = left["registrations"].as_array().unwrap().iter();
        let registrations = registrations.map(|one| (one["id"].as_str().unwrap().to_owned(), one.clone())).collect();
        Self { anvil, registry, registrations, directory }
    }

    /// Its database, as SQL.
    pub fn dump(&self) -> PathBuf {
        self.directory.join("database.sql")
    }

    /// Creates its SQLite file.
    pub async fn write_sqlite(&self, file: &Path) {
        run_on_sqlite(file, fs::read_to_string(self.dump()).unwrap()).await;
    }

    pub fn settings(&self, database: &Path) -> Settings {
        Settings::new(self.anvil.url(), &self.registry, 1, database)
    }
}

/// Runs the statements on the file, and creates it if it is missing.
pub async fn run_on_sqlite(file: &Path, statements: String) {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(AssertSqlSafe(statements)).await.unwrap();
    connection.close().await.unwrap();
}
