//! Versions of the schema, and the tables that belong to it.

use super::OpenError;
use sqlx::{
    AnyConnection, Row, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};
use std::borrow::Cow;

/// Any other table makes a database foreign.
pub(super) const TABLES: [&str; 11] = [
    "registries",
    "registrations",
    "transactions",
    "registration_transactions",
    "attempts",
    "leases",
    "write_probes",
    "caller_usage",
    "feed_histories",
    "delay_episodes",
    "_sqlx_migrations",
];

/// Released migrations are never edited: a database stores the checksum of each text.
const MIGRATIONS: [(i64, &str, &str); 13] = [
    (1, "init", include_str!("migrations/0001_init.sql")),
    (2, "tracestate", include_str!("migrations/0002_tracestate.sql")),
    (3, "leases", include_str!("migrations/0003_leases.sql")),
    (4, "claims", include_str!("migrations/0004_claims.sql")),
    (5, "spending", include_str!("migrations/0005_spending.sql")),
    (6, "growth", include_str!("migrations/0006_growth.sql")),
    (7, "remembered", include_str!("migrations/0007_remembered.sql")),
    (8, "worst cost", include_str!("migrations/0008_worst_cost.sql")),
    (9, "write probes", include_str!("migrations/0009_write_probes.sql")),
    (10, "callers", include_str!("migrations/0010_callers.sql")),
    (11, "change feed", include_str!("migrations/0011_change_feed.sql")),
    (12, "find", include_str!("migrations/0012_find.sql")),
    (13, "delays", include_str!("migrations/0013_delays.sql")),
];
const LATEST_VERSION: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

pub(super) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.into_iter().map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator { migrations: migrations.collect(), ..Migrator::DEFAULT }
}

/// The version of the schema; 0 in a new database, and in one of something else.
pub(super) async fn version(connection: &mut AnyConnection, tables: &[String]) -> Result<i64, sqlx::Error> {
    let has = |name: &str| tables.iter().any(|table| table == name);
    // Other programs use the same library.
    if !has("registries") || !has("_sqlx_migrations") {
        return Ok(0);
    }
    let newest = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(connection).await?;
    Ok(newest.try_get::<Option<i64>, _>(0)?.unwrap_or_default())
}

/// Refuses a database of a later version, and one of something else.
pub(super) fn check_owner(version: i64, tables: &[String]) -> Result<(), OpenError> {
    if version > LATEST_VERSION {
        return Err(OpenError::LaterVersion { found: version, known: LATEST_VERSION });
    }
    reject_foreign_tables(tables)
}

fn reject_foreign_tables(names: &[String]) -> Result<(), OpenError> {
    match names.iter().find(|name| !TABLES.contains(&name.as_str())) {
        Some(foreign) => Err(OpenError::Foreign(foreign.clone())),
        None => Ok(()),
    }
}
