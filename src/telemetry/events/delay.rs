use super::{
    report_for,
    timeout::{accepted, add_contexts, format_endpoint, join_list, list_registrations},
};
use crate::telemetry::{
    delay_report::{DelayReport, DelayedBatch, RegistrationDelayedError},
    metrics::metrics,
    sentry::{Report, app_metrics},
};
use tracing::{error, field, warn};

/// Once per round of the queue timeout and reason, with all its reports.
pub(crate) fn registrations_delayed(batch: &DelayedBatch) {
    let cause = batch.delay().diagnosis.cause;
    metrics().count_delayed(cause, batch.count() as u64);
    app_metrics::count_failed(batch.count(), "QUEUE_TIMEOUT", "prepare");
    for error in batch.errors() {
        let report = DelayReport::from(&error);
        sentry_report(&error, &report).emit(|| log_delay(&error, &report));
    }
    let registrations = batch.unreported();
    if registrations > 0 {
        let explanation = &batch.delay().diagnosis.explanation;
        warn!(registrations, cause = cause.code(), explanation, "more registrations are not sent in time");
    }
}

fn log_delay(error: &RegistrationDelayedError, report: &DelayReport<'_>) {
    let (delay, blockchain) = (&*error.delay, &report.blockchain);
    let diagnosis = &delay.diagnosis;
    error!(
        registration_id = blockchain.registration_id.as_ref().map(field::display),
        trace_id = error.registration().map(|affected| field::display(affected.trace_id)),
        document_hash = blockchain.document_hash.as_ref().map(field::display),
        case_id = blockchain.case_id,
        registrations = blockchain.registrations,
        registration_ids = error.rest().map(|(listed, _)| join_list(listed)),
        cause = diagnosis.cause.code(),
        explanation = diagnosis.explanation,
        evidence = join_list(diagnosis.evidence.iter().map(|(key, value)| format!("{key}={value}"))),
        blocked_reason = blockchain.blocked_reason,
        queued_seconds = blockchain.queued_seconds,
        transaction_id = delay.unsent.as_ref().map(|unsent| field::display(unsent.id)),
        tx_hash = blockchain.tx_hash.as_ref().map(field::display),
        from = blockchain.from.as_ref().map(field::display),
        nonce = blockchain.nonce,
        network = blockchain.network,
        contract_address = %blockchain.contract_address,
        head_block = blockchain.head_block,
        base_fee_per_gas = blockchain.base_fee_per_gas.as_ref().map(field::display),
        endpoints = join_list(delay.endpoints.iter().map(format_endpoint)),
        error = error as &dyn std::error::Error,
        "{error}"
    );
}

fn sentry_report(error: &RegistrationDelayedError, report: &DelayReport<'_>) -> Report {
    let delay = &*error.delay;
    let affected = error.registration();
    let cause = delay.diagnosis.cause.code();
    let mut sentry = report_for(affected)
        .tag("network", &delay.network)
        .tag("cause", cause)
        .tag("state", "queued")
        .breadcrumbs(&Vec::from_iter(affected.map(accepted)))
        .fingerprint(&["RegistrationDelayedError", cause]);
    if let Some(blocked) = report.blockchain.blocked_reason {
        sentry = sentry.tag("blockedReason", blocked);
    }
    if let Some(hash) = &report.blockchain.tx_hash {
        sentry = sentry.tag("txHash", hash);
    }
    let sentry = add_contexts(sentry, report);
    list_registrations(sentry, error.rest().map_or(&[], |(listed, _)| listed))
}
