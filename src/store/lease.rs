//! Who may act for a signer: one replica at a time, whatever dies, hangs or comes back.
//!
//! A lease is a row with a token that grows with each holder. Every write about a signer's transactions begins by using the row,
//! and is refused if the token is another one by now (a fencing token, as in
//! <https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>). Using it locks it until the write is over, so that
//! it cannot change hands in between.
//!
//! A holder is known to be gone in two ways. It keeps a session advisory lock of PostgreSQL, which the server frees as soon as
//! the holder's connection ends (<https://www.postgresql.org/docs/15/explicit-locking.html#ADVISORY-LOCKS>): so a process that dies
//! is followed at once. And the row expires by the database's own clock, for a holder that hangs or is cut off. On SQLite one
//! process has the whole file, and takes every lease at once.

#[cfg(test)]
use super::shared_sqlite_for_tests;
use super::{
    Store, StoreError, availability::report_if_unreachable, db_transaction::DbTransaction, held::HeldLease,
    postgres::timeout_error, rows::RowReader, timeout_pool::TimeoutPool,
};
use crate::registration::TransactionId;
use alloy::primitives::Address;
use sqlx::{
    AssertSqlSafe, Connection, Row,
    postgres::{PgConnectOptions, PgConnection},
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// A lease that was not renewed for so long may be taken by another replica: with the time that one needs to look, a holder that is
/// cut off is followed within ten seconds.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(8);
/// A database that takes longer to answer has not renewed anything.
const LEASE_QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The database's own clock in microseconds, for those of the replicas may differ.
pub(super) const DATABASE_NOW_MICROS: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// The right to act for a signer, until it is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// For whom.
    pub signer: Address,
    token: i64,
}

#[cfg(test)]
impl Lease {
    pub(super) fn token(self) -> i64 {
        self.token
    }
}

/// The leases that this process holds.
#[derive(Debug)]
pub(super) struct Leases {
    /// This process, as the rows name it.
    holder: Uuid,
    held: Mutex<HashMap<Address, HeldLease>>,
    mode: LeaseMode,
}

/// Who else may hold leases.
#[derive(Debug)]
enum LeaseMode {
    /// Nobody: the database is this process's alone.
    SingleProcess,
    /// Other replicas on the same server.
    Shared(Box<tokio::sync::Mutex<LockSession>>),
    /// Other replicas of one test.
    #[cfg(test)]
    SharedFile,
}

/// The connection whose end frees our locks.
struct LockSession {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    locked: HashSet<Address>,
}

impl fmt::Debug for LockSession {
    /// The options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("locked", &self.locked).finish_non_exhaustive()
    }
}

impl Leases {
    /// For a database that only this process uses.
    pub(super) fn single_process() -> Self {
        Self { holder: Uuid::now_v7(), held: Mutex::default(), mode: LeaseMode::SingleProcess }
    }

    /// For a database that other replicas use too; the options name the schema.
    pub(super) fn shared(options: PgConnectOptions) -> Self {
        let session = LockSession { options, connection: None, locked: HashSet::new() };
        Self { mode: LeaseMode::Shared(Box::new(session.into())), ..Self::single_process() }
    }

    /// For a file that other replicas of one test use too.
    #[cfg(test)]
    pub(super) fn shared_file(holder: Uuid) -> Self {
        Self { holder, held: Mutex::default(), mode: LeaseMode::SharedFile }
    }

    fn lock_held(&self) -> MutexGuard<'_, HashMap<Address, HeldLease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the leases up, so that whoever comes next has not to wait until they expire, and ends the session.
    pub(super) async fn close(&self) {
        self.lock_held().clear();
        let LeaseMode::Shared(session) = &self.mode else { return };
        let mut session = session.lock().await;
        let give_up =
            sqlx::query("UPDATE leases SET expires_at = 0 WHERE holder = $1").bind(self.holder.as_bytes().to_vec());
        // The server frees the locks of a connection that ends in any other way too, and what is not given up expires.
        let _ = session.run(async |connection| give_up.execute(connection).await).await;
        if let Some(connection) = session.connection.take() {
            let _ = connection.close().await;
        }
    }
}

