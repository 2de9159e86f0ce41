//! Who may act for a signer: one replica at a time, even when replicas crash, hang or lose their connection.
//!
//! A lease is a row with a token that grows with each holder. Every write about a signer's transactions begins with an
//! update of the row, and is refused if the token has changed (a fencing token, as in
//! <https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>). The update locks the row until the
//! write ends, so that the lease cannot change hands in between.
//!
//! A lost holder is detected in two ways. It keeps a session advisory lock of PostgreSQL, which the server frees as
//! soon as the holder's connection ends (<https://www.postgresql.org/docs/15/explicit-locking.html#ADVISORY-LOCKS>): so
//! a process that crashes is replaced at once. And the row expires by the database's clock, for a holder that hangs or
//! is cut off. On SQLite one process owns the file, and takes every lease at once.

use super::{
    StoreError,
    bind::clamp,
    query::query,
    servers::Servers,
    sessions::Sessions,
    sql_errors::{report_if_unusable, with_timeout},
    timeout_pool::TimeoutPool,
};
use alloy::primitives::Address;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// After this time without a renewal another replica may take a lease: with the interval at which replicas try, a
/// holder that is cut off is replaced within ten seconds.
const LEASE_TTL: Duration = Duration::from_secs(8);
/// After this time without a renewal a replica no longer reports a lease as its own. It is shorter than the TTL by the
/// second that a report takes, so that two replicas never report the same lease at once.
const LEASE_TRUST_PERIOD: Duration = Duration::from_secs(7);
/// A renewal that takes longer has failed.
const LEASE_QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// The database's clock in microseconds, for the clocks of replicas may differ.
pub(super) const DATABASE_NOW_MICROS: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// The right to act for a signer, until it is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    pub signer: Address,
    token: i64,
}

/// The leases that this process holds.
#[derive(Debug)]
pub(super) struct Leases {
    /// This process in the rows of the table.
    holder: Uuid,
    held: Mutex<HashMap<Address, HeldLease>>,
    mode: LeaseMode,
}

#[derive(Clone, Copy, Debug)]
struct HeldLease {
    token: i64,
    /// When the latest renewal was sent, if it succeeded.
    renewed_at: Option<Instant>,
}

#[derive(Debug)]
enum LeaseMode {
    SingleProcess,
    Shared(Box<tokio::sync::Mutex<LockSession>>),
    /// Replicas of one test on one SQLite file, with the test's clock and no advisory locks.
    #[cfg(test)]
    SharedFile,
}

/// The connection whose end frees our advisory locks.
struct LockSession {
    servers: Arc<Servers>,
    sessions: Arc<Sessions>,
    /// With the time at which it was opened.
    connection: Option<(PgConnection, Instant)>,
    locked: HashSet<Address>,
}

impl fmt::Debug for LockSession {
    /// The connection has no form of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockSession").field("locked", &self.locked).finish_non_exhaustive()
    }
}

impl HeldLease {
    /// Whether no other replica can have the lease yet.
    fn is_trusted(self, now: Instant) -> bool {
        self.renewed_at.is_some_and(|renewed| now.saturating_duration_since(renewed) < LEASE_TRUST_PERIOD)
    }
}

impl Leases {
    pub(super) fn single_process() -> Self {
        Self { holder: Uuid::now_v7(), held: Mutex::default(), mode: LeaseMode::SingleProcess }
    }

    pub(super) fn shared(servers: Arc<Servers>, sessions: Arc<Sessions>) -> Self {
        let session = LockSession { servers, sessions, connection: None, locked: HashSet::new() };
        Self { mode: LeaseMode::Shared(Box::new(session.into())), ..Self::single_process() }
    }

    #[cfg(test)]
    pub(super) fn shared_file(holder: Uuid) -> Self {
        Self { holder, held: Mutex::default(), mode: LeaseMode::SharedFile }
    }

    pub(super) fn holder_id(&self) -> Vec<u8> {
        self.holder.as_bytes().to_vec()
    }

    pub(super) async fn acquire(&self, pool: &TimeoutPool, signer: Address) -> Result<Option<Lease>, StoreError> {
        let sent_at = Instant::now();
        let token = match &self.mode {
            LeaseMode::SingleProcess => Some(acquire_uncontended(pool, signer, self.holder).await?),
            LeaseMode::Shared(session) => session.lock().await.acquire(signer, self.holder).await?,
            #[cfg(test)]
            LeaseMode::SharedFile => test_clock::acquire(pool, signer, self.holder).await?,
        };
        if let Some(token) = token {
            self.held.lock().insert(signer, HeldLease { token, renewed_at: Some(sent_at) });
        }
        Ok(token.map(|token| Lease { signer, token }))
    }

