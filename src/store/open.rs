//! Opening a database: its engine, its schema, and the registry that it belongs to.

use super::{
    OpenError, Registry, Settings, Store, change_number::ChangeNumbers, changes::NotificationOutbox, engine::Engine,
    handle::count_unfinished, lease::Leases, postgres, query::query, registry::ensure_same_registry, rows::RowReader,
    schema::migrate_schema, sessions::Sessions, sqlite, timeout_pool::TimeoutPool,
};
use crate::{registration::Timestamp, telemetry::spans};
use std::{path::Path, sync::Arc};

/// The writer, the readers, and the numbers of changes.
type Opened = (Engine, TimeoutPool, TimeoutPool, ChangeNumbers);

impl Store {
    /// Opens the database, creates it when absent, and migrates its schema.
    pub async fn open(settings: &Settings, queue_limit: u64) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let (engine, writer, reader, change_numbers) = match settings {
            Settings::Sqlite(path) => open_sqlite(path).await?,
            Settings::Postgres(url) => open_postgres(url).await?,
            #[cfg(test)]
            Settings::SharedFile(path) => {
                let (holder, writer, reader) = super::shared_sqlite_for_tests::open(path).await?;
                (Engine::SharedFile(holder), writer, reader, ChangeNumbers::SharedFile)
            }
        };
        let leases = match &engine {
            Engine::Sqlite(_) => Leases::single_process(),
            Engine::Postgres { servers, sessions, .. } => Leases::shared(Arc::clone(servers), Arc::clone(sessions)),
            #[cfg(test)]
            Engine::SharedFile(holder) => Leases::shared_file(*holder),
        };
        let unfinished = count_unfinished(&reader).await?;
        Ok(Self {
            writer,
            reader,
            unfinished: Arc::new(unfinished.into()),
            queue_limit,
            leases: Arc::new(leases),
            budget_lock: Arc::default(),
            engine: Arc::new(engine),
            change_numbers: Arc::new(change_numbers),
            changes_committed: Arc::default(),
            probe: Arc::default(),
            display_name: settings.display_name().into(),
        })
    }

    /// Ties a new database to its registry, and checks that an existing one belongs to it.
    pub async fn bind_registry(&self, registry: &Registry, now: Timestamp) -> Result<(), OpenError> {
        let insert = query(
            "INSERT INTO registries SELECT $1, $2, $3, $4, $5, $6 WHERE NOT EXISTS (SELECT 1 FROM registries) \
             ON CONFLICT DO NOTHING",
        )
        .bind(registry.chain_id.cast_signed())
        .bind(registry.genesis_hash.to_vec())
        .bind(registry.contract.to_vec())
        .bind(registry.deploy_block_number.cast_signed())
        .bind(registry.deploy_block_hash.to_vec())
        .bind(now);
        spans::db("bind_registry", insert.execute(&self.writer)).await?;
        // Two replicas with different settings may start at the same moment: every row has to be the same registry.
        let stored = query(
            "SELECT chain_id, genesis_hash, contract_address, deploy_block_number, deploy_block_hash FROM registries \
             ORDER BY created_at",
        );
        for row in spans::db("bind_registry", stored.fetch_all(&self.writer)).await? {
            let mut c = RowReader::new(&row);
            let stored = Registry {
                chain_id: c.number()?,
                genesis_hash: c.bytes()?,
                contract: c.bytes()?,
                deploy_block_number: c.number()?,
                deploy_block_hash: c.bytes()?,
            };
            ensure_same_registry(&stored, registry)?;
        }
        Ok(())
    }
}

async fn open_sqlite(path: &Path) -> Result<Opened, OpenError> {
    let (file, writer, reader, change_numbers) = sqlite::open(path).await?;
    Ok((Engine::Sqlite(file), writer, reader, change_numbers))
}

async fn open_postgres(url: &str) -> Result<Opened, OpenError> {
    let servers = Arc::new(postgres::servers(url)?);
    migrate_schema(&servers).await?;
    let sessions = Arc::new(Sessions::default());
    let (writer, reader) = postgres::open_pools(&servers, &sessions).await?;
    let outbox = NotificationOutbox::new();
    Ok((Engine::Postgres { servers, sessions, outbox }, writer, reader, ChangeNumbers::TransactionIds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::migrations::migrator;
    use sqlx::Connection;

    #[tokio::test]
    async fn a_database_of_an_earlier_release_is_migrated_and_keeps_its_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.db");
        let settings = Settings::Sqlite(path.clone());
        sqlx::any::install_default_drivers();
        let mut old = sqlite::connect(&sqlite::url(&path, "rwc")).await.unwrap();
        let mut first = migrator();
        first.migrations.to_mut().truncate(1);
        first.run(&mut old).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO registrations (id, document_hash, case_id, submitted_as, state, revision, trace_id, \
             baggage, created_at, updated_at) VALUES (X'0198c5f27f2e7d3b9a552f1f8f0f8a11', \
             X'0101010101010101010101010101010101010101010101010101010101010101', 'a', '', 'queued', 1, \
             X'0af7651916cd43dd8448eb211c80319c', 'sentry-release=1', 1, 1)",
        )
        .execute(&mut old)
        .await
        .unwrap();
        old.close().await.unwrap();

        let store = Store::open(&settings, 100).await.unwrap();

        let queued = store.queued(Timestamp::from_seconds(9), 10).await.unwrap();
        let trace = &queued[0].trace;
        assert_eq!(trace.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((trace.baggage.as_str(), trace.tracestate.as_str()), ("sentry-release=1", ""));
    }
}
