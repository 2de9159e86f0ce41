//! Waiting for a condition, with a limit, so that what never comes fails a test instead of hanging it.

use std::{future::Future, time::Duration};

/// Longer than anything awaited here takes on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that announces itself to nobody, such as a node's state.
const LOOK: Duration = Duration::from_millis(20);

/// Awaits a future.
///
/// # Panics
/// When it does not come in time; `what` says what was awaited.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Looks again and again until there is something to see.
///
/// # Panics
/// When there is nothing in time; `what` says what was awaited.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

/// How often something is tried that a busy machine can spoil.
const TRIES: usize = 5;

/// Tries what has to be quick until it is: where a machine that stalls for a moment looks like a fault of the service, a fault
/// spoils every try, and a stall one of them.
///
/// # Panics
/// When no try is quick; each says what was wrong with it.
pub async fn in_one_of<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut wrong = Vec::new();
    while wrong.len() < TRIES {
        match attempt().await {
            Ok(good) => return good,
            Err(bad) => wrong.push(bad),
        }
    }
    panic!("{what}: not in {TRIES} tries: {wrong:#?}")
}

/// Awaits a sign of what a future does, and lets it go on meanwhile.
///
/// # Panics
/// When the future ends before there is a sign.
pub async fn meanwhile<T>(future: &mut (impl Future + Unpin), sign: impl Future<Output = T>) -> T {
    tokio::select! {
        _ = future => panic!("it ended before there was a sign of it"),
        seen = sign => seen,
    }
}

/// Whether a future is still not ready after everything that can run has run for `time`. For proving that something
/// does not happen, after the condition that would make it happen too early is known to have been seen.
pub async fn stays_pending(future: &mut (impl Future + Unpin), time: Duration) -> bool {
    tokio::time::timeout(time, future).await.is_err()
}
