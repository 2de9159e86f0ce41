//! Upgrades: databases of earlier versions of the schema, and replicas under which another one upgrades theirs.
//!
//! `tests/upgrade/make_fixture.py` has written each database, with a binary of its version, and the chain it was on.

mod rolling;

use crate::harness::{
    Anvil, Client, Database, Registry, Service, State, change_feed::Message, document, service::Settings, wait::within,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The versions of the schema that binaries were released with.
const VERSIONS: [u32; 2] = [8, 13];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade")
}

/// What a service left when it was killed.
struct Left {
    anvil: Anvil,
    registry: Registry,
    /// As it reported them, by id.
    registrations: BTreeMap<String, Value>,
    directory: PathBuf,
}

impl Left {
    async fn load(version: u32, engine: &str) -> Self {
        let directory = fixtures().join(format!("schema-{version:02}")).join(engine);
        let left: Value = serde_json::from_slice(&fs::read(directory.join("left.json")).unwrap()).unwrap();
        let chain = directory.join("chain.json");
        let anvil = Anvil::start(&["--load-state", chain.to_str().unwrap()]).await;
        let registry = Registry::at(&anvil, left["contract"].as_str().unwrap().parse().unwrap());
        let registrations = left["registrations"].as_array().unwrap().iter();
        let registrations = registrations.map(|one| (one["id"].as_str().unwrap().to_owned(), one.clone())).collect();
        Self { anvil, registry, registrations, directory }
    }

    fn dump(&self) -> String {
        fs::read_to_string(self.directory.join("database.sql")).unwrap()
    }

    fn settings(&self, database: &Path) -> Settings {
        Settings::new(self.anvil.url(), &self.registry, 1, database)
    }

    fn in_state(&self, state: &str) -> usize {
        self.registrations.values().filter(|registration| registration["state"] == state).count()
    }

    /// The service finishes the work in flight and knows everything else as before.
    async fn assert_continues(self, settings: &Settings) {
        for (state, count) in [("CONFIRMED", 3), ("SUBMITTED", 1), ("QUEUED", 1)] {
            assert_eq!(self.in_state(state), count, "{:?}", self.registrations);
        }
        let service = Service::start(settings).await;
        let client = Client::connect(service.grpc).await;
        for (id, before) in &self.registrations {
            let now = client.wait_for_state(id, State::Confirmed).await;
            assert_eq!(
                (&*now.document_hash, &*now.case_id, &*now.user_id),
                (
                    before["documentHash"].as_str().unwrap(),
                    before["caseId"].as_str().unwrap(),
                    // Earlier versions stored it and did not report it.
                    before["userId"].as_str().unwrap_or("user-1"),
                )
            );
            // What was signed is what is sent.
            if let Some(hash) = before["transaction"]["hash"].as_str() {
                assert_eq!(now.transaction.unwrap().hash, hash, "{before}");
            }
        }
        let new = client.confirm(6, "UPGRADE-2").await;
        let listed = client.list(Default::default()).await.unwrap().registrations;
        let ids: BTreeSet<_> = listed.into_iter().map(|registration| registration.id).collect();
        assert_eq!(ids, self.registrations.keys().cloned().chain([new.id.clone()]).collect());
        let mut changes = client.all_changes().await;
        while changes.seen.revisions.len() < ids.len() {
            let message = within("the feed", changes.next()).await;
            assert!(matches!(message, Some(Ok(Message::Changed(_) | Message::Checkpoint(_)))), "{message:?}");
        }
        let pairs = self.registrations.values();
        let pairs = pairs.map(|one| (one["documentHash"].as_str().unwrap(), one["caseId"].as_str().unwrap()));
        let pairs = pairs.map(|(hash, case)| (hash.to_owned(), case.to_owned()));
        self.registry.assert_registered_exactly(pairs.chain([(document(6), "UPGRADE-2".to_owned())])).await;
        let warnings: Vec<_> = service.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}

/// Creates the file.
async fn load_sqlite(file: &Path, dump: String) {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute(AssertSqlSafe(dump)).await.unwrap();
    connection.close().await.unwrap();
}

#[test]
fn every_version_has_its_databases() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(fixtures()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(version) = name.strip_prefix("schema-") else { continue };
        for engine in ["sqlite", "postgres"] {
            assert!(entry.path().join(engine).join("database.sql").is_file(), "{name}/{engine}");
        }
        found.insert(version.parse::<u32>().unwrap());
    }
    assert_eq!(found, VERSIONS.into());
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
    let newest = fs::read_dir(migrations).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let newest = newest.map(|name| name[..4].parse::<u32>().unwrap()).max().unwrap();
    assert!(found.contains(&newest), "version {newest} has no database: run tests/upgrade/make_fixture.py");
}

#[tokio::test]
async fn sqlite_files_of_earlier_versions_are_upgraded_with_work_in_flight() {
    for version in VERSIONS {
        let left = Left::load(version, "sqlite").await;
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("registrar.db");
        load_sqlite(&file, left.dump()).await;
        let settings = left.settings(&file);
        left.assert_continues(&settings).await;
    }
}

#[tokio::test]
async fn postgresql_databases_of_earlier_versions_are_upgraded_with_work_in_flight() {
    for version in VERSIONS {
        let left = Left::load(version, "postgres").await;
        let database = Database::new().await;
        database.run(&left.dump()).await;
        let settings = left.settings(Path::new("unused")).set("REGISTRAR_DATABASE_URL", database.url());
        left.assert_continues(&settings).await;
    }
}
