//! Whether the database can be used: the one place that says so, for every step that it hinders.

use super::super::{metrics, ongoing::OngoingCondition, sentry::Report};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// It cannot be used.
static OUTAGE: OngoingCondition = OngoingCondition::new();
/// It answers, but has failed some steps.
static PARTIAL_FAILURES: OngoingCondition = OngoingCondition::new();
/// That is said this often at most.
const PARTIAL_FAILURE_REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// When the last question that it answered was asked.
static LAST_ANSWERED_REQUEST: Mutex<Option<Instant>> = Mutex::new(None);
/// Why it failed a step, if it did since the last look.
static LAST_FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// A step failed for it. Whether it is gone is found out by the next look, which tells of the step too.
pub fn record_database_failure(why: String) {
    *LAST_FAILURE.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
}

/// Why it failed a step since this was last asked. To be asked before a look, so that what it finds is true after the failure.
pub fn take_database_failure() -> Option<String> {
    LAST_FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// It answers what was asked then, although it failed a step before.
pub fn database_available(database: &str, asked: Instant, failure: Option<String>) {
    metrics().store_up.set(1);
    *lock_last_answered() = Some(asked);
    if let Some(lasted) = OUTAGE.clear() {
        info!(database, seconds = lasted.as_secs(), "the database can be used again");
        // What waited for it since before may still fail, which is no news.
        PARTIAL_FAILURES.start();
    }
    if PARTIAL_FAILURES.elapsed().is_some_and(|lasted| lasted > PARTIAL_FAILURE_REPORT_INTERVAL) {
        PARTIAL_FAILURES.clear();
    }
    if let Some(why) = failure
        && PARTIAL_FAILURES.start()
    {
        warn!(database, error = why, "the database answers, but failed some steps, which are done again");
    }
}

/// It does not answer what was asked then, for this reason. Said once; and not when it has answered somebody who asked later.
pub fn database_unavailable(database: &str, asked: Instant, why: &str) {
    if lock_last_answered().is_some_and(|answered| answered > asked) {
        return;
    }
    metrics().store_up.set(0);
    if OUTAGE.start() {
        Report::default().fingerprint(&["the database cannot be used"]).emit(|| {
            error!(
                database,
                error = why,
                "the database cannot be used: nothing is accepted and nothing is signed until it can"
            );
        });
    }
}

fn lock_last_answered() -> MutexGuard<'static, Option<Instant>> {
    LAST_ANSWERED_REQUEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it is lost, and that was said.
pub fn is_database_unavailable() -> bool {
    OUTAGE.elapsed().is_some()
}