impl Store {
    /// Takes the lease of this signer; `None` while another replica holds it.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn acquire_lease(&self, signer: Address) -> Result<Option<Lease>, StoreError> {
        let (holder, asked) = (self.leases.holder, Instant::now());
        let token = match &self.leases.mode {
            LeaseMode::SingleProcess => acquire_uncontended(&self.writer, signer, holder).await?,
            LeaseMode::Shared(session) => session.lock().await.acquire(signer, holder).await?,
            #[cfg(test)]
            LeaseMode::SharedFile => shared_sqlite_for_tests::acquire(&self.writer, signer, holder).await?,
        };
        if let Some(token) = token {
            self.leases.lock_held().insert(signer, HeldLease::new(token, asked));
        }
        Ok(token.map(|token| Lease { signer, token }))
    }

    /// Says that the holder lives. Returns whether the lease is still its own; if not, it is forgotten here.
    ///
    /// # Errors
    /// When the database cannot be used: then it is not known.
    pub async fn renew_lease(&self, lease: Lease) -> Result<bool, StoreError> {
        let (holder, asked) = (self.leases.holder, Instant::now());
        let renewed = match &self.leases.mode {
            LeaseMode::SingleProcess => Ok(true),
            LeaseMode::Shared(session) => session.lock().await.renew(lease, holder).await,
            #[cfg(test)]
            LeaseMode::SharedFile => shared_sqlite_for_tests::renew(&self.writer, lease, holder).await,
        };
        let mut held = self.leases.lock_held();
        if let Some(held) = held.get_mut(&lease.signer).filter(|held| held.token == lease.token) {
            held.renewed_at = renewed.as_ref().ok().map(|_| asked);
        }
        if let Ok(false) = renewed {
            held.remove(&lease.signer);
        }
        renewed
    }

    /// Whether this process holds the signer's lease, as far as it knows.
    pub fn holds_lease(&self, signer: Address) -> bool {
        self.leases.lock_held().contains_key(&signer)
    }

    /// Whether the signer's lease is this process's beyond doubt, so that no other one can have it: it was renewed when that was last
    /// tried, and not long ago. A replica that is cut off says no before another one takes over.
    pub fn is_lease_current(&self, signer: Address) -> bool {
        let held = self.leases.lock_held().get(&signer).copied();
        match self.leases.mode {
            LeaseMode::SingleProcess => held.is_some(),
            LeaseMode::Shared(_) => held.is_some_and(|held| held.is_trusted(Instant::now())),
            #[cfg(test)]
            LeaseMode::SharedFile => held.is_some_and(|held| held.is_trusted(Instant::now())),
        }
    }

    /// This process, as the leases name it.
    pub(super) fn holder_id(&self) -> Vec<u8> {
        self.leases.holder.as_bytes().to_vec()
    }

    /// Begins a write that only the holder of the signer's lease may make.
    pub(super) async fn write_for_signer(&self, signer: Address) -> Result<DbTransaction, StoreError> {
        let write = DbTransaction::begin(&self.writer).await?;
        self.fence_for_signer(write, signer).await
    }

    /// Goes on with a write that only the holder of the signer's lease may make.
    pub(super) async fn fence_for_signer(
        &self,
        write: DbTransaction,
        signer: Address,
    ) -> Result<DbTransaction, StoreError> {
        self.fence(write, "$1", signer.to_vec()).await
    }

    /// Begins a write about one of our transactions, which only the holder of its signer's lease may make.
    pub(super) async fn write_for_tx(&self, id: TransactionId) -> Result<DbTransaction, StoreError> {
        let write = DbTransaction::begin(&self.writer).await?;
        self.fence_for_tx(write, id).await
    }

    /// Goes on with a write about one of our transactions, which only the holder of its signer's lease may make.
    pub(super) async fn fence_for_tx(
        &self,
        write: DbTransaction,
        id: TransactionId,
    ) -> Result<DbTransaction, StoreError> {
        self.fence(write, "(SELECT signer FROM transactions WHERE id = $1)", id.as_bytes().to_vec()).await
    }

    async fn fence(&self, mut write: DbTransaction, signer: &str, key: Vec<u8>) -> Result<DbTransaction, StoreError> {
        let sql = format!(
            "UPDATE leases SET uses = uses + 1 WHERE signer = {signer} AND holder = $2 RETURNING signer, token"
        );
        let row = sqlx::query(AssertSqlSafe(sql)).bind(key).bind(self.holder_id()).fetch_optional(&mut *write).await?;
        let row = row.ok_or(StoreError::Fenced)?;
        let mut c = RowReader::new(&row);
        let (signer, token): (Address, i64) = (c.bytes()?, c.get()?);
        if self.leases.lock_held().get(&signer).is_some_and(|held| held.token == token) {
            Ok(write)
        } else {
            Err(StoreError::Fenced)
        }
    }
}

