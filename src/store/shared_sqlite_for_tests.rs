//! An SQLite file that several replicas of one test share, as they would share a server. Fencing tokens, expiry and
//! renewal use the same statements as on PostgreSQL, with the test's clock. Two things are missing. There are no
//! advisory locks that end with a replica's session: the signers of a crashed replica move when their leases expire.
//! And there are no notifications: replicas poll.
//!
//! Triggers on each replica's writer connection record in a table every row that only the holder of a signer's lease
//! may write and that another replica wrote.

use super::{
    OpenError,
    change_number::begin_history,
    migrations::migrator,
    sqlite,
    timeout_pool::{Source, TimeoutPool},
};
use alloy::primitives::hex;
use sqlx::Connection;
use std::path::Path;
use uuid::Uuid;

const STALE_WRITES_TABLE_SQL: &str = "CREATE TABLE IF NOT EXISTS stale_writes (what TEXT NOT NULL)";

/// Returns the id that names the replica in its leases, its writer and its readers.
pub(super) async fn open(path: &Path) -> Result<(Uuid, TimeoutPool, TimeoutPool), OpenError> {
    let holder = Uuid::now_v7();
    let mut connection = sqlite::connect(&sqlite::url(path, "rwc")).await?;
    migrator().run(&mut connection).await?;
    sqlx::raw_sql(STALE_WRITES_TABLE_SQL).execute(&mut connection).await?;
    begin_history(&mut connection).await?;
    connection.close().await?;
    let pool = |connections, statements| {
        let pool = sqlite::pool(path, connections, statements);
        TimeoutPool::new(Source::SharedFile(pool), sqlite::SQLITE_STATEMENT_TIMEOUT)
    };
    let writer = pool(1, stale_write_triggers(holder));
    Ok((holder, writer, pool(sqlite::SQLITE_READER_CONNECTIONS, String::new())))
}

/// Temporary triggers belong to one connection
/// (<https://www.sqlite.org/lang_createtrigger.html#temp_triggers_on_non_temp_tables>).
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
            // Any replica may restart a failed registration.
            &format!("OLD.state <> 'failed' AND {}", is_ours("OLD.transaction_id")),
        ),
    ]
    .concat()
}
