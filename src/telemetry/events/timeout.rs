use super::report_for;
use crate::{
    registration::{RegistrationId, Timestamp, diagnosis::EndpointSnapshot},
    telemetry::{
        metrics::metrics,
        sentry::{Report, app_metrics},
        timeout_report::{AffectedRegistration, EndpointContext, TimeoutReport, TransactionTimeoutError},
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{error, field};

/// Sentry keeps about 8 KB of each context.
const MAX_IDS_PER_CONTEXT: usize = 150;

/// Once per transaction, with all its reports.
pub(crate) fn confirmation_timeout(errors: &[TransactionTimeoutError]) {
    if let Some(first) = errors.first() {
        let trace = first.subject.registration().map(|affected| affected.trace_id);
        metrics().count_confirmation_timeout(first.transaction.diagnosis.cause, trace);
    }
    let registrations: usize = errors.iter().map(|error| error.subject.registration_count()).sum();
    app_metrics::count_failed(registrations, "CONFIRMATION_TIMEOUT", "wait");
    for error in errors {
        let report = TimeoutReport::from(error);
        sentry_report(error, &report).emit(|| log_timeout(error, &report));
    }
}

fn log_timeout(error: &TransactionTimeoutError, report: &TimeoutReport<'_>) {
    let (transaction, blockchain) = (&*error.transaction, &report.blockchain);
    let diagnosis = &transaction.diagnosis;
    error!(
        registration_id = blockchain.registration_id.as_ref().map(field::display),
        trace_id = error.subject.registration().map(|affected| field::display(affected.trace_id)),
        document_hash = blockchain.document_hash.as_ref().map(field::display),
        case_id = blockchain.case_id,
        registrations = blockchain.registrations,
        registration_ids = error.subject.remainder().map(join_list),
        transaction_id = %transaction.id,
        tx_hash = %blockchain.tx_hash,
        cause = diagnosis.cause.code(),
        explanation = diagnosis.explanation,
        evidence = join_list(diagnosis.evidence.iter().map(|(key, value)| format!("{key}={value}"))),
        network = blockchain.network,
        contract_address = %blockchain.contract_address,
        from = %blockchain.from,
        nonce = blockchain.nonce,
        attempts = blockchain.attempts,
        gas_limit = blockchain.gas_limit,
        max_fee_per_gas = %blockchain.max_fee_per_gas,
        max_priority_fee_per_gas = %blockchain.max_priority_fee_per_gas,
        base_fee_per_gas = blockchain.base_fee_per_gas.as_ref().map(field::display),
        submitted_block = blockchain.submitted_block,
        head_block = blockchain.head_block,
        confirmations = blockchain.confirmations,
        explorer_url = blockchain.explorer_url.unwrap_or_default(),
        endpoints = join_list(transaction.endpoints.iter().map(format_endpoint)),
        error = error as &dyn std::error::Error,
        "{error}"
    );
}

fn sentry_report(error: &TransactionTimeoutError, report: &TimeoutReport<'_>) -> Report {
    let transaction = &*error.transaction;
    let affected = error.subject.registration();
    let history: Vec<_> = affected.map(accepted).into_iter().chain(transaction.history.iter().cloned()).collect();
    let cause = transaction.diagnosis.cause.code();
    let sentry = report_for(affected)
        .tag("network", &transaction.network)
        .tag("cause", cause)
        .tag("state", transaction.state)
        .tag("txHash", transaction.tx_hash)
        .breadcrumbs(&history)
        .fingerprint(&["TransactionTimeoutError", cause]);
    list_registrations(add_contexts(sentry, report), error.subject.remainder().unwrap_or_default())
}

/// The first breadcrumb of a registration.
pub(super) fn accepted(affected: &AffectedRegistration) -> (Timestamp, String) {
    (affected.created, format!("accepted as registration {}", affected.registration_id))
}

/// Each field of `contexts` is one.
pub(super) fn add_contexts(mut sentry: Report, contexts: &impl Serialize) -> Report {
    if let Ok(Value::Object(contexts)) = serde_json::to_value(contexts) {
        for (name, context) in contexts {
            let Value::Object(values) = context else { continue };
            sentry = sentry.context(name, values);
        }
    }
    sentry
}

pub(super) fn list_registrations(mut sentry: Report, ids: &[RegistrationId]) -> Report {
    for (chunk, ids) in ids.chunks(MAX_IDS_PER_CONTEXT).enumerate() {
        let first = chunk * MAX_IDS_PER_CONTEXT + 1;
        let name = format!("registrations {first} to {}", first + ids.len() - 1);
        sentry = sentry.context(name, [("ids", json!(ids.iter().map(ToString::to_string).collect::<Vec<_>>()))]);
    }
    sentry
}

pub(super) fn format_endpoint(endpoint: &EndpointSnapshot) -> String {
    format!("{} {}", endpoint.name, EndpointContext::from(endpoint))
}

pub(super) fn join_list(items: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
