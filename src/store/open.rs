//! Opening a database: its engine, the version of its schema, and whose it is.

use super::{OpenError, Settings, Store, StoreError, engine::Engine, lease::Leases, postgres, sqlite};
use crate::registration::Timestamp;
use alloy::primitives::{Address, B256};
use sqlx::{
    Any, Executor, Row, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};
use std::{
    borrow::Cow,
    sync::{Arc, atomic::AtomicU64},
};

/// Our tables; every other one makes a database foreign.
pub(super) const TABLES: [&str; 7] = [
    "registries",
    "registrations",
    "transactions",
    "registration_transactions",
    "attempts",
    "leases",
    "_sqlx_migrations",
];
/// Which registry a store belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registry {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Hash of block 0: tells one anvil from the next.
    pub genesis_hash: B256,
    /// The DocumentRegistry.
    pub contract: Address,
    /// The block that deployed it.
    pub deploy_block_number: u64,
    /// That block's hash.
    pub deploy_block_hash: B256,
}

/// The store belongs to another chain or contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database belongs to another {what}: it was made for {stored}, and this is {actual}. Give another \
     REGISTRAR_DATABASE_URL, or point the settings back at the old {what}{hint}"
)]
pub struct RegistryMismatch {
    what: &'static str,
    stored: String,
    actual: String,
    hint: &'static str,
}

impl Store {
    /// Opens the database, makes it when absent, and brings its schema up to date.
    ///
    /// # Errors
    /// When another process has it, it cannot be reached or written, or it is not ours.
    pub async fn open(settings: &Settings, queue_limit: u64) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let (engine, writer, reader) = match settings {
            Settings::Sqlite(path) => sqlite::open(path).await?,
            Settings::Postgres(url) => postgres::open(url).await?,
            #[cfg(test)]
            Settings::SharedFile(path) => super::shared_sqlite_for_tests::open(path).await?,
        };
        let leases = match &engine {
            Engine::Sqlite { .. } => Leases::single_process(),
            Engine::Postgres { options, .. } => Leases::shared(PgConnectOptions::clone(options)),
            #[cfg(test)]
            Engine::SharedFile(holder) => Leases::shared_file(*holder),
        };
        let unfinished = count_unfinished(&reader).await?;
        Ok(Self {
            writer,
            reader,
            unfinished: Arc::new(AtomicU64::new(unfinished)),
            queue_limit,
            leases: Arc::new(leases),
            budget_lock: Arc::default(),
            engine: Arc::new(engine),
            display_name: settings.display_name().into(),
        })
    }

    /// Ties a fresh store to its registry, and proves that an older one belongs to it.
    ///
    /// # Errors
    /// [`OtherRegistry`] when it belongs to another.
    pub async fn bind_registry(&self, registry: &Registry, now: Timestamp) -> Result<(), OpenError> {
        sqlx::query(
            "INSERT INTO registries SELECT $1, $2, $3, $4, $5, $6 WHERE NOT EXISTS (SELECT 1 FROM registries) \
             ON CONFLICT DO NOTHING",
        )
        .bind(registry.chain_id.cast_signed())
        .bind(registry.genesis_hash.to_vec())
        .bind(registry.contract.to_vec())
        .bind(registry.deploy_block_number.cast_signed())
        .bind(registry.deploy_block_hash.to_vec())
        .bind(now.micros())
        .execute(&self.writer)
        .await?;
        // Two replicas with different settings may have begun at the same moment: every row has to be the same registry.
        let stored = sqlx::query(
            "SELECT chain_id, genesis_hash, contract_address, deploy_block_number, deploy_block_hash FROM registries \
             ORDER BY created_at",
        )
        .fetch_all(&self.writer)
        .await?;
        for row in stored {
            let stored = Registry {
                chain_id: row.try_get::<i64, _>(0)?.cast_unsigned(),
                genesis_hash: fixed_bytes(row.try_get(1)?)?,
                contract: fixed_bytes(row.try_get(2)?)?,
                deploy_block_number: row.try_get::<i64, _>(3)?.cast_unsigned(),
                deploy_block_hash: fixed_bytes(row.try_get(4)?)?,
            };
            ensure_same_registry(&stored, registry)?;
        }
        Ok(())
    }
}

