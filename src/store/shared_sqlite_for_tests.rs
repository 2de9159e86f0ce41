//! A file that several replicas of one test share, as they would share a server. Fence, token, expiry and renewal are PostgreSQL's,
//! by the same statements; the time is the test's own. Two things are missing. The lock that ends with a replica's session: the
//! signers of one that dies move when their leases expire. And notifications: replicas find out by looking.
//!
//! Each replica's connection watches what it writes: a row that only the holder of a signer's lease may write, and that another
//! one wrote, is noted in a table for the auditor.

use super::{
    OpenError, QueuedRegistration, Store, StoreError, claim,
    db_transaction::DbTransaction,
    engine::Engine,
    lease::{self, Lease},
    open,
    rows::{self, RowReader},
    sqlite,
    timeout_pool::TimeoutPool,
};
use crate::{clock, registration::Timestamp};
use alloy::primitives::{Address, hex};
use sqlx::{AssertSqlSafe, Row};
use std::path::Path;
use uuid::Uuid;

/// What was written without the right to, and nothing else.
const STALE_WRITES_TABLE_SQL: &str = "CREATE TABLE IF NOT EXISTS stale_writes (what TEXT NOT NULL)";

/// Opens the file beside whoever else has it open.
pub(super) async fn open(path: &Path) -> Result<(Engine, TimeoutPool, TimeoutPool), OpenError> {
    let holder = Uuid::now_v7();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let writer = sqlite::connect_with(&url, 1, stale_write_triggers(holder)).await?;
    open::migrator().run(&writer).await?;
    sqlx::raw_sql(STALE_WRITES_TABLE_SQL).execute(&writer).await?;
    let reader = sqlite::connect(&url, sqlite::SQLITE_READER_CONNECTIONS).await?;
    let pool = |connections| TimeoutPool::new(connections, sqlite::SQLITE_STATEMENT_TIMEOUT);
    Ok((Engine::SharedFile(holder), pool(writer), pool(reader)))
}

/// Triggers of one connection alone (<https://www.sqlite.org/lang_createtrigger.html#temp_triggers_on_non_temp_tables>).
fn stale_write_triggers(holder: Uuid) -> String {
    let holder = hex::encode(holder.as_bytes());
    let trigger = |name: &str, on: &str, signer: &str, guarded: &str| {
        format!(
            "CREATE TEMP TRIGGER {name} AFTER {on} WHEN {guarded} AND NOT EXISTS \
             (SELECT 1 FROM leases WHERE signer = {signer} AND holder = X'{holder}') \
             BEGIN INSERT INTO stale_writes VALUES ('{on}'); END; "
        )
    };
    let signer_of = |id: &str| format!("(SELECT signer FROM transactions WHERE id = {id})");
    let is_ours = |id: &str| format!("EXISTS (SELECT 1 FROM transactions WHERE id = {id} AND nonce IS NOT NULL)");
    [
        trigger("signs", "INSERT ON transactions", "NEW.signer", "NEW.nonce IS NOT NULL"),
        trigger("moves", "UPDATE ON transactions", "OLD.signer", "OLD.nonce IS NOT NULL"),
        trigger("versions", "INSERT ON attempts", &signer_of("NEW.transaction_id"), "1"),
        trigger(
            "carries",
            "UPDATE ON registrations",
            &signer_of("OLD.transaction_id"),
            // What has failed may begin again on any replica.
            &format!("OLD.state <> 'failed' AND {}", is_ours("OLD.transaction_id")),
        ),
    ]
    .concat()
}

/// The database's own clock.
fn now_micros_sql() -> String {
    clock::now().micros().to_string()
}

/// Takes the lease if its holder is silent for too long.
pub(super) async fn acquire(pool: &TimeoutPool, signer: Address, holder: Uuid) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(lease::acquire_sql(&now_micros_sql())))
        .bind(signer.to_vec())
        .bind(holder.as_bytes().to_vec())
        .bind(lease::lease_ttl_micros())
        .bind(0_i64)
        .fetch_optional(pool)
        .await?;
    row.map(|row| row.try_get(0)).transpose().map_err(StoreError::from)
}

/// Whether the lease is still the holder's.
pub(super) async fn renew(pool: &TimeoutPool, lease: Lease, holder: Uuid) -> Result<bool, StoreError> {
    let renewed = sqlx::query(AssertSqlSafe(lease::renew_sql(&now_micros_sql())))
        .bind(lease::lease_ttl_micros())
        .bind(0_i64)
        .bind(lease.signer.to_vec())
        .bind(holder.as_bytes().to_vec())
        .bind(lease.token())
        .execute(pool)
        .await?;
    Ok(renewed.rows_affected() == 1)
}

impl Store {
    /// [`Store::claim`] in two statements, for SQLite has none that reads what it writes. Nobody else writes in between.
    pub(super) async fn claim_in_shared_file(
        &self,
        signer: Address,
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedRegistration>, StoreError> {
        let (now, mut write) = (clock::now().micros(), DbTransaction::begin(&self.writer).await?);
        let until = now + claim::claim_ttl_micros();
        sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET claimed_by = $1, claimed_until = {until} WHERE id IN (SELECT id FROM registrations \
             WHERE state = 'queued' AND retry_at <= $2 AND (claimed_until < {now} OR claimed_by = $3) ORDER BY id LIMIT $4)"
        )))
        .bind(signer.to_vec())
        .bind(at.micros())
        .bind(signer.to_vec())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(&mut *write)
        .await?;
        let claimed = format!(
            "{} WHERE state = 'queued' AND claimed_by = $1 AND claimed_until = {until} ORDER BY id",
            rows::SELECT_QUEUED
        );
        let found = sqlx::query(AssertSqlSafe(claimed)).bind(signer.to_vec()).fetch_all(&mut *write).await?;
        write.commit().await?;
        found.iter().map(|row| rows::read_queued(&mut RowReader::new(row))).collect()
    }
}