/// Takes a lease that nobody else can hold. Returns its token.
async fn acquire_uncontended(pool: &TimeoutPool, signer: Address, holder: Uuid) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query(
        "INSERT INTO leases (signer, holder, token, expires_at) VALUES ($1, $2, 1, 0) ON CONFLICT (signer) DO UPDATE SET \
         holder = excluded.holder, token = leases.token + 1 RETURNING token",
    )
    .bind(signer.to_vec())
    .bind(holder.as_bytes().to_vec())
    .fetch_one(pool)
    .await?;
    Ok(Some(row.try_get(0)?))
}

impl LockSession {
    /// Takes the lease if its holder is gone, or silent for too long.
    async fn acquire(&mut self, signer: Address, holder: Uuid) -> Result<Option<i64>, StoreError> {
        let locked = self.try_lock(signer).await?;
        let query = sqlx::query(AssertSqlSafe(acquire_sql(DATABASE_NOW_MICROS)))
            .bind(signer.to_vec())
            .bind(holder.as_bytes().to_vec())
            .bind(lease_ttl_micros())
            .bind(i64::from(locked));
        let row = self.run(async |connection| query.fetch_optional(connection).await).await?;
        if row.is_none() {
            self.unlock(signer).await?;
        }
        row.map(|row| row.try_get(0)).transpose().map_err(StoreError::from)
    }

    async fn renew(&mut self, lease: Lease, holder: Uuid) -> Result<bool, StoreError> {
        // A lease that had expired, or a session that was lost: the lock comes with its last holder's end.
        let locked = self.try_lock(lease.signer).await?;
        let query = sqlx::query(AssertSqlSafe(renew_sql(DATABASE_NOW_MICROS)))
            .bind(lease_ttl_micros())
            .bind(i64::from(locked))
            .bind(lease.signer.to_vec())
            .bind(holder.as_bytes().to_vec())
            .bind(lease.token);
        let renewed = self.run(async |connection| query.execute(connection).await).await?.rows_affected() == 1;
        if !renewed {
            self.unlock(lease.signer).await?;
        }
        Ok(renewed)
    }

    /// Whether we have the signer's lock, which is free as soon as its holder's session ends.
    async fn try_lock(&mut self, signer: Address) -> Result<bool, StoreError> {
        if self.connection.is_some() && self.locked.contains(&signer) {
            return Ok(true);
        }
        let query = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(advisory_lock_key(signer));
        let row = self.run(async |connection| query.fetch_one(connection).await).await?;
        let locked = row.try_get(0)?;
        if locked {
            self.locked.insert(signer);
        }
        Ok(locked)
    }

    async fn unlock(&mut self, signer: Address) -> Result<(), StoreError> {
        if self.locked.remove(&signer) {
            let query = sqlx::query("SELECT pg_advisory_unlock($1)").bind(advisory_lock_key(signer));
            self.run(async |connection| query.execute(connection).await).await?;
        }
        Ok(())
    }

    /// Runs a statement on the session's connection, which is made anew after it was lost.
    async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.locked.clear();
                let connected = timeout(LEASE_QUERY_TIMEOUT, PgConnection::connect_with(&self.options)).await;
                none.insert(report_if_unreachable(connected.map_err(|_| timeout_error()).flatten())?)
            }
        };
        let result = timeout(LEASE_QUERY_TIMEOUT, statement(connection)).await.map_err(|_| timeout_error()).flatten();
        if result.is_err() {
            // Whatever went wrong, a new connection is the safe way on; the old one's locks end with it.
            self.connection = None;
            self.locked.clear();
        }
        Ok(report_if_unreachable(result)?)
    }
}

