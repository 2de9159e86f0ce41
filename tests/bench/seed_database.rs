//! Fills the service's SQLite file with finished registrations while the service is stopped.

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use std::path::Path;

/// Registrations per transaction.
const BATCH: u64 = 100;

/// Adds final registrations of a signer that is no longer configured. Their ids sort before all real ones.
pub async fn finished(database: &Path, count: u64) {
    let options = SqliteConnectOptions::new().filename(database).synchronous(SqliteSynchronous::Off);
    let mut connection = options.connect().await.unwrap();
    let numbers =
        |last: u64| format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})");
    let transactions = format!(
        "{} INSERT INTO transactions (id, signer, nonce, state, finality, hash, gas_limit, batch_size, attempts, \
         prepared_at, signed_at, sent_at, included_at, confirmed_at, block_number, block_hash, block_time, gas_used, \
         effective_gas_price, pruned_at) SELECT unhex(printf('%032x', i)), \
         unhex('1111111111111111111111111111111111111111'), i, 'confirmed', 'finalized', randomblob(32), 3000000, \
         {BATCH}, 1, i, i, i, i, i, i, randomblob(32), i, 2700000, '1000000', i FROM n",
        numbers(count.div_ceil(BATCH) - 1)
    );
    let registrations = format!(
        "{} INSERT INTO registrations (id, document_hash, case_id, submitted_as, state, revision, transaction_id, \
         trace_id, sampled, created_at, updated_at) SELECT unhex(printf('%032x', i)), randomblob(32), \
         printf('CASE-%08d', i), \
         lower(hex(randomblob(32))), 'confirmed', 6, unhex(printf('%032x', i / {BATCH})), randomblob(16), 0, i, i \
         FROM n",
        numbers(count - 1)
    );
    let attempts = "INSERT INTO attempts SELECT hash, id, 1, x'', 2000000, 1000000, signed_at, NULL FROM transactions \
                    WHERE pruned_at IS NOT NULL";
    let members = format!(
        "INSERT INTO registration_transactions SELECT transaction_id, ROW_NUMBER() OVER (ORDER BY id) % {BATCH}, id \
         FROM registrations WHERE transaction_id IS NOT NULL"
    );
    let all = format!("BEGIN; {transactions}; {registrations}; {attempts}; {members}; COMMIT;");
    sqlx::raw_sql(sqlx::AssertSqlSafe(all)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
