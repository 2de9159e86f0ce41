//! A confirmation that does not come in time: its log lines, its metric, and the reports with all that is known.

use super::report_for;
use crate::{
    registration::{RegistrationId, diagnosis::EndpointSnapshot},
    telemetry::{
        ReportSubject, TimedOutTransaction, TransactionTimeoutError, metrics,
        sentry::{Report, app_metrics},
    },
};
use serde_json::{Value, json};
use tracing::{error, field};

/// Registrations that one context of a report names: Sentry keeps about 8 KB of each.
const MAX_IDS_PER_CONTEXT: usize = 150;

/// A transaction's confirmation clock ran out, and these are the reports of it. Once per transaction, whoever waits.
pub fn confirmation_timeout(reports: &[TransactionTimeoutError]) {
    if let Some(first) = reports.first() {
        let trace = first.subject.registration().map(|one| one.trace_id);
        metrics().confirmation_timeouts(first.transaction.diagnosis.cause).inc(trace);
    }
    let late: usize = reports.iter().map(|report| report.subject.registration_count()).sum();
    app_metrics::count_failed(late, "CONFIRMATION_TIMEOUT", "wait");
    for report in reports {
        timeout_report(report).emit(|| log_timeout(report));
    }
}

fn log_timeout(report: &TransactionTimeoutError) {
    let TimedOutTransaction { fees, diagnosis, endpoints, .. } = &*report.transaction;
    let transaction = &report.transaction;
    let (late, rest) = match &report.subject {
        ReportSubject::Registration(late) => (Some(late), None),
        ReportSubject::Remainder(ids) => (None, Some(ids)),
    };
    error!(
        registration_id = late.map(|late| field::display(late.registration_id)),
        trace_id = late.map(|late| field::display(late.trace_id)),
        document_hash = late.map(|late| field::display(late.pair.document_hash)),
        case_id = late.map(|late| late.pair.case_id.as_str()),
        registrations = rest.map(Vec::len),
        registration_ids = rest.map(join_list),
        transaction_id = %transaction.id,
        tx_hash = %transaction.tx_hash,
        cause = diagnosis.cause.code(),
        explanation = diagnosis.explanation,
        evidence = join_list(diagnosis.evidence.iter().map(|(key, value)| format!("{key}={value}"))),
        network = transaction.network,
        contract_address = %transaction.contract_address,
        from = %transaction.from,
        nonce = transaction.nonce,
        attempts = transaction.attempts,
        gas_limit = transaction.gas_limit,
        max_fee_per_gas = %fees.max_fee_per_gas,
        max_priority_fee_per_gas = %fees.max_priority_fee_per_gas,
        base_fee_per_gas = transaction.base_fee_per_gas.map(field::display),
        submitted_block = transaction.submitted_block,
        head_block = transaction.head_block,
        confirmations = transaction.confirmations,
        explorer_url = transaction.explorer_url,
        endpoints = join_list(endpoints.iter().map(format_endpoint)),
        error = report as &dyn std::error::Error,
        "{report}"
    );
}

/// What Sentry is told besides the line: all that is known, by the names that people search by.
fn timeout_report(report: &TransactionTimeoutError) -> Report {
    let transaction = &*report.transaction;
    let affected = report.subject.registration();
    let diagnosis = &transaction.diagnosis;
    let mut history: Vec<_> = affected
        .map(|one| (one.created, format!("accepted as registration {}", one.registration_id)))
        .into_iter()
        .collect();
    history.extend(transaction.history.iter().cloned());
    let cause = diagnosis.cause.code();
    let evidence = diagnosis.evidence.iter().map(|(key, value)| (key.clone(), json!(value)));
    let words = [("cause", json!(cause)), ("explanation", json!(diagnosis.explanation))];
    let told = report_for(affected)
        .tag("network", &transaction.network)
        .tag("cause", cause)
        .tag("state", transaction.state)
        .tag("txHash", transaction.tx_hash)
        .context("blockchain", blockchain_context(report))
        .context("diagnosis", evidence.chain(words.map(|(key, value)| (key.to_owned(), value))))
        .context("rpc", transaction.endpoints.iter().map(|seen| (seen.name.clone(), endpoint_context(seen))))
        .breadcrumbs(&history)
        .fingerprint(&["TransactionTimeoutError", cause]);
    add_remaining_ids(told, report.subject.remainder().unwrap_or_default())
}

/// Names them all: in contexts of a size that Sentry does not cut off.
fn add_remaining_ids(report: Report, ids: &[RegistrationId]) -> Report {
    ids.chunks(MAX_IDS_PER_CONTEXT).enumerate().fold(report, |report, (position, ids)| {
        let first = position * MAX_IDS_PER_CONTEXT + 1;
        let name = format!("registrations {first} to {}", first + ids.len() - 1);
        report.context(name, [("ids", json!(ids.iter().map(ToString::to_string).collect::<Vec<_>>()))])
    })
}

fn blockchain_context(report: &TransactionTimeoutError) -> [(&'static str, Value); 18] {
    let (transaction, affected, rest) =
        (&*report.transaction, report.subject.registration(), report.subject.remainder());
    [
        ("network", json!(transaction.network)),
        ("contractAddress", json!(transaction.contract_address.to_string())),
        ("txHash", json!(transaction.tx_hash.to_string())),
        ("gasLimit", json!(transaction.gas_limit)),
        ("documentHash", json!(affected.map(|one| one.pair.document_hash.to_string()))),
        ("caseId", json!(affected.map(|one| one.pair.case_id.as_str()))),
        ("registrationId", json!(affected.map(|one| one.registration_id.to_string()))),
        ("registrations", json!(rest.map(<[_]>::len))),
        ("from", json!(transaction.from.to_string())),
        ("nonce", json!(transaction.nonce)),
        ("attempts", json!(transaction.attempts)),
        ("maxFeePerGas", json!(transaction.fees.max_fee_per_gas.to_string())),
        ("maxPriorityFeePerGas", json!(transaction.fees.max_priority_fee_per_gas.to_string())),
        ("baseFeePerGas", json!(transaction.base_fee_per_gas.map(|fee| fee.to_string()))),
        ("submittedBlock", json!(transaction.submitted_block)),
        ("headBlock", json!(transaction.head_block)),
        ("confirmations", json!(transaction.confirmations)),
        ("explorerUrl", json!(Some(&transaction.explorer_url).filter(|url| !url.is_empty()))),
    ]
}

fn endpoint_context(seen: &EndpointSnapshot) -> Value {
    json!({
        "state": seen.state,
        "blockNumber": seen.head,
        "latencyMs": seen.latency.map(|latency| latency.as_millis() as u64),
        "error": seen.error,
    })
}

fn format_endpoint(seen: &EndpointSnapshot) -> String {
    let head = seen.head.map(|head| format!(" head {head}")).unwrap_or_default();
    let latency = seen.latency.map(|latency| format!(" latency {} ms", latency.as_millis())).unwrap_or_default();
    let error = seen.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
    format!("{} {}{head}{latency}{error}", seen.name, seen.state)
}

fn join_list(all: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
