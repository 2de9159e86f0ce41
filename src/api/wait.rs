//! Waiting for a registration to come as far as asked.

use super::error::ApiError;
use crate::{
    clock,
    pipeline::{Registrar, Subscription},
    registration::{Registration, State, policy::wait_deadline::WaitFor},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The follower writes and tells a timeout within this after the clock has run out.
const TIMEOUT_REPORT_SLACK: Duration = Duration::from_secs(3);

/// How a call waits.
pub(super) struct WaitOptions {
    /// How far.
    pub(super) wait_for: WaitFor,
    /// When the call came.
    pub(super) started_at: Instant,
    /// The longest it waits.
    pub(super) max_wait: Duration,
    /// Whether the confirmation clock ends it too.
    pub(super) bounded_by_confirmation_timeout: bool,
}

/// The answer to somebody who waits, if the registration is far enough for one.
fn outcome_if_reached(current: &Arc<Registration>, wait_for: WaitFor) -> Option<Result<Arc<Registration>, ApiError>> {
    if wait_for.is_reached(current.state, current.finality) {
        Some(Ok(current.clone()))
    } else if current.state == State::Failed {
        Some(Err(ApiError::RegistrationFailed(boxed(current))))
    } else if current.times.timed_out.is_some() && current.state != State::Confirmed {
        Some(Err(ApiError::ConfirmationTimeout(boxed(current))))
    } else {
        None
    }
}

/// Waits; returns the registration as far as it was to come.
pub(super) async fn wait_until_reached(
    registrar: &Registrar,
    accepted: Registration,
    mut waiter: Subscription,
    wait: &WaitOptions,
    stop: &CancellationToken,
) -> Result<Arc<Registration>, ApiError> {
    // It may have moved between being accepted and being waited for. A store that cannot be read now does not undo the promise.
    let moved = registrar.get(accepted.id).await.ok().flatten();
    let mut current = Arc::new(moved.unwrap_or(accepted));
    loop {
        if let Some(answer) = outcome_if_reached(&current, wait.wait_for) {
            return answer;
        }
        tokio::select! {
            changed = waiter.next_change() => current = changed,
            () = tokio::time::sleep_until(wait_deadline(registrar, &current, wait)) => {
                // A change that could not be told is in the store all the same.
                let last = registrar.get(current.id).await.ok().flatten().map_or(current, Arc::new);
                return outcome_if_reached(&last, wait.wait_for).unwrap_or_else(|| Err(timeout_error(registrar, &last)));
            }
            () = stop.cancelled() => return Err(ApiError::ShuttingDown(Some(boxed(&current)))),
        }
    }
}

/// When the call stops waiting. With no wait of its own the confirmation clock ends it too: its length from the call on while
/// nothing is sent, and the clock itself once it runs.
fn wait_deadline(registrar: &Registrar, current: &Registration, wait: &WaitOptions) -> Instant {
    let longest = wait.started_at + wait.max_wait;
    if !wait.bounded_by_confirmation_timeout {
        return longest;
    }
    let clock = registrar.confirmation_timeout();
    let by_clock = current.times.submitted.map_or(wait.started_at + clock, |submitted| {
        let gone = clock::now().since(submitted);
        Instant::now() + clock.saturating_sub(gone) + TIMEOUT_REPORT_SLACK
    });
    longest.min(by_clock)
}

/// The wait is over and the registration is not there yet: because nobody answers on the way to the chain, or just so.
fn timeout_error(registrar: &Registrar, current: &Arc<Registration>) -> ApiError {
    let unsent = matches!(current.state, State::Queued | State::Signed);
    if unsent && !registrar.is_chain_healthy() {
        ApiError::EndpointsUnavailable(Some(boxed(current)))
    } else {
        ApiError::WaitTimeout(boxed(current))
    }
}

fn boxed(registration: &Arc<Registration>) -> Box<Registration> {
    Box::new(Registration::clone(registration))
}