    /// Whether the lease is still this process's; if not, it is no longer held here. On an error that is not known.
    // Only the shared file of the simulation uses the pool.
    #[cfg_attr(not(test), expect(unused_variables))]
    pub(super) async fn renew(&self, pool: &TimeoutPool, lease: Lease) -> Result<bool, StoreError> {
        let sent_at = Instant::now();
        let renewed = match &self.mode {
            LeaseMode::SingleProcess => Ok(true),
            LeaseMode::Shared(session) => session.lock().await.renew(lease, self.holder).await,
            #[cfg(test)]
            LeaseMode::SharedFile => test_clock::renew(pool, lease, self.holder).await,
        };
        let mut held = self.held.lock();
        if let Some(held) = held.get_mut(&lease.signer).filter(|held| held.token == lease.token) {
            held.renewed_at = renewed.as_ref().ok().map(|_| sent_at);
        }
        if let Ok(false) = renewed {
            held.remove(&lease.signer);
        }
        renewed
    }

    pub(super) fn holds(&self, signer: Address) -> bool {
        self.held.lock().contains_key(&signer)
    }

    pub(super) fn is_held(&self, signer: Address, token: i64) -> bool {
        self.held.lock().get(&signer).is_some_and(|held| held.token == token)
    }

    pub(super) fn is_current(&self, signer: Address) -> bool {
        let held = self.held.lock().get(&signer).copied();
        match self.mode {
            LeaseMode::SingleProcess => held.is_some(),
            LeaseMode::Shared(_) => held.is_some_and(|held| held.is_trusted(Instant::now())),
            #[cfg(test)]
            LeaseMode::SharedFile => held.is_some_and(|held| held.is_trusted(Instant::now())),
        }
    }

    /// Gives the leases up, so that other replicas need not wait until they expire, and ends the session.
    pub(super) async fn close(&self) {
        self.held.lock().clear();
        let LeaseMode::Shared(session) = &self.mode else { return };
        let mut session = session.lock().await;
        let give_up = sqlx::query("UPDATE leases SET expires_at = 0 WHERE holder = $1").bind(self.holder_id());
        // On an error the server frees the locks with the connection, and the leases expire.
        let _ = session.run(async |connection| give_up.execute(connection).await).await;
        if let Some((connection, _)) = session.connection.take() {
            let _ = connection.close().await;
        }
    }
}

/// Takes a lease for which no other process competes. Returns its token.
async fn acquire_uncontended(pool: &TimeoutPool, signer: Address, holder: Uuid) -> Result<i64, StoreError> {
    let row = query(
        "INSERT INTO leases (signer, holder, token, expires_at) VALUES ($1, $2, 1, 0) ON CONFLICT (signer) DO UPDATE \
         SET holder = excluded.holder, token = leases.token + 1 RETURNING token",
    )
    .bind(signer.to_vec())
    .bind(holder.as_bytes().to_vec())
    .fetch_one(pool)
    .await?;
    row.get(0)
}

impl LockSession {
    /// Takes the lease if its holder's session has ended or the lease has expired. Returns its token.
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
        // Missing after the lease had expired or the session was lost, and free again once its last holder's session
        // has ended.
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

