//! One function per fact: its log line and its metric together, so that the logic shows one short line.

mod chain;
mod database;
mod timeout;

pub use chain::{
    EndpointUnhealthy, all_endpoints_unavailable, chain_resumed, chain_stalled, endpoint_healthy, endpoint_unhealthy,
    endpoints_available_again, failover, head_regressed,
};
pub use database::{
    database_available, database_unavailable, is_database_unavailable, record_database_failure, take_database_failure,
};
pub use timeout::confirmation_timeout;

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

/// A variable with our prefix is set that nothing reads; `meant` is the one that its name is nearest to.
pub fn unknown_setting(name: &str, meant: Option<&str>) {
    let did_you_mean = meant.unwrap_or("none is like it");
    warn!(name, did_you_mean, "a variable is set that is no setting, and nothing reads it");
}

/// A registration was accepted, or found.
pub fn registration_accepted(id: RegistrationId, trace_id: TraceId, fresh: bool) {
    let outcome = if fresh { RegistrationOutcome::Accepted } else { RegistrationOutcome::Duplicate };
    metrics().registrations(outcome).inc();
    if fresh {
        info!(registration_id = %id, %trace_id, "registration accepted");
    } else {
        debug!(registration_id = %id, %trace_id, "registration found");
    }
}

/// The service did not start, or ended by itself, for this reason.
pub fn service_failed(why: &str, exit_code: u8) {
    error!(target: FATAL_TARGET, exit_code, "{why}");
}

/// This replica acts for a signer from now on, or watches what nobody of ours signed.
pub fn lease_acquired(signer: Option<Address>, role: &'static str) {
    info!(signer = signer.map(display), role, "lease taken");
}

/// Another replica does by now, or may: what was being followed is left to it.
pub fn lease_lost(signer: Option<Address>, role: &'static str) {
    warn!(signer = signer.map(display), role, "lease lost");
}

/// Bytes are signed and on disk; no node has seen them.
pub fn transaction_signed(
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

/// A node has taken the bytes.
pub fn transaction_sent(id: TransactionId, signer: Address, nonce: u64, hash: B256, endpoint: &str, took: Duration) {
    metrics().transactions(TransactionResult::Sent).inc();
    metrics().observe_stage(Stage::Send, took);
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, endpoint, "transaction sent");
}

/// The same bytes go out again.
pub fn transaction_rebroadcast(id: TransactionId, signer: Address, nonce: u64, hash: B256, outcome: &str) {
    metrics().transactions(TransactionResult::Rebroadcast).inc();
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, outcome, "transaction sent again");
}

/// The same work was signed again at the same nonce, with a higher offer.
pub fn transaction_fee_bumped(id: TransactionId, signer: Address, nonce: u64, hash: B256, fees: &Fees) {
    metrics().fee_bumps.inc();
    let Fees { max_fee_per_gas, max_priority_fee_per_gas } = fees;
    info!(
        transaction_id = %id,
        %signer,
        nonce,
        tx_hash = %hash,
        %max_fee_per_gas,
        %max_priority_fee_per_gas,
        "the transaction's offer was raised"
    );
}

/// A transaction that no block holds was signed again at its nonce, with the first so many of its registrations.
pub fn transaction_split(
    id: TransactionId,
    signer: Address,
    nonce: u64,
    hash: B256,
    (carried, before): (usize, usize),
) {
    metrics().transactions(TransactionResult::Split).inc();
    warn!(transaction_id = %id, %signer, nonce, tx_hash = %hash, carried, before, "a transaction that was too large was split");
}

/// A nonce that the chain waited for was filled, by this.
pub fn nonce_gap_filled(id: TransactionId, signer: Address, nonce: u64, hash: B256, by: &'static str) {
    metrics().transactions(TransactionResult::NonceGapFilled).inc();
    Report::default().tag("signer", signer).tag("txHash", hash).fingerprint(&["nonce gap filled", by]).emit(|| {
        warn!(target: REPORT_TARGET, transaction_id = %id, %signer, nonce, tx_hash = %hash, by, "a missing nonce was filled");
    });
}

/// The transaction is in a canonical block.
pub fn transaction_included(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    block_number: u64,
    (batch_size, released): (usize, usize),
    cost: &Cost,
) {
    metrics().transactions(TransactionResult::Included).inc();
    metrics().gas_used.inc_by(cost.gas_used);
    metrics().fee_spent.inc_by(cost.total_fee() as f64);
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

/// The including block has its confirmation depth.
pub fn transaction_confirmed(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    block_number: u64,
    registrations: usize,
    waited: Duration,
) {
    metrics().transactions(TransactionResult::Confirmed).inc();
    metrics().observe_stage(Stage::Wait, waited);
    metrics().registrations(RegistrationOutcome::Confirmed).inc_by(registrations as u64);
    app_metrics::count_registered(registrations);
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, block_number, registrations, "transaction confirmed");
}

/// One of our own transactions is on chain, and the store did not know it: it was restored from an older backup.
pub fn transaction_imported(id: TransactionId, signer: Address, nonce: u64, hash: B256, registrations: usize) {
    metrics().transactions(TransactionResult::Imported).inc();
    info!(transaction_id = %id, %signer, nonce, tx_hash = %hash, registrations, "transaction of ours found on chain");
}

