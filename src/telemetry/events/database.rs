//! Whether the database is usable. Logged and reported here once for all steps that an outage blocks.

use crate::telemetry::{metrics::metrics, ongoing::OngoingCondition, sentry::Report};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, info, warn};

static OUTAGE: OngoingCondition = OngoingCondition::new();
/// The database answers, but some steps failed.
static PARTIAL_FAILURES: OngoingCondition = OngoingCondition::new();
const PARTIAL_FAILURE_REPORT_INTERVAL: Duration = Duration::from_secs(60);
static LARGE_LOG: OngoingCondition = OngoingCondition::new();
/// Four times what the log holds before its pages are copied into the database.
const LARGE_LOG_BYTES: u64 = 128 * 1024 * 1024;
/// When the latest probe that was answered had been sent.
static LAST_ANSWERED_REQUEST: Mutex<Option<Instant>> = Mutex::new(None);
/// Why a step failed since the last probe.
static LAST_FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// A step failed. The next probe decides whether the database is down, and logs this failure with its result.
pub(crate) fn record_database_failure(why: String) {
    *LAST_FAILURE.lock() = Some(why);
}

/// To be called before a probe, so that the result of the probe is newer than the failure.
pub(crate) fn take_database_failure() -> Option<String> {
    LAST_FAILURE.lock().take()
}

/// The probe sent at `asked` was answered, although a step had failed before.
pub(crate) fn database_available(database: &str, asked: Instant, failure: Option<String>) {
    metrics().store_up.set(1);
    *LAST_ANSWERED_REQUEST.lock() = Some(asked);
    if let Some(duration) = OUTAGE.clear() {
        info!(database, seconds = duration.as_secs(), "the database can be used again");
        // Steps that started during the outage may still fail, which is not worth another warning.
        PARTIAL_FAILURES.start();
    }
    if PARTIAL_FAILURES.elapsed().is_some_and(|elapsed| elapsed > PARTIAL_FAILURE_REPORT_INTERVAL) {
        PARTIAL_FAILURES.clear();
    }
    if let Some(why) = failure
        && PARTIAL_FAILURES.start()
    {
        warn!(database, error = why, "the database answers, but some steps failed and are retried");
    }
}

/// The probe sent at `asked` was not answered. Logged once per outage, and not if a later probe was answered.
pub(crate) fn database_unavailable(database: &str, asked: Instant, why: &str) {
    if LAST_ANSWERED_REQUEST.lock().is_some_and(|answered| answered > asked) {
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

/// The database's address leads to another server than before.
pub(crate) fn database_switched_over() {
    info!("the database address leads to another server: its sessions are replaced");
}

/// Of SQLite's write-ahead log. Logged once, until it is small again.
pub(crate) fn database_log_length(database: &str, bytes: u64) {
    metrics().store_log.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    if bytes > LARGE_LOG_BYTES && LARGE_LOG.start() {
        warn!(
            database,
            bytes,
            "the database's write-ahead log is large: another program keeps a transaction open on the file; end it, \
             and the log is used from its beginning again"
        );
    } else if bytes <= LARGE_LOG_BYTES / 2 {
        LARGE_LOG.clear();
    }
}

pub(crate) fn is_database_unavailable() -> bool {
    OUTAGE.elapsed().is_some()
}
