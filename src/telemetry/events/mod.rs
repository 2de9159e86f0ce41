//! One function per fact, with its log line, metric and Sentry report, so that the logic has one short line.

mod auth;
mod chain;
mod database;
mod delay;
mod timeout;

pub(crate) use auth::{
    Audited, call_allowed, call_refused, caller_identified, callers_reload_failed, callers_reloaded,
    registration_authorized,
};
pub(crate) use chain::{
    EndpointUnhealthy, all_endpoints_unavailable, chain_resumed, chain_stalled, endpoint_answers_again,
    endpoint_healthy, endpoint_silent, endpoint_unhealthy, endpoints_available_again, failover, finality_tag_refused,
    head_regressed, priority_fee_suggestion_ignored, proofs_not_offered,
};
pub(crate) use database::{
    database_available, database_log_length, database_switched_over, database_unavailable, is_database_unavailable,
    record_database_failure, take_database_failure,
};
pub(crate) use delay::registrations_delayed;
pub(crate) use timeout::confirmation_timeout;

use super::{
    AffectedRegistration,
    metrics::{RegistrationOutcome, Stage, TransactionResult, metrics},
    sentry::{Report, app_metrics},
    targets::{FATAL_TARGET, RECOVERED_TARGET, REPORT_TARGET},
};
use crate::registration::{
    BlockedReason, Cost, Failure, RegistrationId, SpanId, TraceContext, TraceId, TransactionId, policy::fees::Fees,
};
use alloy::primitives::{Address, B256};
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// `did_you_mean` is the setting with the most similar name.
pub fn unknown_setting(name: &str, did_you_mean: Option<&str>) {
    match did_you_mean {
        Some(setting) => {
            warn!(name, did_you_mean = setting, "unknown setting {name} is ignored; did you mean {setting}?")
        }
        None => warn!(name, "unknown setting {name} is ignored"),
    }
}

/// `variable` names the file.
pub fn exposed_secret_file(variable: &str) {
    warn!(variable, "every user of this machine can read the file named by {variable}; change its mode to 0600");
}

/// A database holds case ids and the signed transactions of all work.
pub(crate) fn exposed_database(path: &std::path::Path) {
    let path = path.display();
    warn!(%path, "every user of this machine can read the database; change the mode of {path} to 0600");
}

/// Standard error is written again.
pub(super) fn log_lines_dropped(lines: u64) {
    warn!(lines, "log lines dropped: standard error was not read in time, or could not be written");
}

pub(crate) fn registration_accepted(id: RegistrationId, trace_id: TraceId, is_new: bool) {
    metrics().count_accepted(is_new);
    if is_new {
        info!(registration_id = %id, %trace_id, "registration accepted");
    } else {
        debug!(registration_id = %id, %trace_id, "registration already exists");
    }
}

/// The service did not start, or stopped because of an error.
pub fn service_failed(why: &str, exit_code: u8) {
    error!(target: FATAL_TARGET, exit_code, "{why}");
}

/// `signer` is absent for the lease on foreign blocks.
pub(crate) fn lease_acquired(signer: Option<Address>, role: &'static str) {
    info!(signer = signer.map(display), role, "lease acquired");
}

pub(crate) fn lease_lost(signer: Option<Address>, role: &'static str) {
    warn!(signer = signer.map(display), role, "lease lost");
}

/// Signed and on disk, and not broadcast yet.
pub(crate) fn transaction_signed(
    id: TransactionId,
    signer: Address,
    nonce: u64,
    hash: B256,
    batch_size: usize,
    took: Duration,
) {
    metrics().batch_size.observe(batch_size as f64);
    metrics().observe_stage(Stage::Prepare, took);
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, batch_size, "transaction signed");
}

pub(crate) fn transaction_sent(
    id: TransactionId,
    signer: Address,
    nonce: u64,
    hash: B256,
    endpoint: &str,
    took: Duration,
) {
    metrics().transactions(TransactionResult::Sent).inc();
    metrics().observe_stage(Stage::Send, took);
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, endpoint, "transaction sent");
}

pub(crate) fn transaction_rebroadcast(id: TransactionId, signer: Address, nonce: u64, hash: B256, outcome: &str) {
    metrics().transactions(TransactionResult::Rebroadcast).inc();
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, outcome, "transaction rebroadcast");
}

