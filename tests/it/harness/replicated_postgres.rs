//! Two PostgreSQL servers in streaming replication, behind an address that leads to one of them.

use super::{
    TcpProxy, eventually,
    postgres::{self, Cluster},
};
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

/// Two servers, and an address that leads to the first.
pub struct ReplicatedServers {
    pub old: Cluster,
    pub new: Cluster,
    pub address: TcpProxy,
}

impl ReplicatedServers {
    pub async fn start() -> Self {
        let old = Cluster::prepare().start();
        drop(postgres::connect(&old.url_of("postgres")).await);
        let new = Cluster::prepare_standby(&old).start();
        let address = TcpProxy::to(old.socket(), |port| {
            postgres::url_at(&format!("127.0.0.1:{port}"), "postgres", "sslmode=disable")
        });
        drop(postgres::connect(&new.url_of("postgres")).await);
        Self { old, new, address }
    }

    pub async fn connect_old(&self) -> PgConnection {
        postgres::connect(&self.old.url_of("postgres")).await
    }

    pub async fn connect_new(&self) -> PgConnection {
        postgres::connect(&self.new.url_of("postgres")).await
    }

    /// Open sessions stay open and can read only.
    pub async fn make_old_read_only(&self) {
        let mut old = self.connect_old().await;
        old.execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
        old.execute("SELECT pg_reload_conf()").await.unwrap();
        // Transactions that began before may still write.
        let writing = "SELECT COUNT(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()";
        eventually("the old server's last transaction", async || {
            let writing: i64 = old.fetch_one(writing).await.unwrap().get(0);
            (writing == 0).then_some(())
        })
        .await;
    }

    /// The new server has all that the old one committed, and accepts writes.
    pub async fn promote(&self) {
        let (mut old, mut new) = (self.connect_old().await, self.connect_new().await);
        let written: String = old.fetch_one("SELECT CAST(pg_current_wal_lsn() AS TEXT)").await.unwrap().get(0);
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        eventually("the standby to catch up", async || {
            let replayed = new.fetch_one(AssertSqlSafe(replayed.clone())).await.unwrap();
            replayed.get::<bool, _>(0).then_some(())
        })
        .await;
        new.execute("SELECT pg_promote()").await.unwrap();
    }

    /// The old server becomes read-only, the new one is promoted, and the address leads to it.
    pub async fn switch_over(&self) {
        self.make_old_read_only().await;
        self.promote().await;
        self.address.switch_to(self.new.socket());
    }
}
