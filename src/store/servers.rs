//! The servers of one PostgreSQL database. An address may name several, as libpq's does, of which one may be written at a
//! time: each is tried until one may be written, and again when that one is gone or can only read.

use super::{
    session_settings::session_sql,
    sql_errors::{other_database_error, read_only_error, with_timeout},
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use sqlx::{
    AnyPool, AssertSqlSafe, Connection, Error, PgConnection, Row, any::AnyConnectOptions, postgres::PgConnectOptions,
    query, raw_sql,
};
use std::{
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// For one server to answer while others are left to try. Two of these are less than an acquire timeout.
const SERVER_TIMEOUT: Duration = Duration::from_millis(900);
/// `on` on a standby, and wherever default_transaction_read_only is set.
const IS_READ_ONLY_SQL: &str = "SELECT current_setting('transaction_read_only') = 'on'";
/// Equal for servers in streaming replication, and for no others.
const SYSTEM_SQL: &str = "SELECT CAST(system_identifier AS TEXT) FROM pg_control_system()";

#[derive(Debug)]
pub(super) struct Servers {
    /// Never empty.
    all: Vec<Server>,
    current: AtomicUsize,
    /// Their next connections lead to the current server.
    pools: Mutex<Vec<AnyPool>>,
    /// Of the first server that was written to, where there are several.
    system: Mutex<Option<String>>,
}

struct Server {
    url: String,
    options: PgConnectOptions,
    pool_options: AnyConnectOptions,
}

/// On a server that may be written.
struct Session {
    connection: PgConnection,
    system: String,
}

impl std::fmt::Debug for Server {
    /// The options hold the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.options.get_host(), self.options.get_port())
    }
}

impl Servers {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let read = |url: String| {
            let options = PgConnectOptions::from_str(&url)?;
            let pool_options = AnyConnectOptions::from_str(&url)?;
            Ok(Server { url, options, pool_options })
        };
        let all = split_hosts(url).into_iter().map(read).collect::<Result<_, Error>>()?;
        Ok(Self { all, current: AtomicUsize::new(0), pools: Mutex::default(), system: Mutex::default() })
    }

    fn current(&self) -> &Server {
        let current = self.current.load(Ordering::Relaxed);
        // `parse` has made at least one.
        self.all.get(current).unwrap_or(&self.all[0])
    }

    /// Of the server that was last found to be writable.
    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.current().options
    }

    pub(super) fn url(&self) -> &str {
        &self.current().url
    }

    /// New connections of the pool follow the current server.
    pub(super) fn lead(&self, pool: &AnyPool) {
        pool.set_connect_options(self.current().pool_options.clone());
        self.pools.lock().push(pool.clone());
    }

    /// A session on the server that may be written, with our settings.
    pub(super) async fn connect(&self) -> Result<PgConnection, Error> {
        let current = self.current.load(Ordering::Relaxed);
        if self.all.len() == 1 {
            return connect_writable(self.options()).await;
        }
        let failure = match self.try_server(current).await.and_then(|session| self.accept(session)) {
            Ok(connection) => return Ok(connection),
            Err(failure) => failure,
        };
        let others = (0..self.all.len()).filter(|server| *server != current);
        let tried = join_all(others.map(async |server| (server, self.try_server(server).await))).await;
        // In the order of the list, whichever answered first.
        for (server, session) in tried {
            if let Ok(connection) = session.and_then(|session| self.accept(session)) {
                self.select(server);
                return Ok(connection);
            }
        }
        Err(failure)
    }

    fn select(&self, server: usize) {
        self.current.store(server, Ordering::Relaxed);
        for pool in &*self.pools.lock() {
            pool.set_connect_options(self.all[server].pool_options.clone());
        }
    }

    async fn try_server(&self, server: usize) -> Result<Session, Error> {
        with_timeout(SERVER_TIMEOUT, async {
            let mut connection = connect_writable(&self.all[server].options).await?;
            let system = query(SYSTEM_SQL).fetch_one(&mut connection).await?.try_get(0)?;
            Ok(Session { connection, system })
        })
        .await
    }

    /// Another database would have none of the accepted registrations.
    fn accept(&self, Session { connection, system }: Session) -> Result<PgConnection, Error> {
        let mut known = self.system.lock();
        match known.get_or_insert_with(|| system.clone()) == &system {
            true => Ok(connection),
            false => Err(other_database_error()),
        }
    }
}

/// A connection outside the pools, with our settings.
async fn connect_writable(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    raw_sql(AssertSqlSafe(session_sql())).execute(&mut connection).await?;
    let is_read_only: bool = raw_sql(IS_READ_ONLY_SQL).fetch_one(&mut connection).await?.try_get(0)?;
    if is_read_only { Err(read_only_error()) } else { Ok(connection) }
}

/// One URL for each host of `postgres://user:password@host1:port1,host2:port2/database`.
pub(crate) fn split_hosts(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}{tail}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_of_an_address_has_the_same_user_and_database() {
        for (url, expected) in [
            ("postgres://h/d", vec!["postgres://h/d"]),
            ("postgres://u:a,b@h/d?sslmode=require", vec!["postgres://u:a,b@h/d?sslmode=require"]),
            (
                "postgres://u:p@a,b:5433,[::1]:5434/d?sslmode=require",
                vec![
                    "postgres://u:p@a/d?sslmode=require",
                    "postgres://u:p@b:5433/d?sslmode=require",
                    "postgres://u:p@[::1]:5434/d?sslmode=require",
                ],
            ),
            ("postgres:///d?host=/run/postgresql", vec!["postgres:///d?host=/run/postgresql"]),
        ] {
            assert_eq!(split_hosts(url), expected, "{url}");
        }
    }
}
