//! A finding in the words of somebody who is woken up by it: what is so, the numbers, what the service does about it, and what
//! a person can do. At most [`LONGEST`] characters of plain ASCII, and never a URL. Beside each sentence stand the numbers
//! that prove it: stable keys in camelCase, with the unit in the key where there is one.

mod chain;
mod transaction;

use super::{Evidence, NodeRejection, Subject, SubmittedTx, classify::Finding};
use std::{collections::BTreeMap, fmt::Display, time::Duration};

/// The longest explanation, in characters: it travels in the metadata of a gRPC error, whose trailers stay under 4 KiB.
pub const MAX_EXPLANATION_CHARS: usize = 300;

/// The longest number, in characters: what others say can be longer.
const MAX_FIELD_VALUE_CHARS: usize = 200;
/// As much of an endpoint's name as an explanation shows.
const MAX_ENDPOINT_NAME_CHARS: usize = 32;
/// As much of a node's words as an explanation shows.
const MAX_NODE_MESSAGE_CHARS: usize = 64;
/// As much of an obstacle's words, which are the whole explanation but for a frame.
const MAX_BLOCKER_CHARS: usize = 170;

/// What the service does with every transaction that no block holds.
const REBROADCAST_NOTE: &str = "The same bytes go to every endpoint again every 3 s";

/// A sentence and its numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Explanation {
    /// The sentence.
    pub text: String,
    /// The numbers by their keys.
    pub fields: BTreeMap<String, String>,
}

impl Explanation {
    fn new(explanation: String) -> Self {
        Self { text: explanation, fields: BTreeMap::new() }
    }

    /// With this number.
    pub(super) fn field(mut self, key: &str, value: impl Display) -> Self {
        let value = value.to_string().chars().take(MAX_FIELD_VALUE_CHARS).collect();
        self.fields.insert(key.to_owned(), value);
        self
    }

