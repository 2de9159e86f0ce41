//! What goes on for a while is said when it begins and when it is over, however often it is met in between.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Something that may go on for a while.
#[derive(Debug, Default)]
pub struct OngoingCondition(Mutex<Option<Instant>>);

impl OngoingCondition {
    /// It does not go on yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was met. Returns whether it has only begun, so that it is to be said.
    pub fn start(&self) -> bool {
        let mut since = self.lock();
        let begins = since.is_none();
        since.get_or_insert_with(Instant::now);
        begins
    }

    /// It is over. Returns how long it went on; `None` when it did not.
    pub fn clear(&self) -> Option<Duration> {
        self.lock().take().map(|since| since.elapsed())
    }

    /// How long it has gone on; `None` while it does not.
    pub fn elapsed(&self) -> Option<Duration> {
        self.lock().map(|since| since.elapsed())
    }
}

/// Says that a step did not succeed and is done again: as a warning, unless the error `is_told` already, by an event of its own that
/// covers every step that it hinders.
macro_rules! log_retry {
    ($error:expr, $($said:tt)+) => {
        if $error.is_reported_elsewhere() {
            tracing::debug!(error = %$error, $($said)+)
        } else {
            tracing::warn!(error = %$error, $($said)+)
        }
    };
}

pub(crate) use log_retry;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_said_once_and_its_end_with_how_long_it_took() {
        let told = OngoingCondition::new();
        assert!(told.elapsed().is_none() && told.clear().is_none());
        assert!(told.start());
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!told.start());
        assert_eq!(told.clear(), Some(Duration::from_secs(7)));
        assert!(told.start(), "it may begin again");
    }
}