/// So many nonces of this signer, from this one on, were consumed by transactions that this store does not know and that registered
/// nothing.
pub fn external_nonce_use(signer: Address, first_nonce: u64, transactions: usize) {
    metrics().transactions(TransactionResult::External).inc_by(transactions as u64);
    Report::default().tag("signer", signer).fingerprint(&["foreign transactions of a signer"]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            %signer,
            first_nonce,
            transactions,
            "somebody else sends transactions with the key of this signer, which nobody but the service should have"
        );
    });
}

/// These have been final for so long that their bytes were removed.
pub fn transactions_pruned(transactions: usize) {
    metrics().transactions(TransactionResult::Pruned).inc_by(transactions as u64);
    info!(transactions, "the signed bytes of final transactions were removed");
}

/// One registration went all the way.
pub fn registration_confirmed(
    id: RegistrationId,
    (trace, span): (&TraceContext, SpanId),
    hash: B256,
    block_number: u64,
    total: Duration,
) {
    // An example that leads to a trace leads to one that is kept.
    let exemplar = trace.sampled.unwrap_or(false).then_some(trace.trace_id);
    metrics().stage_duration(Stage::Total).observe(total, exemplar);
    app_metrics::record_duration(trace.trace_id, span, total);
    let total_ms = total.as_millis() as u64;
    let trace_id = trace.trace_id;
    info!(registration_id = %id, %trace_id, tx_hash = %hash, block_number, total_ms, "registration confirmed");
}

/// The pair was on chain already.
pub fn found_on_chain(id: RegistrationId, trace_id: TraceId, hash: B256, registrar: Address) {
    metrics().registrations(RegistrationOutcome::AlreadyOnChain).inc();
    info!(registration_id = %id, %trace_id, tx_hash = %hash, %registrar, "registration found on chain");
}

/// The including block is no longer canonical. `of` stands for all that it carries.
pub fn transaction_reorged(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    block_number: u64,
    of: Option<&AffectedRegistration>,
) {
    metrics().reorgs.inc();
    report_for(of).tag("txHash", hash).fingerprint(&["transaction reorged"]).emit(|| {
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

/// What was reported as confirmed is not on the canonical chain any more. The signer is absent where it was not one of ours.
pub fn confirmed_transaction_reorged(
    id: TransactionId,
    signer: Option<Address>,
    hash: Option<B256>,
    block_number: u64,
    registrations: usize,
    of: Option<&AffectedRegistration>,
) {
    metrics().reorgs.inc();
    report_for(of).tag("reason", "reorged_after_confirmation").emit(|| {
        error!(
            transaction_id = %id,
            signer = signer.map(tracing::field::display),
            tx_hash = hash.map(tracing::field::display),
            block_number,
            registrations,
            "a confirmed transaction was reorged out: what it had registered is being registered again"
        );
    });
}

/// The nonce is consumed and the work goes back to the queue. `of` stands for all of it.
pub fn registrations_requeued(
    id: TransactionId,
    (signer, nonce): (Address, u64),
    hash: B256,
    reason: &str,
    registrations: usize,
    of: Option<&AffectedRegistration>,
) {
    metrics().transactions(TransactionResult::Requeued).inc();
    report_for(of).tag("txHash", hash).fingerprint(&["transaction released", reason]).emit(|| {
        warn!(
            target: REPORT_TARGET,
            transaction_id = %id,
            %signer,
            nonce,
            tx_hash = %hash,
            reason,
            registrations,
            "the transaction cannot register its work, which is queued again"
        );
    });
}

/// Some registrations wait for an operator; `news` when none waited for the same before: what joins them is no news.
pub fn registrations_blocked(signer: Address, reason: BlockedReason, registrations: usize, detail: &str, news: bool) {
    let reason = reason.code();
    if news {
        let report = Report::default().tag("reason", reason).tag("signer", signer);
        report.fingerprint(&["registrations are blocked", reason]).emit(|| {
            warn!(target: REPORT_TARGET, %signer, reason, registrations, detail, "registrations are blocked");
        });
    } else {
        debug!(%signer, reason, registrations, detail, "more registrations are blocked");
    }
}

/// What registrations of this signer waited for is not in the way any more.
pub fn registrations_unblocked(signer: Address, reason: BlockedReason, lasting: Duration) {
    let (reason, lasting_ms) = (reason.code(), lasting.as_millis() as u64);
    info!(target: RECOVERED_TARGET, %signer, reason, lasting_ms, "registrations are no longer blocked");
}

/// A registration failed for good, at this step.
pub fn registration_failed(of: &AffectedRegistration, failure: &Failure, step: &'static str) {
    let reason = failure.reason.code();
    metrics().registrations(RegistrationOutcome::Failed).inc();
    app_metrics::count_failed(1, reason, step);
    let (id, trace_id) = (of.registration_id, of.trace_id);
    report_for(Some(of)).tag("reason", reason).tag("step", step).fingerprint(&["registration failed", reason]).emit(
        || {
            error!(registration_id = %id, %trace_id, reason, detail = failure.message, "registration failed");
        },
    );
}

/// Everything that says which registration a report is about.
fn report_for(affected: Option<&AffectedRegistration>) -> Report {
    let Some(affected) = affected else { return Report::default() };
    Report::for_trace(affected.trace_id, Some(affected.span_id))
        .user(affected.user_id.as_ref())
        .tag("registrationId", affected.registration_id)
        .tag("documentHash", affected.pair.document_hash)
        .tag("caseId", affected.pair.case_id.as_str())
}
