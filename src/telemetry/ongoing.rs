//! A condition that lasts is logged when it starts and when it clears, however often it is observed in between.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct OngoingCondition(Mutex<Option<Instant>>);

impl OngoingCondition {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Returns whether the condition is new, so that it should be logged.
    pub(crate) fn start(&self) -> bool {
        let mut since = self.0.lock();
        let is_new = since.is_none();
        since.get_or_insert_with(Instant::now);
        is_new
    }

    /// As [`Self::start`], for a condition whose end is not observed: it is new again after `interval`.
    pub(crate) fn start_every(&self, interval: Duration) -> bool {
        let mut since = self.0.lock();
        let is_new = since.is_none_or(|since| since.elapsed() >= interval);
        if is_new {
            *since = Some(Instant::now());
        }
        is_new
    }

    /// Returns how long the condition lasted; `None` if it was not active.
    pub(crate) fn clear(&self) -> Option<Duration> {
        self.0.lock().take().map(|since| since.elapsed())
    }

    pub(crate) fn elapsed(&self) -> Option<Duration> {
        self.0.lock().map(|since| since.elapsed())
    }
}

/// Logs a failed step that is retried: as a warning, unless the error is reported elsewhere, by an event that covers
/// all steps with the same cause.
macro_rules! log_retry {
    ($error:expr, $($message:tt)+) => {
        if $error.is_reported_elsewhere() {
            tracing::debug!(error = %$error, $($message)+)
        } else {
            tracing::warn!(error = %$error, $($message)+)
        }
    };
}

pub(crate) use log_retry;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_starts_once_and_clears_with_its_duration() {
        let condition = OngoingCondition::new();
        assert!(condition.elapsed().is_none() && condition.clear().is_none());
        assert!(condition.start());
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!condition.start());
        assert_eq!(condition.clear(), Some(Duration::from_secs(7)));
        assert!(condition.start(), "it may start again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_without_an_end_is_new_again_after_a_while() {
        let (condition, interval) = (OngoingCondition::new(), Duration::from_secs(60));
        assert!(condition.start_every(interval) && !condition.start_every(interval));
        tokio::time::advance(interval).await;
        assert!(condition.start_every(interval) && !condition.start_every(interval));
    }
}
