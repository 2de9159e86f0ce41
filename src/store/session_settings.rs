//! What each session on a PostgreSQL server is set to.

use std::time::Duration;

/// The schema of our tables, so that a database may hold others beside it.
pub(super) const SCHEMA: &str = "registrar";
/// Short, so that callers soon learn that the server is unreachable.
pub(super) const PG_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// The server cancels statements whose caller has timed out, releases the locks of a silent replica and, over TCP, soon
/// detects that a replica has disappeared.
const SESSION_SETTINGS: [(&str, &str); 7] = [
    ("search_path", SCHEMA),
    ("client_min_messages", "warning"),
    ("statement_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "3"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "3"),
];

/// Sent on each connection: a pooler accepts no settings at its start.
pub(super) fn session_sql() -> String {
    SESSION_SETTINGS.map(|(name, value)| format!("SET {name} = '{value}'; ")).concat()
}
