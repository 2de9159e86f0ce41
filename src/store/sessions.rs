//! Which PostgreSQL server the sessions lead to, and when they have to be replaced.
//!
//! After a switch-over an address leads to another server, and old sessions may stay open: to a server that only reads
//! now, to one that answers no more, or to one that was replaced and does not know it. So every session is asked
//! before it is used whether it may write, and a new connection every few seconds shows whether the address still leads
//! to the same server. When it does not, all older sessions are closed before their next use.

use super::{
    servers::Servers,
    session_settings::{PG_ACQUIRE_TIMEOUT, SCHEMA},
    sql_errors::{lost_settings_error, read_only_error, with_timeout},
};
use parking_lot::Mutex;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Error, Row, pool::PoolConnection, query, raw_sql};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Whether the session may write, and whether it still has the settings that it was given: a pooler that hands a
/// connection of the server to other sessions between transactions loses them.
const CHECK_SQL: &str =
    "SELECT current_setting('transaction_read_only') = 'on', CAST(current_setting('search_path') AS TEXT)";
/// The same at the beginning of a transaction, with its number: a server that only reads gives none.
const BEGIN_SQL: &str = "BEGIN; SELECT current_setting('transaction_read_only') = 'on', \
    CAST(current_setting('search_path') AS TEXT), CASE WHEN current_setting('transaction_read_only') = 'on' THEN 0 \
    ELSE CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT) END";
/// The start time differs between servers, and changes with a restart. Reading it needs no right.
const IDENTITY_SQL: &str = "SELECT CAST(pg_postmaster_start_time() AS TEXT)";
/// A session that does not answer in this time is replaced.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at where the address leads: after a switch-over that keeps old sessions open and writable, this is
/// how long they are still used.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// Between two new sessions on a server that only reads; all callers share the result.
const READ_ONLY_INTERVAL: Duration = Duration::from_millis(200);
/// All sessions of a pool may be broken at once.
const MAX_CHECKS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Sessions opened before are not used again.
    retired_at: Option<Instant>,
    /// Where the address led at the last look. The first look is before the first session is opened, so that no session
    /// leads to a server from before it.
    server: Option<Server>,
    /// When a new session could only read.
    read_only_at: Option<Instant>,
    looked_at: Option<Instant>,
}

struct SessionState {
    is_read_only: bool,
    search_path: String,
    /// Of the transaction that begins with the check.
    number: i64,
}

/// Closed when dropped: a check that failed or was given up may have begun a transaction.
struct Unchecked(Option<PoolConnection<Any>>);

impl Drop for Unchecked {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(PoolConnection::close_on_drop);
    }
}

/// Equal as long as it is the same server without a restart.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Server(String);

/// What a new connection shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    SameServer,
    /// The older sessions are closed before their next use.
    OtherServer,
}

impl Sessions {
    pub(super) fn is_retired(&self, opened_at: Instant) -> bool {
        self.0.lock().retired_at.is_some_and(|retired_at| opened_at <= retired_at)
    }

    /// Closes all present sessions before their next use. The next ones may lead to another server.
    pub(super) fn retire(&self) {
        self.0.lock().retired_at = Some(Instant::now());
    }

    /// A session that may write.
    pub(super) async fn acquire(&self, pool: &AnyPool) -> Result<PoolConnection<Any>, Error> {
        let check = async |connection: &mut AnyConnection| {
            let row = query(CHECK_SQL).fetch_one(connection).await?;
            Ok(SessionState { is_read_only: row.try_get(0)?, search_path: row.try_get(1)?, number: 0 })
        };
        let acquired = timeout(PG_ACQUIRE_TIMEOUT, self.acquire_writable(pool, check));
        acquired.await.unwrap_or(Err(Error::PoolTimedOut)).map(|(connection, _)| connection)
    }

    /// A session with a new transaction, and its number: in one round trip.
    pub(super) async fn begin(&self, pool: &AnyPool) -> Result<(PoolConnection<Any>, i64), Error> {
        let begin = async |connection: &mut AnyConnection| {
            // `fetch_one` would end with the first statement, which has no row.
            let rows = raw_sql(BEGIN_SQL).fetch_all(connection).await?;
            let row = rows.last().ok_or(Error::RowNotFound)?;
            Ok(SessionState { is_read_only: row.try_get(0)?, search_path: row.try_get(1)?, number: row.try_get(2)? })
        };
        timeout(PG_ACQUIRE_TIMEOUT, self.acquire_writable(pool, begin)).await.unwrap_or(Err(Error::PoolTimedOut))
    }

    async fn acquire_writable(
        &self,
        pool: &AnyPool,
        check: impl AsyncFn(&mut AnyConnection) -> Result<SessionState, Error>,
    ) -> Result<(PoolConnection<Any>, i64), Error> {
        if self.0.lock().read_only_at.is_some_and(|at| at.elapsed() < READ_ONLY_INTERVAL) {
            return Err(read_only_error());
        }
        let mut failure = Error::PoolTimedOut;
        let mut was_read_only = false;
        for _ in 0..MAX_CHECKS {
            let mut connection = Unchecked(Some(pool.acquire().await?));
            let Some(unchecked) = &mut connection.0 else { continue };
            match with_timeout(CHECK_TIMEOUT, check(unchecked)).await {
                Ok(state) if !state.is_read_only && state.search_path == SCHEMA => {
                    return connection.0.take().map(|checked| (checked, state.number)).ok_or(failure);
                }
                Ok(state) if !state.is_read_only => failure = lost_settings_error(),
                Ok(_) => {
                    // The next session is new.
                    if was_read_only {
                        self.0.lock().read_only_at = Some(Instant::now());
                        return Err(read_only_error());
                    }
                    was_read_only = true;
                    self.retire();
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    pub(super) fn is_look_due(&self) -> bool {
        self.0.lock().looked_at.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL)
    }

    /// Connects anew. On a server that only reads this is an error, and the older sessions stay.
    pub(super) async fn look(&self, servers: &Servers) -> Result<Look, Error> {
        self.0.lock().looked_at = Some(Instant::now());
        let server = with_timeout(PG_ACQUIRE_TIMEOUT, async {
            let mut connection = servers.connect().await?;
            let server = query(IDENTITY_SQL).fetch_one(&mut connection).await?.try_get(0)?;
            connection.close().await?;
            Ok(Server(server))
        });
        let server = server.await?;
        let mut state = self.0.lock();
        let is_other = state.server.as_ref().is_some_and(|known| *known != server);
        state.server = Some(server);
        if is_other {
            state.retired_at = Some(Instant::now());
        }
        Ok(if is_other { Look::OtherServer } else { Look::SameServer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{postgres, testing::server::Database};
    use std::sync::Arc;

    /// Otherwise an address that changes before the first look would be taken for the one of the open sessions.
    #[tokio::test]
    async fn the_server_is_known_before_sessions_are_open_and_after_they_are_retired() {
        let servers = postgres::servers(&Database::new().await.url()).unwrap();
        let sessions = Arc::new(Sessions::default());
        postgres::open_pools(&servers, &sessions).await.unwrap();
        let known = sessions.0.lock().server.clone();
        assert!(known.is_some());
        sessions.retire();
        assert_eq!(sessions.0.lock().server, known);
        assert_eq!(sessions.look(&servers).await.unwrap(), Look::SameServer);
    }
}
