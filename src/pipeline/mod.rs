//! WHO moves a registration along.

use std::time::Duration;

/// When a registration is confirmed, and how much work is taken.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Depth at which a registration is confirmed; the including block counts as 1.
    pub confirmations: u64,
    /// How long a transaction may take from being sent to being confirmed.
    pub confirmation_timeout: Duration,
    /// How many registrations may be unfinished.
    pub queue_limit: u64,
}
