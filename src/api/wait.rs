//! Waiting for a registration to come as far as asked.

use super::error::ApiError;
use crate::{
    clock,
    pipeline::{Registrar, Waiter},
    registration::{Registration, State, policy::waiting::WaitFor},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The follower writes and tells a timeout within this after the clock has run out.
const DIAGNOSIS_SLACK: Duration = Duration::from_secs(3);

/// How a call waits.
pub(super) struct Wait {
    /// How far.
    pub(super) wait_for: WaitFor,
    /// When the call came.
    pub(super) begun: Instant,
    /// The longest it waits.
    pub(super) longest: Duration,
    /// Whether the confirmation clock ends it too.
    pub(super) by_clock: bool,
}

/// The answer to somebody who waits, if the registration is far enough for one.
fn answer(current: &Arc<Registration>, wait_for: WaitFor) -> Option<Result<Arc<Registration>, ApiError>> {
    if wait_for.is_reached(current.state, current.finality) {
        Some(Ok(current.clone()))
    } else if current.state == State::Failed {
        Some(Err(ApiError::Failed(boxed(current))))
    } else if current.times.timed_out.is_some() && current.state != State::Confirmed {
        Some(Err(ApiError::ConfirmationTimeout(boxed(current))))
    } else {
        None
    }
}

/// Waits; returns the registration as far as it was to come.
pub(super) async fn wait(
    registrar: &Registrar,
    accepted: Registration,
    mut waiter: Waiter,
    wait: &Wait,
    stop: &CancellationToken,
) -> Result<Arc<Registration>, ApiError> {
    // It may have moved between being accepted and being waited for. A store that cannot be read now does not undo the promise.
    let moved = registrar.get(accepted.id).await.ok().flatten();
    let mut current = Arc::new(moved.unwrap_or(accepted));
    loop {
        if let Some(answer) = answer(&current, wait.wait_for) {
            return answer;
        }
        tokio::select! {
            changed = waiter.changed() => current = changed,
            () = tokio::time::sleep_until(ends(registrar, &current, wait)) => {
                // A change that could not be told is in the store all the same.
                let last = registrar.get(current.id).await.ok().flatten().map_or(current, Arc::new);
                return answer(&last, wait.wait_for).unwrap_or_else(|| Err(ended(registrar, &last)));
            }
            () = stop.cancelled() => return Err(ApiError::ShuttingDown(Some(boxed(&current)))),
        }
    }
}

/// When the call stops waiting. With no wait of its own the confirmation clock ends it too: its length from the call on while
/// nothing is sent, and the clock itself once it runs.
fn ends(registrar: &Registrar, current: &Registration, wait: &Wait) -> Instant {
    let longest = wait.begun + wait.longest;
    if !wait.by_clock {
        return longest;
    }
    let clock = registrar.confirmation_timeout();
    let by_clock = current.times.submitted.map_or(wait.begun + clock, |submitted| {
        let gone = clock::now().since(submitted);
        Instant::now() + clock.saturating_sub(gone) + DIAGNOSIS_SLACK
    });
    longest.min(by_clock)
}

/// The wait is over and the registration is not there yet: because nobody answers on the way to the chain, or just so.
fn ended(registrar: &Registrar, current: &Arc<Registration>) -> ApiError {
    let unsent = matches!(current.state, State::Queued | State::Signed);
    if unsent && !registrar.chain_is_healthy() {
        ApiError::EndpointsUnavailable(Some(boxed(current)))
    } else {
        ApiError::WaitTimeout(boxed(current))
    }
}

fn boxed(registration: &Arc<Registration>) -> Box<Registration> {
    Box::new(Registration::clone(registration))
}
