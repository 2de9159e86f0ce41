//! A finding in the words of somebody who is woken up by it: what is so, the numbers, what the service does about it, and what
//! a person can do. At most [`LONGEST`] characters of plain ASCII, and never a URL. Beside each sentence stand the numbers
//! that prove it: stable keys in camelCase, with the unit in the key where there is one.

mod chain;
mod transaction;

use super::{Evidence, Refused, Sent, Subject, decide::Finding};
use std::{collections::BTreeMap, fmt::Display, time::Duration};

/// The longest explanation, in characters: it travels in the metadata of a gRPC error, whose trailers stay under 4 KiB.
pub const LONGEST: usize = 300;

/// The longest number, in characters: what others say can be longer.
const LONGEST_NUMBER: usize = 200;
/// As much of an endpoint's name as an explanation shows.
const NAME: usize = 32;
/// As much of a node's words as an explanation shows.
const WORDS: usize = 64;
/// As much of an obstacle's words, which are the whole explanation but for a frame.
const OBSTACLE: usize = 170;

/// What the service does with every transaction that no block holds.
const AGAIN: &str = "The same bytes go to every endpoint again every 3 s";

/// A sentence and its numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    /// The sentence.
    pub explanation: String,
    /// The numbers by their keys.
    pub numbers: BTreeMap<String, String>,
}

impl Told {
    fn new(explanation: String) -> Self {
        Self { explanation, numbers: BTreeMap::new() }
    }

    /// With this number.
    pub(super) fn note(mut self, key: &str, value: impl Display) -> Self {
        let value = value.to_string().chars().take(LONGEST_NUMBER).collect();
        self.numbers.insert(key.to_owned(), value);
        self
    }

    /// With this number, if there is one.
    pub(super) fn note_some(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.note(key, value),
            None => self,
        }
    }

    /// With what a node said.
    fn note_refusal(self, refused: &Refused) -> Self {
        self.note("refusedBy", &refused.endpoint).note("refusalCode", refused.code).note("refusalWords", &refused.words)
    }
}

/// Tells a finding. No sentence is longer than it may be, whatever the numbers in it.
pub(super) fn tell(seen: &Evidence, finding: &Finding<'_>) -> Told {
    let told = of(seen, finding);
    Told { explanation: cut(&told.explanation, LONGEST), ..told }
}

fn of(seen: &Evidence, finding: &Finding<'_>) -> Told {
    match finding {
        Finding::NoEndpoint => chain::no_endpoint(seen),
        Finding::Silence(silent) => chain::silence(seen, silent),
        Finding::Unanswered(words) => chain::unanswered(seen, *words),
        Finding::Stalled(stall) => chain::stalled(seen, stall),
        Finding::ReceiptsDiffer { shows, block, differs } => chain::receipts_differ(shows, *block, differs),
        Finding::BlocksDiffer { shows, block, differs } => chain::blocks_differ(shows, *block, differs),
        Finding::NoncesDiffer { ahead, behind } => chain::nonces_differ(nonce(seen), ahead, behind),
        Finding::Behindhand { endpoint, lag } => chain::behindhand(endpoint, *lag),
        Finding::Awaiting { block, depth } => chain::awaiting(seen, *block, *depth),
        Finding::AwaitingFound { block, depth } => chain::found(seen, *block, *depth),
        Finding::Reverted { receipt, depth } => chain::reverted(seen, receipt, *depth),
        Finding::WouldRevert(account) => chain::would_revert(*account),
        Finding::Reorged { block } => chain::reorged(*block),
        Finding::Replaced { next, since } => transaction::replaced(seen, *next, *since),
        Finding::Outbid(refused) => transaction::outbid(seen, refused),
        Finding::Gap { next } => transaction::gap(seen, *next),
        Finding::Behind(earlier) => transaction::behind(earlier),
        Finding::NoncePassed => transaction::nonce_passed(seen),
        Finding::FeeTooLow { base_fee } => transaction::fee_too_low(seen, *base_fee),
        Finding::FeeRefused(refused) => transaction::fee_refused(seen, refused),
        Finding::AboveCap(above) => transaction::above_cap(*above),
        Finding::TipTooLow { offered, crowd } => transaction::tip_too_low(seen, *offered, crowd),
        Finding::Funds { signer, balance, needed } => transaction::funds(seen, *signer, *balance, *needed),
        Finding::FundsRefused(refused) => transaction::funds_refused(seen, *refused),
        Finding::SenderLimit(refused) => transaction::sender_limit(seen, refused),
        Finding::TooLarge { gas, limit } => transaction::too_large(*gas, *limit),
        Finding::GasRefused(refused) => transaction::gas_refused(seen, refused),
        Finding::Dropped(refused) => transaction::dropped(seen, *refused),
        Finding::Waiting => transaction::waiting(seen),
        Finding::NoContract { endpoint, contract } => chain::no_contract(endpoint, *contract),
        Finding::OverBudget(over) => transaction::over_budget(*over),
        Finding::Queued(hindrance) => transaction::queued(seen, *hindrance),
    }
}

fn sent(seen: &Evidence) -> Option<&Sent> {
    match &seen.subject {
        Subject::Sent(sent) => Some(sent),
        Subject::Unsent(_) | Subject::Included { .. } => None,
    }
}

fn nonce(seen: &Evidence) -> u64 {
    sent(seen).map_or(0, |sent| sent.nonce)
}

/// What happens to bytes that a node does not take.
fn tried_again(seen: &Evidence) -> String {
    match &seen.subject {
        Subject::Sent(_) => format!("{AGAIN}."),
        Subject::Unsent(_) | Subject::Included { .. } => {
            "It is tried again every 2 s and goes on by itself.".to_owned()
        }
    }
}

fn quoted(refused: &Refused) -> String {
    format!("{} refuses it: \"{}\" (code {}).", name(&refused.endpoint), cut(&refused.words, WORDS), refused.code)
}

/// The first two, and how many more.
fn list(mut all: impl Iterator<Item = String>) -> String {
    let (first, second, more) = (all.next(), all.next(), all.count());
    match (first, second, more) {
        (None, _, _) => String::new(),
        (Some(one), None, _) => one,
        (Some(one), Some(two), 0) => format!("{one} and {two}"),
        (Some(one), Some(two), more) => format!("{one}, {two} and {more} more"),
    }
}

fn name(endpoint: &str) -> String {
    cut(endpoint, NAME)
}

/// The first so many characters, on one line; plain ASCII, so that it costs one byte each on the wire.
fn cut(text: &str, most: usize) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    if text.chars().count() <= most {
        return text.chars().map(plain).collect();
    }
    let mut short: String = text.chars().take(most - 3).map(plain).collect();
    short.push_str("...");
    short
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
