//! A fresh database of either engine for one test.

use super::Settings;
use server::Database;
use tempfile::TempDir;

#[path = "../../tests/it/harness/postgres.rs"]
#[allow(dead_code, reason = "the integration tests use all of it")]
pub(super) mod server;

pub(super) enum TestDatabase {
    /// The file is deleted with its directory.
    Sqlite(TempDir),
    Postgres(Database),
}

impl TestDatabase {
    /// Of the engine in the module's name: the suite is compiled once for each.
    pub(super) async fn for_suite(module: &str) -> Self {
        if module.ends_with("on_postgres") { Self::postgres().await } else { Self::sqlite() }
    }

    pub(super) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(super) async fn postgres() -> Self {
        Self::Postgres(Database::new().await)
    }

    pub(super) fn settings(&self) -> Settings {
        match self {
            Self::Sqlite(folder) => Settings::Sqlite(folder.path().join("r.db")),
            Self::Postgres(database) => Settings::Postgres(database.url()),
        }
    }
}
