//! Waiting at the start for what may come by itself: an endpoint, or the database server. Machines that start together do not come
//! up in order.

use crate::chain::Backoff;
use std::{fmt::Display, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// So long a start waits for each thing that it needs.
const DEPENDENCY_TIMEOUT: Duration = Duration::from_secs(30);

/// Tries until it works, until what is in the way is nothing that passes by itself, or until patience is at its end; `None` when
/// `shutdown` came first, which a try does not hold up. `what` says in the log what is waited for, once for each reason.
pub async fn retry_until_ready<T, E: Display>(
    what: &str,
    shutdown: &CancellationToken,
    mut try_it: impl AsyncFnMut() -> Result<T, E>,
    may_pass: impl Fn(&E) -> bool,
) -> Option<Result<T, E>> {
    let begun = Instant::now();
    let mut delays = Backoff::new();
    let mut said = None;
    let tries = async {
        loop {
            match try_it().await {
                Err(error) if may_pass(&error) && begun.elapsed() < DEPENDENCY_TIMEOUT => {
                    let left = DEPENDENCY_TIMEOUT.saturating_sub(begun.elapsed()).as_secs();
                    let reason = error.to_string();
                    if said.as_ref() == Some(&reason) {
                        debug!(error = reason, gives_up_in_seconds = left, "waiting for {what}");
                    } else {
                        warn!(error = reason, gives_up_in_seconds = left, "waiting for {what}");
                        said = Some(reason);
                    }
                    sleep(delays.next_delay()).await;
                }
                done => return done,
            }
        }
    };
    shutdown.run_until_cancelled(tries).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::MAX_BACKOFF;
    use std::future::pending;

    /// What a try brings from so many seconds on, and before; and how long it was waited for.
    async fn wait_for_arrival(comes_at: u64, before: &'static str) -> (Option<Result<(), &'static str>>, Duration) {
        let begun = Instant::now();
        let try_it = async || if begun.elapsed().as_secs() >= comes_at { Ok(()) } else { Err(before) };
        let came = retry_until_ready("it", &CancellationToken::new(), try_it, |error| *error == "away").await;
        (came, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_away_is_waited_for_and_taken_when_it_comes() {
        assert_eq!(wait_for_arrival(0, "away").await, (Some(Ok(())), Duration::ZERO));
        let (came, took) = wait_for_arrival(20, "away").await;
        assert_eq!(came, Some(Ok(())));
        assert!(took < Duration::from_secs(23), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_given_up_after_half_a_minute() {
        let (came, took) = wait_for_arrival(3600, "away").await;
        assert_eq!(came, Some(Err("away")));
        assert!((DEPENDENCY_TIMEOUT..DEPENDENCY_TIMEOUT + MAX_BACKOFF * 2).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_by_itself_is_said_at_once() {
        assert_eq!(wait_for_arrival(3600, "wrong").await, (Some(Err("wrong")), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_told_to_end_waits_no_longer_not_even_for_a_try() {
        let shutdown = CancellationToken::new();
        let never = async || pending::<Result<(), &str>>().await;
        let (came, ()) = tokio::join!(retry_until_ready("it", &shutdown, never, |_| true), async { shutdown.cancel() });
        assert_eq!(came, None);
    }
}