/// Replaced at the same nonce with higher fees.
pub(crate) fn transaction_fee_bumped(id: TransactionId, signer: Address, nonce: u64, hash: B256, fees: &Fees) {
    metrics().fee_bumps.inc();
    let Fees { max_fee_per_gas, max_priority_fee_per_gas } = fees;
    info!(
        transaction_id = %id,
        %signer,
        nonce,
        tx_hash = %hash,
        %max_fee_per_gas,
        %max_priority_fee_per_gas,
        "transaction fee bumped"
    );
}

/// Replaced at the same nonce with a part of its registrations.
pub(crate) fn transaction_split(
    id: TransactionId,
    signer: Address,
    nonce: u64,
    hash: B256,
    (carried, before): (usize, usize),
) {
    metrics().transactions(TransactionResult::Split).inc();
    warn!(transaction_id = %id, %signer, nonce, tx_hash = %hash, carried, before, "transaction too large, batch split");
}

pub(crate) fn nonce_gap_filled(id: TransactionId, signer: Address, nonce: u64, hash: B256, by: &'static str) {
    metrics().transactions(TransactionResult::NonceGapFilled).inc();
    Report::default().tag("signer", signer).tag("txHash", hash).fingerprint(&["nonce gap filled", by]).emit(|| {
        warn!(target: REPORT_TARGET, transaction_id = %id, %signer, nonce, tx_hash = %hash, by, "nonce gap filled");
    });
}

pub(crate) fn transaction_included(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    block_number: u64,
    (batch_size, released): (usize, usize),
    cost: &Cost,
) {
    metrics().transactions(TransactionResult::Included).inc();
    metrics().gas_used.inc_by(cost.gas_used);
    metrics().add_spend(signer, cost.total_fee());
    info!(
        transaction_id = %id,
        %signer,
        nonce,
        tx_hash = %hash,
        block_number,
        batch_size,
        released,
        gas_used = cost.gas_used,
        "transaction included"
    );
}

pub(crate) fn transaction_confirmed(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    block_number: u64,
    registrations: usize,
    waited: Duration,
) {
    metrics().transactions(TransactionResult::Confirmed).inc();
    metrics().observe_stage(Stage::Wait, waited);
    metrics().count_confirmed(RegistrationOutcome::Confirmed, registrations as u64);
    app_metrics::count_registered(registrations);
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, block_number, registrations, "transaction confirmed");
}

/// Our own transaction, found on chain and unknown to a store that was restored from an older backup.
pub(crate) fn transaction_imported(id: TransactionId, signer: Address, nonce: u64, hash: B256, registrations: usize) {
    metrics().transactions(TransactionResult::Imported).inc();
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, registrations, "transaction imported");
}

/// Filling it automatically could cost more than the pending transactions are worth.
pub(crate) fn nonce_gap_too_wide(signer: Address, first_nonce: u64, pending_nonce: u64) {
    Report::default().tag("signer", signer).fingerprint(&["nonce gap too wide"]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            %signer,
            first_nonce,
            pending_nonce,
            "nonce gap is too wide to be filled automatically; fill it by hand (runbook, nonce_gap)"
        );
    });
}

/// Nonces from `first_nonce` on were consumed by transactions that the store does not know and that registered
/// nothing.
pub(crate) fn external_nonce_use(signer: Address, first_nonce: u64, transactions: u64) {
    metrics().transactions(TransactionResult::External).inc_by(transactions);
    Report::default().tag("signer", signer).fingerprint(&["external transactions of a signer"]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            %signer,
            first_nonce,
            transactions,
            "another sender uses the key of this signer; only this service may have it"
        );
    });
}

pub(crate) fn transactions_pruned(transactions: usize) {
    metrics().transactions(TransactionResult::Pruned).inc_by(transactions as u64);
    info!(transactions, "signed bytes of final transactions pruned");
}

pub(crate) fn registration_confirmed(
    id: RegistrationId,
    (trace, span): (&TraceContext, SpanId),
    hash: B256,
    block_number: u64,
    total: Duration,
) {
    // An exemplar must lead to a trace that is kept.
    let exemplar = trace.sampled.unwrap_or(false).then_some(trace.trace_id);
    metrics().observe_total(total, exemplar);
    app_metrics::record_duration(trace.trace_id, span, total);
    let total_ms = total.as_millis() as u64;
    let trace_id = trace.trace_id;
    info!(registration_id = %id, %trace_id, tx_hash = %hash, block_number, total_ms, "registration confirmed");
}

