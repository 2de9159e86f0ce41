//! Waits at the start for an endpoint or the database server, because machines that start together do not become ready
//! in order.

use crate::chain::Backoff;
use std::{fmt::Display, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// For each dependency.
const DEPENDENCY_TIMEOUT: Duration = Duration::from_secs(30);

/// Retries transient errors until [`DEPENDENCY_TIMEOUT`]. `None` if `shutdown` came first, which also cancels an
/// attempt. `what` is the dependency in the log; each reason is logged once.
pub(super) async fn retry_until_ready<T, E: Display>(
    what: &str,
    shutdown: &CancellationToken,
    mut connect: impl AsyncFnMut() -> Result<T, E>,
    is_transient: impl Fn(&E) -> bool,
) -> Option<Result<T, E>> {
    let start = Instant::now();
    let mut backoff = Backoff::new();
    let mut logged_reason = None;
    let attempts = async {
        loop {
            match connect().await {
                Err(error) if is_transient(&error) && start.elapsed() < DEPENDENCY_TIMEOUT => {
                    let remaining = DEPENDENCY_TIMEOUT.saturating_sub(start.elapsed()).as_secs();
                    let reason = error.to_string();
                    if logged_reason.as_ref() == Some(&reason) {
                        debug!(error = reason, gives_up_in_seconds = remaining, "waiting for {what}");
                    } else {
                        warn!(error = reason, gives_up_in_seconds = remaining, "waiting for {what}");
                        logged_reason = Some(reason);
                    }
                    sleep(backoff.next_delay()).await;
                }
                result => return result,
            }
        }
    };
    shutdown.run_until_cancelled(attempts).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::MAX_BACKOFF;
    use std::future::pending;

    /// Connects to a dependency that fails with `error` until it is ready after some seconds. Returns how long it took.
    async fn connect_when_ready(ready_after: u64, error: &'static str) -> (Option<Result<(), &'static str>>, Duration) {
        let start = Instant::now();
        let connect = async || if start.elapsed().as_secs() >= ready_after { Ok(()) } else { Err(error) };
        let result = retry_until_ready("it", &CancellationToken::new(), connect, |error| *error == "transient").await;
        (result, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dependency_is_used_as_soon_as_it_is_ready() {
        assert_eq!(connect_when_ready(0, "transient").await, (Some(Ok(())), Duration::ZERO));
        let (result, took) = connect_when_ready(20, "transient").await;
        assert_eq!(result, Some(Ok(())));
        assert!(took < Duration::from_secs(23), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_is_half_a_minute() {
        let (result, took) = connect_when_ready(3600, "transient").await;
        assert_eq!(result, Some(Err("transient")));
        assert!((DEPENDENCY_TIMEOUT..DEPENDENCY_TIMEOUT + MAX_BACKOFF * 2).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_error_is_returned_at_once() {
        assert_eq!(connect_when_ready(3600, "permanent").await, (Some(Err("permanent")), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_ends_the_wait_even_during_an_attempt() {
        let shutdown = CancellationToken::new();
        let never = async || pending::<Result<(), &str>>().await;
        let (result, ()) =
            tokio::join!(retry_until_ready("it", &shutdown, never, |_| true), async { shutdown.cancel() });
        assert_eq!(result, None);
    }
}
