//! Opening a database: the lock, the file, the schema, and whose it is.

use super::{OpenError, Settings, Store, StoreError, lease::Leases};
use crate::registration::Timestamp;
use alloy::primitives::{Address, B256};
use sqlx::{
    AnyConnection, AnyPool, Connection, Row, SqlSafeStr,
    any::AnyPoolOptions,
    migrate::{Migration, MigrationType, Migrator},
};
use std::{
    borrow::Cow,
    fs::{File, OpenOptions, TryLockError},
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// Our tables; every other one makes a database foreign.
const TABLES: [&str; 7] = [
    "registries",
    "registrations",
    "transactions",
    "registration_transactions",
    "attempts",
    "leases",
    "_sqlx_migrations",
];
/// Every commit is on disk when it returns (`FULL`), and readers never wait for the writer (`WAL`).
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; \
                       PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000;";
const READERS: u32 = 4;
/// A connection is waited for at most this long; then the store counts as unusable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

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
pub struct OtherRegistry {
    what: &'static str,
    stored: String,
    actual: String,
    hint: &'static str,
}

/// Holds the operating system's lock on the database; freed when dropped, or when the process dies.
#[derive(Debug)]
pub(super) struct FileLock(#[allow(dead_code, reason = "holding it is its use")] File);

impl Store {
    /// Opens the database, makes it when absent, and brings its schema up to date.
    ///
    /// # Errors
    /// When another process has it, it cannot be written, or it is not ours.
    pub async fn open(settings: &Settings, queue_limit: u64) -> Result<Self, OpenError> {
        let path = settings.path();
        let lock = lock(&path)?;
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}?mode=rwc", path.display());
        if path.exists() {
            refuse_foreign(&format!("sqlite://{}?mode=ro", path.display())).await?;
        }
        let writer = connect(&url, 1).await?;
        migrator().run(&writer).await?;
        let reader = connect(&url, READERS).await?;
        let unfinished = unfinished(&reader).await?;
        Ok(Self {
            writer,
            reader,
            unfinished: Arc::new(AtomicU64::new(unfinished)),
            queue_limit,
            leases: Arc::new(Leases::alone()),
            _lock: Arc::new(lock),
        })
    }

    /// Ties a fresh store to its registry, and proves that an older one belongs to it.
    ///
    /// # Errors
    /// [`OtherRegistry`] when it belongs to another.
    pub async fn bind(&self, registry: &Registry, now: Timestamp) -> Result<(), OpenError> {
        let stored = sqlx::query(
            "SELECT chain_id, genesis_hash, contract_address, deploy_block_number, deploy_block_hash FROM registries",
        )
        .fetch_optional(&self.writer)
        .await?;
        if let Some(row) = stored {
            let stored = Registry {
                chain_id: row.try_get::<i64, _>(0)?.cast_unsigned(),
                genesis_hash: bytes(row.try_get(1)?)?,
                contract: bytes(row.try_get(2)?)?,
                deploy_block_number: row.try_get::<i64, _>(3)?.cast_unsigned(),
                deploy_block_hash: bytes(row.try_get(4)?)?,
            };
            return Ok(compare(&stored, registry)?);
        }
        sqlx::query("INSERT INTO registries VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(registry.chain_id.cast_signed())
            .bind(registry.genesis_hash.to_vec())
            .bind(registry.contract.to_vec())
            .bind(registry.deploy_block_number.cast_signed())
            .bind(registry.deploy_block_hash.to_vec())
            .bind(now.micros())
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

fn compare(stored: &Registry, actual: &Registry) -> Result<(), OtherRegistry> {
    let differ = |what, stored: String, actual: String, hint| Err(OtherRegistry { what, stored, actual, hint });
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

/// One process per file, by the operating system's lock on a file beside it: it ends with the process, however that dies.
fn lock(path: &std::path::Path) -> Result<FileLock, OpenError> {
    let not_writable = |error: std::io::Error| OpenError::NotWritable { path: path.to_owned(), kind: error.kind() };
    // Looked at first, so that a read-only database is named as such and no lock file is left beside it.
    if path.exists() {
        OpenOptions::new().write(true).open(path).map_err(not_writable)?;
        if path.metadata().map_err(not_writable)?.permissions().readonly() {
            return Err(not_writable(std::io::ErrorKind::PermissionDenied.into()));
        }
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(PathBuf::from(name)).map_err(not_writable)?;
    match file.try_lock() {
        Ok(()) => Ok(FileLock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(not_writable(error)),
    }
}

pub(super) async fn connect(url: &str, connections: u32) -> Result<AnyPool, sqlx::Error> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::raw_sql(PRAGMAS).execute(&mut *connection).await.map(drop) })
        })
        .connect(url)
        .await
}

/// Looks without writing anything, for a database that is somebody else's has to stay as it is.
async fn refuse_foreign(url: &str) -> Result<(), OpenError> {
    let mut connection = AnyConnection::connect(url).await?;
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    for row in tables {
        let name: String = row.try_get(0)?;
        if !TABLES.contains(&name.as_str()) {
            return Err(OpenError::Foreign(name));
        }
    }
    Ok(())
}

/// Every version of the schema, by number. What has been released stays as it is: a database remembers each text by its hash.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "init", include_str!("migrations/0001_init.sql")),
    (2, "tracestate", include_str!("migrations/0002_tracestate.sql")),
    (3, "leases", include_str!("migrations/0003_leases.sql")),
];

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.into_iter().map(|(version, name, sql)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator { migrations: migrations.collect(), ..Migrator::DEFAULT }
}

pub(super) async fn unfinished(pool: &AnyPool) -> Result<u64, sqlx::Error> {
    let row =
        sqlx::query("SELECT COUNT(*) FROM registrations WHERE state IN ('queued', 'signed', 'submitted', 'included')")
            .fetch_one(pool)
            .await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}

/// The bytes of a column as a value of fixed size.
pub(super) fn bytes<T: for<'a> TryFrom<&'a [u8]>>(column: Vec<u8>) -> Result<T, StoreError> {
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
        let settings = Settings::parse(&format!("sqlite://{}/r.db", folder.path().display())).unwrap();
        sqlx::any::install_default_drivers();
        let earlier = connect(&format!("sqlite://{}?mode=rwc", settings.path().display()), 1).await.unwrap();
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
        assert_eq!(compare(&registry(), &registry()), Ok(()));
        for (other, words) in [
            (Registry { chain_id: 1, ..registry() }, "chain 1"),
            (Registry { genesis_hash: B256::ZERO, ..registry() }, "restarted anvil"),
            (Registry { contract: Address::ZERO, ..registry() }, "contract"),
            (Registry { deploy_block_hash: B256::ZERO, ..registry() }, "deployed in block 3"),
        ] {
            let error = compare(&registry(), &other).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("REGISTRAR_DATABASE_URL"), "{error}");
        }
    }
}
