//! What an operator sets for the pipeline.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Depth at which a registration is confirmed; the including block counts as 1.
    pub confirmations: u64,
    /// From the first broadcast to confirmation.
    pub confirmation_timeout: Duration,
    /// From acceptance until a node has the transaction.
    pub queue_timeout: Duration,
    /// Registrations that may be unfinished at once.
    pub queue_limit: u64,
    /// Wei per UTC day; `None` is no limit.
    pub daily_budget: Option<u128>,
    /// How long after its confirmation a final transaction's signed bytes are kept.
    pub keep_signed_bytes: Duration,
}