    async fn try_lock(&mut self, signer: Address) -> Result<bool, StoreError> {
        let is_usable = |(_, opened_at): &(_, _)| !self.sessions.is_retired(*opened_at);
        if self.connection.as_ref().is_some_and(is_usable) && self.locked.contains(&signer) {
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

    /// Runs a statement on the session's connection, reconnecting if it was lost or leads to another server.
    async fn run<T>(
        &mut self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.connection.take_if(|(_, opened_at)| self.sessions.is_retired(*opened_at));
        let connection = match &mut self.connection {
            Some((connection, _)) => connection,
            none => {
                self.locked.clear();
                let connected = with_timeout(LEASE_QUERY_TIMEOUT, self.servers.connect()).await;
                &mut none.insert((report_if_unusable(connected)?, Instant::now())).0
            }
        };
        let result = with_timeout(LEASE_QUERY_TIMEOUT, statement(connection)).await;
        if result.is_err() {
            // Whatever went wrong, a new connection is safe; the old one's locks end with it.
            self.connection = None;
            self.locked.clear();
        }
        Ok(report_if_unusable(result)?)
    }
}

/// The first eight bytes of the signer's address. No other program takes advisory locks in our database.
fn advisory_lock_key(signer: Address) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = signer.into_array();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn acquire_sql(now: &str) -> String {
    format!(
        "INSERT INTO leases (signer, holder, token, expires_at, locked) VALUES ($1, $2, 1, {now} + $3, $4) \
         ON CONFLICT (signer) DO UPDATE SET holder = excluded.holder, token = leases.token + 1, \
         expires_at = excluded.expires_at, locked = excluded.locked \
         WHERE (leases.locked = 1 AND excluded.locked = 1) OR leases.expires_at < {now} RETURNING token"
    )
}

fn renew_sql(now: &str) -> String {
    format!("UPDATE leases SET expires_at = {now} + $1, locked = $2 WHERE signer = $3 AND holder = $4 AND token = $5")
}

fn lease_ttl_micros() -> i64 {
    clamp(LEASE_TTL.as_micros())
}

/// The same statements on a file that several replicas of one test share. A signer's lease moves when it expires by the
/// test's clock.
#[cfg(test)]
mod test_clock {
    use super::{Address, Lease, StoreError, TimeoutPool, Uuid, acquire_sql, lease_ttl_micros, query, renew_sql};
    use crate::clock;

    pub(super) async fn acquire(pool: &TimeoutPool, signer: Address, holder: Uuid) -> Result<Option<i64>, StoreError> {
        let row = query(acquire_sql(&clock::now().micros().to_string()))
            .bind(signer.to_vec())
            .bind(holder.as_bytes().to_vec())
            .bind(lease_ttl_micros())
            .bind(0_i64)
            .fetch_optional(pool)
            .await?;
        row.map(|row| row.get(0)).transpose()
    }

    pub(super) async fn renew(pool: &TimeoutPool, lease: Lease, holder: Uuid) -> Result<bool, StoreError> {
        let renewed = query(renew_sql(&clock::now().micros().to_string()))
            .bind(lease_ttl_micros())
            .bind(0_i64)
            .bind(lease.signer.to_vec())
            .bind(holder.as_bytes().to_vec())
            .bind(lease.token)
            .execute(pool)
            .await?;
        Ok(renewed == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Settings, Store, testing::server::Database, transact::Fence};

    const SIGNER: Address = Address::repeat_byte(9);

    async fn replica(database: &Database) -> Store {
        Store::open(&Settings::Postgres(database.url()), 100).await.unwrap()
    }

    #[tokio::test]
    async fn a_lease_has_one_holder_and_moves_as_soon_as_that_replica_ends() {
        let database = Database::new().await;
        let (first, second) = (replica(&database).await, replica(&database).await);
        let lease = first.acquire_lease(SIGNER).await.unwrap().unwrap();
        assert_eq!(second.acquire_lease(SIGNER).await.unwrap(), None);
        assert!(first.renew_lease(lease).await.unwrap() && first.holds_lease(SIGNER) && !second.holds_lease(SIGNER));
        assert!(second.acquire_lease(Address::ZERO).await.unwrap().is_some(), "another signer is free");

        first.close().await;

        assert!(second.acquire_lease(SIGNER).await.unwrap().is_some_and(|next| next != lease));
    }

    #[tokio::test]
    async fn a_holder_that_hangs_loses_its_expired_lease_and_is_fenced() {
        let database = Database::new().await;
        let (first, second) = (replica(&database).await, replica(&database).await);
        let lease = first.acquire_lease(SIGNER).await.unwrap().unwrap();
        database.run("UPDATE registrar.leases SET expires_at = 0").await;

        assert!(second.acquire_lease(SIGNER).await.unwrap().is_some(), "although the session is alive");

        assert!(matches!(
            first.transact("test", Fence::Signer(SIGNER), async |_| Ok(())).await,
            Err(StoreError::Fenced)
        ));
        assert!(!first.renew_lease(lease).await.unwrap() && !first.holds_lease(SIGNER));
        assert_eq!(first.acquire_lease(SIGNER).await.unwrap(), None, "the advisory lock moved with the lease");
        second.close().await;
        assert!(first.acquire_lease(SIGNER).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_holder_whose_session_was_cut_keeps_its_lease_if_no_other_replica_took_it() {
        let database = Database::new().await;
        let first = replica(&database).await;
        let lease = first.acquire_lease(SIGNER).await.unwrap().unwrap();
        database
            .run(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> \
                 pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .await;

        assert!(first.is_lease_current(SIGNER));
        assert!(first.renew_lease(lease).await.is_err(), "the connection is lost");
        assert!(first.holds_lease(SIGNER) && !first.is_lease_current(SIGNER), "another replica may hold it");
        assert!(first.renew_lease(lease).await.unwrap() && first.is_lease_current(SIGNER));
        let second = replica(&database).await;
        assert_eq!(second.acquire_lease(SIGNER).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_stops_being_trusted_before_another_replica_may_take_it() {
        let renewed = Instant::now();
        let held = HeldLease { token: 1, renewed_at: Some(renewed) };
        for (held, seconds, trusted) in
            [(held, 0, true), (held, 6, true), (held, 7, false), (HeldLease { renewed_at: None, ..held }, 0, false)]
        {
            assert_eq!(held.is_trusted(renewed + Duration::from_secs(seconds)), trusted, "{held:?} after {seconds} s");
        }
        assert!(LEASE_TRUST_PERIOD < LEASE_TTL);
    }
}