    /// With this number, if there is one.
    pub(super) fn field_opt(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// With what a node said.
    fn rejection_fields(self, refused: &NodeRejection) -> Self {
        self.field("refusedBy", &refused.endpoint)
            .field("refusalCode", refused.code)
            .field("refusalWords", &refused.message)
    }
}

/// Tells a finding. No sentence is longer than it may be, whatever the numbers in it.
pub(super) fn explain(seen: &Evidence, finding: &Finding<'_>) -> Explanation {
    let told = explain_finding(seen, finding);
    Explanation { text: truncate_ascii(&told.text, MAX_EXPLANATION_CHARS), ..told }
}

fn explain_finding(seen: &Evidence, finding: &Finding<'_>) -> Explanation {
    match finding {
        Finding::NoEndpoint => chain::no_endpoint(seen),
        Finding::NoAnswers(silent) => chain::no_answers(seen, silent),
        Finding::LastCallFailed(words) => chain::last_call_failed(seen, *words),
        Finding::ChainStalled(stall) => chain::chain_stalled(seen, stall),
        Finding::ReceiptsDiffer { shown_by: shows, block, contradicted_by } => {
            chain::receipts_differ(shows, *block, contradicted_by)
        }
        Finding::BlocksDiffer { shows, block, differs } => chain::blocks_differ(shows, *block, differs),
        Finding::NoncesDiffer { ahead, behind } => chain::nonces_differ(tx_nonce(seen), ahead, behind),
        Finding::EndpointLagging { endpoint, lag } => chain::endpoint_lagging(endpoint, *lag),
        Finding::AwaitingConfirmations { block, depth } => chain::awaiting_confirmations(seen, *block, *depth),
        Finding::AwaitingForeignConfirmations { block, depth } => {
            chain::awaiting_foreign_confirmations(seen, *block, *depth)
        }
        Finding::Reverted { receipt, depth } => chain::reverted(seen, receipt, *depth),
        Finding::WouldRevert(account) => chain::would_revert(*account),
        Finding::Reorged { block } => chain::reorged(*block),
        Finding::NonceConsumedExternally { next_nonce: next, receipt_missing_for: since } => {
            transaction::nonce_consumed_externally(seen, *next, *since)
        }
        Finding::ReplacementUnderpriced(refused) => transaction::replacement_underpriced(seen, refused),
        Finding::NonceGap { next } => transaction::nonce_gap(seen, *next),
        Finding::BehindEarlierNonce(earlier) => transaction::behind_earlier_nonce(earlier),
        Finding::NonceJustConsumed => transaction::nonce_just_consumed(seen),
        Finding::FeeTooLow { base_fee } => transaction::fee_too_low(seen, *base_fee),
        Finding::FeeRejected(refused) => transaction::fee_rejected(seen, refused),
        Finding::FeeCapExceeded(above) => transaction::fee_cap_exceeded(*above),
        Finding::TipTooLow { offered_tip: offered, congestion: crowd } => {
            transaction::tip_too_low(seen, *offered, crowd)
        }
        Finding::InsufficientFunds { signer, balance, needed } => {
            transaction::insufficient_funds(seen, *signer, *balance, *needed)
        }
        Finding::FundsRejected(refused) => transaction::funds_rejected(seen, *refused),
        Finding::SenderLimit(refused) => transaction::sender_limit(seen, refused),
        Finding::TooLarge { gas_limit: gas, max_gas } => transaction::too_large(*gas, *max_gas),
        Finding::GasLimitRejected(refused) => transaction::gas_limit_rejected(seen, refused),
        Finding::DroppedFromMempool(refused) => transaction::dropped_from_mempool(seen, *refused),
        Finding::Pending => transaction::pending(seen),
        Finding::NoContract { endpoint, contract } => chain::no_contract(endpoint, *contract),
        Finding::OverBudget(over) => transaction::over_budget(*over),
        Finding::Queued(hindrance) => transaction::queued(seen, *hindrance),
    }
}

fn submitted_tx(seen: &Evidence) -> Option<&SubmittedTx> {
    match &seen.subject {
        Subject::Submitted(sent) => Some(sent),
        Subject::Unsent(_) | Subject::Included { .. } => None,
    }
}

fn tx_nonce(seen: &Evidence) -> u64 {
    submitted_tx(seen).map_or(0, |sent| sent.nonce)
}

/// What happens to bytes that a node does not take.
fn retry_note(seen: &Evidence) -> String {
    match &seen.subject {
        Subject::Submitted(_) => format!("{REBROADCAST_NOTE}."),
        Subject::Unsent(_) | Subject::Included { .. } => {
            "It is tried again every 2 s and goes on by itself.".to_owned()
        }
    }
}

fn quote_rejection(refused: &NodeRejection) -> String {
    format!(
        "{} refuses it: \"{}\" (code {}).",
        endpoint_name(&refused.endpoint),
        truncate_ascii(&refused.message, MAX_NODE_MESSAGE_CHARS),
        refused.code
    )
}

/// The first two, and how many more.
fn join_first_two(mut all: impl Iterator<Item = String>) -> String {
    let (first, second, more) = (all.next(), all.next(), all.count());
    match (first, second, more) {
        (None, _, _) => String::new(),
        (Some(one), None, _) => one,
        (Some(one), Some(two), 0) => format!("{one} and {two}"),
        (Some(one), Some(two), more) => format!("{one}, {two} and {more} more"),
    }
}

fn endpoint_name(endpoint: &str) -> String {
    truncate_ascii(endpoint, MAX_ENDPOINT_NAME_CHARS)
}

/// The first so many characters, on one line; plain ASCII, so that it costs one byte each on the wire.
fn truncate_ascii(text: &str, most: usize) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    if text.chars().count() <= most {
        return text.chars().map(plain).collect();
    }
    let mut short: String = text.chars().take(most - 3).map(plain).collect();
    short.push_str("...");
    short
}

fn format_seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
