//! A fresh database of either engine for one test.

use super::Settings;
use server::Database;
use tempfile::TempDir;

#[path = "../../tests/it/harness/postgres.rs"]
#[allow(dead_code, reason = "the integration tests use all of it")]
pub(super) mod server;

/// What a store stands on.
pub(super) enum TestDatabase {
    /// A file, gone with its folder.
    Sqlite(TempDir),
    /// A database in the cluster of this test process.
    Postgres(Database),
}

impl TestDatabase {
    /// The engine's that the module is named for: the suite is compiled once for each.
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
