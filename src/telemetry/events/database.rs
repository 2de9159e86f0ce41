//! Whether the database can be used: the one place that says so, for every step that it hinders.

use super::super::{metrics, sentry::Report, told::Told};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// It cannot be used.
static LOST: Told = Told::new();
/// It answers, but has failed some steps.
static FAILS_SOME: Told = Told::new();
/// That is said this often at most.
const SOME: Duration = Duration::from_secs(60);
/// When the last question that it answered was asked.
static ANSWERED: Mutex<Option<Instant>> = Mutex::new(None);
/// Why it failed a step, if it did since the last look.
static FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// A step failed for it. Whether it is gone is found out by the next look, which tells of the step too.
pub fn database_failed(why: String) {
    *FAILURE.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
}

/// Why it failed a step since this was last asked. To be asked before a look, so that what it finds is true after the failure.
pub fn database_failure() -> Option<String> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// It answers what was asked then, although it failed a step before.
pub fn database_answers(database: &str, asked: Instant, failure: Option<String>) {
    metrics().store_up(true);
    *answered() = Some(asked);
    if let Some(lasted) = LOST.ends() {
        info!(database, seconds = lasted.as_secs(), "the database can be used again");
        // What waited for it since before may still fail, which is no news.
        FAILS_SOME.begins();
    }
    if FAILS_SOME.lasts_for().is_some_and(|lasted| lasted > SOME) {
        FAILS_SOME.ends();
    }
    if let Some(why) = failure
        && FAILS_SOME.begins()
    {
        warn!(database, error = why, "the database answers, but failed some steps, which are done again");
    }
}

/// It does not answer what was asked then, for this reason. Said once; and not when it has answered somebody who asked later.
pub fn database_lost(database: &str, asked: Instant, why: &str) {
    if answered().is_some_and(|answered| answered > asked) {
        return;
    }
    metrics().store_up(false);
    if LOST.begins() {
        Report::default().fingerprint(&["the database cannot be used"]).say(|| {
            error!(
                database,
                error = why,
                "the database cannot be used: nothing is accepted and nothing is signed until it can"
            );
        });
    }
}

fn answered() -> MutexGuard<'static, Option<Instant>> {
    ANSWERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it is lost, and that was said.
pub fn database_is_lost() -> bool {
    LOST.lasts_for().is_some()
}
