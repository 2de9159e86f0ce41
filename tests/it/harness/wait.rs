//! Waiting with a limit, so that an event that never happens fails the test instead of hanging it.

use std::{future::Future, time::Duration};

/// Longer than anything awaited here takes on a busy machine with two cores.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// For conditions that have to be polled, such as a node's state.
const CONDITION_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Awaits a future.
///
/// # Panics
/// After [`TEST_TIMEOUT`]; `what` names what was awaited.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(TEST_TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out after {TEST_TIMEOUT:?} waiting for {what}"),
    }
}

/// Polls until `check` returns a value.
///
/// # Panics
/// After [`TEST_TIMEOUT`]; `what` names what was awaited.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(CONDITION_POLL_INTERVAL).await;
        }
    })
    .await
}

/// Attempts of a timing check, and how many of them may miss their bound.
const TIMING_ATTEMPTS: usize = 5;
const TIMING_MISSES: usize = 2;

/// Runs a check of a wall-clock bound whose limit the test cannot choose, such as the time until another replica takes
/// a lease.
///
/// Only such a bound may be reported as `Err`; anything else that is wrong has to panic in the attempt. A machine that
/// stalls for a moment misses one or two attempts, so misses have to be outweighed by attempts in time: a race that
/// misses the bound in most of the cases fails here. Every miss is printed, also when the test passes.
///
/// # Panics
/// When three of five attempts miss the bound.
pub async fn retry_timing<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut misses = Vec::new();
    let mut in_time = 0;
    for number in 1..=TIMING_ATTEMPTS {
        match attempt().await {
            Ok(value) => {
                in_time += 1;
                if in_time > misses.len() {
                    return value;
                }
            }
            Err(miss) => {
                eprintln!("{what}: attempt {number} missed its bound: {miss}");
                misses.push(miss);
                assert!(
                    misses.len() <= TIMING_MISSES,
                    "{what}: {} attempts missed the bound: {misses:#?}",
                    misses.len()
                );
            }
        }
    }
    unreachable!(
        "of {TIMING_ATTEMPTS} attempts either {TIMING_MISSES} or more miss the bound, or the others outweigh them"
    )
}

/// Awaits `observation` while `future` runs.
///
/// # Panics
/// When `future` completes first.
pub async fn until_observed<T>(future: &mut (impl Future + Unpin), observation: impl Future<Output = T>) -> T {
    tokio::select! {
        _ = future => panic!("the future completed before the observation"),
        value = observation => value,
    }
}

/// Asserts that a future does not complete within `time`. Call it only after the condition that would complete it too
/// early is known to have been seen: the wait itself proves nothing else.
pub async fn assert_pending(what: &str, future: &mut (impl Future + Unpin), time: Duration) {
    assert!(tokio::time::timeout(time, future).await.is_err(), "{what} completed within {time:?}");
}

#[cfg(test)]
mod tests {
    use super::retry_timing;
    use futures_util::FutureExt;
    use std::panic::AssertUnwindSafe;

    /// The attempt whose value is returned, by the outcome of each attempt; `None` when the check fails.
    async fn passes_at(outcomes: &[bool]) -> Option<usize> {
        let mut attempts = outcomes.iter().enumerate();
        let check = retry_timing("a check", async || {
            let (number, in_time) = attempts.next().unwrap();
            if *in_time { Ok(number + 1) } else { Err("late".to_owned()) }
        });
        AssertUnwindSafe(check).catch_unwind().await.ok()
    }

    #[tokio::test]
    async fn a_timing_check_passes_at_once_or_when_two_attempts_outweigh_a_miss() {
        assert_eq!(passes_at(&[true]).await, Some(1));
        assert_eq!(passes_at(&[false, true, true]).await, Some(3));
        assert_eq!(passes_at(&[false, false]).await, None);
        assert_eq!(passes_at(&[false, true, false]).await, None);
    }
}
