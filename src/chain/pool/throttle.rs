//! For how long an endpoint is left alone that says it is asked too often.

use std::time::Duration;
use tokio::time::Instant;

/// Where it does not say for how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);
/// At most, whatever it asks for: then it is asked once, and may say so again.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// What one endpoint wants.
#[derive(Debug, Default)]
pub struct Throttle {
    until: Option<Instant>,
}

impl Throttle {
    /// It said that it is asked too often, and perhaps for how long to leave it alone.
    pub fn set_retry_after(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.until = self.until.max(Some(now + retry_after.unwrap_or(DEFAULT_RETRY_AFTER).min(MAX_RETRY_AFTER)));
    }

    /// For how long it is still to be left alone.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now))
    }

    /// Whether it is to be left alone now.
    pub fn is_active(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}