fn ensure_same_registry(stored: &Registry, actual: &Registry) -> Result<(), RegistryMismatch> {
    let differ = |what, stored: String, actual: String, hint| Err(RegistryMismatch { what, stored, actual, hint });
    if stored.chain_id != actual.chain_id {
        return differ("chain", format!("chain {}", stored.chain_id), format!("chain {}", actual.chain_id), "");
    }
    if stored.genesis_hash != actual.genesis_hash {
        let hint = " (a restarted anvil is a new chain)";
        return differ(
            "chain",
            format!("genesis {}", stored.genesis_hash),
            format!("genesis {}", actual.genesis_hash),
            hint,
        );
    }
    if stored.contract != actual.contract {
        return differ("contract", stored.contract.to_string(), actual.contract.to_string(), "");
    }
    if stored.deploy_block_hash != actual.deploy_block_hash {
        let text = |r: &Registry| format!("one deployed in block {} ({})", r.deploy_block_number, r.deploy_block_hash);
        return differ("contract", text(stored), text(actual), "");
    }
    Ok(())
}

/// Refuses tables that are not ours.
pub(super) fn reject_foreign_tables(names: &[String]) -> Result<(), OpenError> {
    match names.iter().find(|name| !TABLES.contains(&name.as_str())) {
        Some(foreign) => Err(OpenError::Foreign(foreign.clone())),
        None => Ok(()),
    }
}

/// Every version of the schema, by number. What has been released stays as it is: a database remembers each text by its hash.
const MIGRATIONS: [(i64, &str, &str); 8] = [
    (1, "init", include_str!("migrations/0001_init.sql")),
    (2, "tracestate", include_str!("migrations/0002_tracestate.sql")),
    (3, "leases", include_str!("migrations/0003_leases.sql")),
    (4, "claims", include_str!("migrations/0004_claims.sql")),
    (5, "spending", include_str!("migrations/0005_spending.sql")),
    (6, "growth", include_str!("migrations/0006_growth.sql")),
    (7, "remembered", include_str!("migrations/0007_remembered.sql")),
    (8, "worst cost", include_str!("migrations/0008_worst_cost.sql")),
];

pub(super) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.into_iter().map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator { migrations: migrations.collect(), ..Migrator::DEFAULT }
}

/// How many registrations are neither confirmed nor failed.
pub(super) const COUNT_UNFINISHED_SQL: &str =
    "SELECT COUNT(*) FROM registrations WHERE state IN ('queued', 'signed', 'submitted', 'included')";

pub(super) async fn count_unfinished<'c>(asked: impl Executor<'c, Database = Any>) -> Result<u64, sqlx::Error> {
    let row = sqlx::query(COUNT_UNFINISHED_SQL).fetch_one(asked).await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}

/// The bytes of a column as a value of fixed size.
pub(super) fn fixed_bytes<T: for<'a> TryFrom<&'a [u8]>>(column: Vec<u8>) -> Result<T, StoreError> {
    T::try_from(&column).map_err(|_| StoreError::corrupt(format!("{} bytes where another length stands", column.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry {
            chain_id: 31337,
            genesis_hash: B256::repeat_byte(1),
            contract: Address::repeat_byte(2),
            deploy_block_number: 3,
            deploy_block_hash: B256::repeat_byte(4),
        }
    }

    #[tokio::test]
    async fn a_database_of_an_earlier_release_is_brought_up_to_date_and_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.db");
        let settings = Settings::Sqlite(path.clone());
        sqlx::any::install_default_drivers();
        let earlier = sqlite::connect(&format!("sqlite://{}?mode=rwc", path.display()), 1).await.unwrap();
        let mut first = migrator();
        first.migrations.to_mut().truncate(1);
        first.run(&earlier).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO registrations (id, document_hash, case_id, submitted_as, state, revision, trace_id, baggage, created_at, \
             updated_at) VALUES (X'0198c5f27f2e7d3b9a552f1f8f0f8a11', \
             X'0101010101010101010101010101010101010101010101010101010101010101', 'a', '', 'queued', 1, \
             X'0af7651916cd43dd8448eb211c80319c', 'sentry-release=1', 1, 1)",
        )
        .execute(&earlier)
        .await
        .unwrap();
        earlier.close().await;

        let store = Store::open(&settings, 100).await.unwrap();

        let queued = store.queued(Timestamp::from_seconds(9), 10).await.unwrap();
        let trace = &queued[0].trace;
        assert_eq!(trace.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((trace.baggage.as_str(), trace.tracestate.as_str()), ("sentry-release=1", ""));
    }

    #[test]
    fn a_store_says_which_way_it_belongs_elsewhere() {
        assert_eq!(ensure_same_registry(&registry(), &registry()), Ok(()));
        for (other, words) in [
            (Registry { chain_id: 1, ..registry() }, "chain 1"),
            (Registry { genesis_hash: B256::ZERO, ..registry() }, "restarted anvil"),
            (Registry { contract: Address::ZERO, ..registry() }, "contract"),
            (Registry { deploy_block_hash: B256::ZERO, ..registry() }, "deployed in block 3"),
        ] {
            let error = ensure_same_registry(&registry(), &other).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("REGISTRAR_DATABASE_URL"), "{error}");
        }
    }
}
