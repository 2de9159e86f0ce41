//! Versions of the schema, and the tables that belong to it.

use super::OpenError;
use sqlx::{
    SqlSafeStr,
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

pub(super) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.into_iter().map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator { migrations: migrations.collect(), ..Migrator::DEFAULT }
}

pub(super) fn reject_foreign_tables(names: &[String]) -> Result<(), OpenError> {
    match names.iter().find(|name| !TABLES.contains(&name.as_str())) {
        Some(foreign) => Err(OpenError::Foreign(foreign.clone())),
        None => Ok(()),
    }
}
