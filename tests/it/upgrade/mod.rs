//! Upgrades: databases of earlier versions of the schema, and replicas under which a later version upgrades theirs.

mod commands;
mod rolling;

use crate::harness::{
    Client, Database, Service, State, document,
    earlier_version::{EarlierVersion, fixtures},
    postgres::program,
    service::Settings,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Stdio,
};
use tempfile::TempDir;

/// The versions of the schema that binaries were made with.
const VERSIONS: [u32; 2] = [8, 13];
const USER: &str = "user-1";

/// The service finishes the work in flight and knows everything else as before.
async fn assert_continues(left: EarlierVersion, settings: &Settings) {
    let mut states = BTreeMap::new();
    for registration in left.registrations.values() {
        *states.entry(registration["state"].as_str().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(states, BTreeMap::from([("STATE_CONFIRMED", 3), ("STATE_SUBMITTED", 1), ("STATE_QUEUED", 1)]));
    let service = Service::start(settings).await;
    let client = Client::connect(service.grpc).await;
    let mut pairs = Vec::new();
    for (id, before) in &left.registrations {
        let now = client.wait_for_state(id, State::Confirmed).await;
        assert_eq!(before["documentHash"], now.document_hash.as_str());
        assert_eq!(before["caseId"], now.case_id.as_str());
        assert_eq!(now.user_id, USER);
        // What was signed is what is sent.
        if let Some(hash) = before["transaction"]["hash"].as_str() {
            assert_eq!(now.transaction.unwrap().hash, hash, "{before}");
        }
        pairs.push((now.document_hash, now.case_id));
    }
    let new = client.confirm(6, "UPGRADE-2").await;
    pairs.push((document(6), new.case_id));
    left.registry.assert_registered_exactly(pairs).await;
    let ids: BTreeSet<_> = left.registrations.into_keys().chain([new.id]).collect();
    let listed = client.list(Default::default()).await.unwrap().registrations;
    assert_eq!(listed.into_iter().map(|registration| registration.id).collect::<BTreeSet<_>>(), ids);
    let mut changes = client.all_changes().await;
    while changes.seen.revisions.len() < ids.len() {
        changes.next_change().await;
    }
    // What was in flight was accepted long ago: each is reported as late, with its cause.
    let is_error = |line: &Value| line["level"] == "ERROR" && line["cause"].is_null();
    let errors: Vec<_> = service.log().into_iter().filter(is_error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
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
    let versions = fs::read_dir(migrations).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    let newest = versions.map(|name| name[..4].parse::<u32>().unwrap()).max().unwrap();
    assert!(found.contains(&newest), "version {newest} has no database: run tests/upgrade/make_fixture.py");
}

#[tokio::test]
async fn sqlite_files_of_earlier_versions_are_upgraded_with_work_in_flight() {
    for version in VERSIONS {
        let left = EarlierVersion::load(version, "sqlite").await;
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("registrar.db");
        left.write_sqlite(&file).await;
        let settings = left.settings(&file);
        assert_continues(left, &settings).await;
    }
}

#[tokio::test]
async fn postgresql_databases_of_earlier_versions_are_upgraded_with_work_in_flight() {
    for version in VERSIONS {
        let left = EarlierVersion::load(version, "postgres").await;
        let url = Database::new().await.url();
        let dump = left.dump();
        let arguments = ["--quiet", "--set=ON_ERROR_STOP=1", "--file", dump.to_str().unwrap(), &url];
        assert!(program("psql").args(arguments).stdout(Stdio::null()).status().unwrap().success());
        let settings = left.settings(Path::new("unused")).set("REGISTRAR_DATABASE_URL", url);
        assert_continues(left, &settings).await;
    }
}