pub(crate) fn found_on_chain(id: RegistrationId, trace_id: TraceId, hash: B256, registrar: Address) {
    metrics().count_confirmed(RegistrationOutcome::AlreadyOnChain, 1);
    info!(registration_id = %id, %trace_id, tx_hash = %hash, %registrar, "registration found on chain");
}

/// `affected` is one of the registrations in the transaction.
pub(crate) fn transaction_reorged(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    block_number: u64,
    affected: Option<&AffectedRegistration>,
) {
    metrics().reorgs.inc();
    report_for(affected).tag("txHash", hash).fingerprint(&["transaction reorged"]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            transaction_id = %id,
            %signer,
            nonce,
            tx_hash = %hash,
            block_number,
            "the block of the transaction is no longer canonical"
        );
    });
}

/// `signer` is absent for a transaction of another sender.
pub(crate) fn confirmed_transaction_reorged(
    id: TransactionId,
    signer: Option<Address>,
    hash: Option<B256>,
    block_number: u64,
    registrations: usize,
    affected: Option<&AffectedRegistration>,
) {
    metrics().reorgs.inc();
    report_for(affected).tag("reason", "reorged_after_confirmation").emit(|| {
        error!(
            transaction_id = %id,
            signer = signer.map(tracing::field::display),
            tx_hash = hash.map(tracing::field::display),
            block_number,
            registrations,
            "confirmed transaction was reorged out; it is rebroadcast, or its registrations are queued again"
        );
    });
}

/// The nonce is consumed, and the transaction can no longer register its registrations.
pub(crate) fn registrations_requeued(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    reason: &str,
    registrations: usize,
    affected: Option<&AffectedRegistration>,
) {
    metrics().transactions(TransactionResult::Requeued).inc();
    report_for(affected).tag("txHash", hash).fingerprint(&["registrations requeued", reason]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            transaction_id = %id,
            %signer,
            nonce,
            tx_hash = %hash,
            reason,
            registrations,
            "transaction cannot register its registrations, which are queued again"
        );
    });
}

/// `is_first`: no other registration was blocked for the same reason before. Only the first is a warning.
pub(crate) fn registrations_blocked(
    signer: Address,
    reason: BlockedReason,
    registrations: usize,
    detail: &str,
    is_first: bool,
) {
    let reason = reason.code();
    if is_first {
        let report = Report::default().tag("reason", reason).tag("signer", signer);
        report.fingerprint(&["registrations are blocked", reason]).emit(|| {
            warn!(target: REPORT_TARGET, %signer, reason, registrations, detail, "registrations are blocked");
        });
    } else {
        debug!(%signer, reason, registrations, detail, "more registrations are blocked");
    }
}

pub(crate) fn registrations_unblocked(signer: Address, reason: BlockedReason, duration: Duration) {
    let (reason, lasting_ms) = (reason.code(), duration.as_millis() as u64);
    info!(target: RECOVERED_TARGET, %signer, reason, lasting_ms, "registrations are no longer blocked");
}

pub(crate) fn registration_failed(affected: &AffectedRegistration, failure: &Failure, step: &'static str) {
    let reason = failure.reason.code();
    metrics().count_failed(reason);
    app_metrics::count_failed(1, reason, step);
    let (id, trace_id) = (affected.registration_id, affected.trace_id);
    report_for(Some(affected))
        .tag("reason", reason)
        .tag("step", step)
        .fingerprint(&["registration failed", reason])
        .emit(|| {
            error!(registration_id = %id, %trace_id, reason, detail = failure.message, "registration failed");
        });
}

/// A report with trace, user and tags of the registration.
fn report_for(affected: Option<&AffectedRegistration>) -> Report {
    let Some(affected) = affected else { return Report::default() };
    let report = Report::for_trace(affected.trace_id, Some(affected.span_id));
    let report = affected.caller.iter().fold(report, |report, caller| report.tag("caller", caller));
    report
        .user(affected.user_id.as_ref())
        .tag("registrationId", affected.registration_id)
        .tag("documentHash", affected.pair.document_hash)
        .tag("caseId", affected.pair.case_id.as_str())
}
