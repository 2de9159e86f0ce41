//! A finding in plain English for the operator who is paged: the problem, the values, what the service does about it,
//! and what to do. Plain ASCII, and never a URL.

mod chain;
pub(super) mod text;
mod transaction;

use super::{classify::Finding, evidence::Evidence};
use text::{Explanation, tx_nonce};

pub(super) fn explain(evidence: &Evidence, finding: &Finding<'_>) -> Explanation {
    match finding {
        Finding::NoEndpoint => chain::no_endpoint(evidence),
        Finding::NoAnswers(unanswered) => chain::no_answers(evidence, unanswered),
        Finding::LastCallFailed(error) => chain::last_call_failed(evidence, *error),
        Finding::ChainStalled(stall) => chain::chain_stalled(evidence, stall),
        Finding::ReceiptsDiffer { shown_by, block, contradicted_by } => {
            chain::receipts_differ(shown_by, *block, contradicted_by)
        }
        Finding::BlocksDiffer { shows, block, differs } => chain::blocks_differ(shows, *block, differs),
        Finding::NoncesDiffer { ahead, behind } => chain::nonces_differ(tx_nonce(evidence), ahead, behind),
        Finding::EndpointLagging { endpoint, lag } => chain::endpoint_lagging(endpoint, *lag),
        Finding::AwaitingConfirmations { block, depth } => chain::awaiting_confirmations(evidence, *block, *depth),
        Finding::AwaitingForeignConfirmations { block, depth } => {
            chain::awaiting_foreign_confirmations(evidence, *block, *depth)
        }
        Finding::Reverted { receipt, depth } => chain::reverted(evidence, receipt, *depth),
        Finding::WouldRevert(account) => chain::would_revert(*account),
        Finding::Reorged { block } => chain::reorged(*block),
        Finding::NonceConsumedExternally { next_nonce, receipt_missing_for } => {
            transaction::nonce_consumed_externally(evidence, *next_nonce, *receipt_missing_for)
        }
        Finding::ReplacementUnderpriced(rejection) => transaction::replacement_underpriced(evidence, rejection),
        Finding::NonceGap { next } => transaction::nonce_gap(evidence, *next),
        Finding::BehindEarlierNonce(earlier) => transaction::behind_earlier_nonce(earlier),
        Finding::NonceJustConsumed => transaction::nonce_just_consumed(evidence),
        Finding::FeeTooLow { base_fee } => transaction::fee_too_low(evidence, *base_fee),
        Finding::FeeRejected(rejection) => transaction::fee_rejected(evidence, rejection),
        Finding::FeeCapExceeded(above) => transaction::fee_cap_exceeded(*above),
        Finding::TipTooLow { offered_tip, congestion } => transaction::tip_too_low(evidence, *offered_tip, congestion),
        Finding::InsufficientFunds { signer, balance, needed } => {
            transaction::insufficient_funds(evidence, *signer, *balance, *needed)
        }
        Finding::FundsRejected(rejection) => transaction::funds_rejected(evidence, *rejection),
        Finding::SenderLimit(rejection) => transaction::sender_limit(evidence, rejection),
        Finding::TooLarge { gas_limit, max_gas } => transaction::too_large(*gas_limit, *max_gas),
        Finding::GasLimitRejected(rejection) => transaction::gas_limit_rejected(evidence, rejection),
        Finding::DroppedFromMempool(rejection) => transaction::dropped_from_mempool(evidence, *rejection),
        Finding::Pending => transaction::pending(evidence),
        Finding::NoContract { endpoint, contract } => chain::no_contract(endpoint, *contract),
        Finding::OverBudget(over) => transaction::over_budget(*over),
        Finding::Queued(blocker) => transaction::queued(evidence, *blocker),
    }
}
