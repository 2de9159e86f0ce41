//! Waiting for a registration to reach the requested state.

use super::error::ApiError;
use crate::{
    clock,
    pipeline::{Registrar, Subscription},
    registration::{Registration, State, policy::wait_deadline::WaitFor},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The follower stores and reports a timeout within this time after it occurs.
const TIMEOUT_REPORT_SLACK: Duration = Duration::from_secs(3);

pub(super) struct WaitOptions {
    pub(super) wait_for: WaitFor,
    pub(super) started_at: Instant,
    pub(super) max_wait: Duration,
    pub(super) bounded_by_confirmation_timeout: bool,
}

fn outcome_if_reached(
    registrar: &Registrar,
    current: &Arc<Registration>,
    wait_for: WaitFor,
) -> Option<Result<Arc<Registration>, ApiError>> {
    let is_unsent = matches!(current.state, State::Queued | State::Signed);
    if wait_for.is_reached(current.state, current.finality) {
        Some(Ok(current.clone()))
    } else if current.state == State::Failed {
        Some(Err(ApiError::RegistrationFailed(current.clone())))
    } else if current.times.timed_out.is_some() && current.state != State::Confirmed {
        Some(Err(ApiError::ConfirmationTimeout(current.clone())))
    } else if current.times.delayed.is_some() && is_unsent {
        Some(Err(if registrar.is_chain_healthy() {
            ApiError::QueueTimeout(current.clone())
        } else {
            ApiError::EndpointsUnavailable(Some(current.clone()))
        }))
    } else {
        None
    }
}

pub(super) async fn wait_until_reached(
    registrar: &Registrar,
    accepted: Registration,
    mut waiter: Subscription,
    wait: &WaitOptions,
    stop: &CancellationToken,
) -> Result<Arc<Registration>, ApiError> {
    // It may have changed between the commit and the subscription. It stays accepted even if the store cannot be read
    // now. Boxed, so that a call that waits does not keep its size.
    let moved = Box::pin(registrar.get(accepted.id)).await.ok().flatten();
    let mut current = Arc::new(moved.unwrap_or(accepted));
    loop {
        if let Some(answer) = outcome_if_reached(registrar, &current, wait.wait_for) {
            return answer;
        }
        tokio::select! {
            changed = waiter.next_change() => current = changed,
            () = tokio::time::sleep_until(wait_deadline(registrar, &current, wait)) => {
                // A change whose notification was lost is in the store.
                let last = Box::pin(registrar.get(current.id)).await.ok().flatten().map_or(current, Arc::new);
                return outcome_if_reached(registrar, &last, wait.wait_for)
                    .unwrap_or_else(|| Err(timeout_error(registrar, &last)));
            }
            () = stop.cancelled() => return Err(ApiError::ShuttingDown(Some(current))),
        }
    }
}

/// Without a requested wait, the confirmation timeout applies too: from the start of the call until the transaction is
/// submitted, and from then on as usual.
fn wait_deadline(registrar: &Registrar, current: &Registration, wait: &WaitOptions) -> Instant {
    let longest = wait.started_at + wait.max_wait;
    if !wait.bounded_by_confirmation_timeout {
        return longest;
    }
    let timeout = registrar.confirmation_timeout();
    let reported_at = current.times.submitted.map_or(wait.started_at + timeout, |submitted| {
        let elapsed = clock::now().since(submitted);
        Instant::now() + timeout.saturating_sub(elapsed) + TIMEOUT_REPORT_SLACK
    });
    longest.min(reported_at)
}

fn timeout_error(registrar: &Registrar, current: &Arc<Registration>) -> ApiError {
    let unsent = matches!(current.state, State::Queued | State::Signed);
    if unsent && !registrar.is_chain_healthy() {
        ApiError::EndpointsUnavailable(Some(current.clone()))
    } else {
        ApiError::WaitTimeout(current.clone())
    }
}