/// Half of the signer's address, within the space of keys that is ours alone in a database of its own.
fn advisory_lock_key(signer: Address) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = signer.into_array();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Takes a lease whose holder is gone, or silent for too long.
pub(super) fn acquire_sql(now: &str) -> String {
    format!(
        "INSERT INTO leases (signer, holder, token, expires_at, locked) VALUES ($1, $2, 1, {now} + $3, $4) \
         ON CONFLICT (signer) DO UPDATE SET holder = excluded.holder, token = leases.token + 1, \
         expires_at = excluded.expires_at, locked = excluded.locked \
         WHERE (leases.locked = 1 AND excluded.locked = 1) OR leases.expires_at < {now} RETURNING token"
    )
}

/// Puts the end of a lease off, as long as it is the holder's.
pub(super) fn renew_sql(now: &str) -> String {
    format!("UPDATE leases SET expires_at = {now} + $1, locked = $2 WHERE signer = $3 AND holder = $4 AND token = $5")
}

/// In microseconds.
pub(super) fn lease_ttl_micros() -> i64 {
    i64::try_from(LEASE_TTL.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Settings, testing::server::Database};

    const SIGNER: Address = Address::repeat_byte(9);

    async fn replica(database: &Database) -> Store {
        Store::open(&Settings::Postgres(database.url()), 100).await.unwrap()
    }

    #[tokio::test]
    async fn a_signer_is_one_replicas_at_a_time_and_moves_on_as_soon_as_that_one_ends() {
        let database = Database::new().await;
        let (one, other) = (replica(&database).await, replica(&database).await);
        let lease = one.acquire_lease(SIGNER).await.unwrap().unwrap();
        assert_eq!(other.acquire_lease(SIGNER).await.unwrap(), None);
        assert!(one.renew_lease(lease).await.unwrap() && one.holds_lease(SIGNER) && !other.holds_lease(SIGNER));
        assert!(other.acquire_lease(Address::ZERO).await.unwrap().is_some(), "another signer is free");

        one.close().await;

        assert!(other.acquire_lease(SIGNER).await.unwrap().is_some_and(|next| next != lease));
    }

    #[tokio::test]
    async fn a_holder_that_hangs_is_followed_when_its_lease_expires_and_learns_of_it() {
        let database = Database::new().await;
        let (one, other) = (replica(&database).await, replica(&database).await);
        let lease = one.acquire_lease(SIGNER).await.unwrap().unwrap();
        database.run("UPDATE registrar.leases SET expires_at = 0").await;

        assert!(other.acquire_lease(SIGNER).await.unwrap().is_some(), "although the first one's session is alive");

        assert!(matches!(one.write_for_signer(SIGNER).await, Err(StoreError::Fenced)));
        assert!(!one.renew_lease(lease).await.unwrap() && !one.holds_lease(SIGNER));
        assert_eq!(one.acquire_lease(SIGNER).await.unwrap(), None, "the lock follows the lease");
        other.close().await;
        assert!(one.acquire_lease(SIGNER).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_holder_whose_session_was_cut_keeps_its_lease_if_nobody_was_faster() {
        let database = Database::new().await;
        let one = replica(&database).await;
        let lease = one.acquire_lease(SIGNER).await.unwrap().unwrap();
        database
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .await;

        assert!(one.is_lease_current(SIGNER));
        assert!(one.renew_lease(lease).await.is_err(), "the first one who asks hears of it");
        assert!(one.holds_lease(SIGNER) && !one.is_lease_current(SIGNER), "another replica may have it by now");
        assert!(one.renew_lease(lease).await.unwrap() && one.is_lease_current(SIGNER));
        let other = replica(&database).await;
        assert_eq!(other.acquire_lease(SIGNER).await.unwrap(), None);
    }
}
