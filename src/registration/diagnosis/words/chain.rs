//! What concerns endpoints, blocks and the contract.

use super::{AGAIN, Told, WORDS, cut, list, name, seconds, sent};
use crate::registration::diagnosis::{EndpointSeen, Evidence, ReceiptSeen, Revert, StallSeen, Subject, Witnessed};
use alloy::primitives::{Address, hex};
use std::time::Duration;

/// A chain that mines on demand is not said to stand still before this.
const STILL: Duration = Duration::from_secs(2);

pub(super) fn no_endpoint(seen: &Evidence) -> Told {
    unavailable(seen, "can be used", list(seen.chain.unusable.iter().map(endpoint_in_words)))
}

pub(super) fn silence(seen: &Evidence, silent: &[Witnessed<String>]) -> Told {
    unavailable(seen, "answered in time", list(silent.iter().map(silent_in_words)))
}

pub(super) fn unanswered(seen: &Evidence, words: Option<&str>) -> Told {
    unavailable(seen, "answered the last time", words.map_or_else(String::new, |words| cut(words, WORDS)))
}

fn unavailable(seen: &Evidence, what: &str, which: String) -> Told {
    let which = if which.is_empty() { which } else { format!(": {which}") };
    let (usable, all) = (seen.chain.usable.len(), seen.chain.usable.len() + seen.chain.unusable.len());
    Told::new(format!(
        "No RPC endpoint {what}{which}. Nothing can be sent and nothing of the chain is seen until one does. The work is on disk \
         and goes on by itself then; look at the endpoints, or at REGISTRAR_RPC_URLS."
    ))
    .note("usableEndpoints", format!("{usable} of {all}"))
}

fn endpoint_in_words(endpoint: &EndpointSeen) -> String {
    let error = endpoint.error.as_ref().map(|error| format!(": {}", cut(error, WORDS / 2))).unwrap_or_default();
    format!("{} ({}{error})", name(&endpoint.name), endpoint.state)
}

fn silent_in_words(silent: &Witnessed<String>) -> String {
    format!("{} ({})", name(&silent.endpoint), cut(&silent.says, WORDS / 2))
}

pub(super) fn stalled(seen: &Evidence, stall: &StallSeen) -> Told {
    let (still, head) = (seconds(stall.lasting), stall.head);
    let standing = match &seen.subject {
        Subject::Included { block, .. } => format!(" The transaction is in block {block}."),
        Subject::Unsent(_) => String::new(),
        Subject::Sent(_) => format!(" {AGAIN} and nothing is replaced."),
    };
    let told = if seen.chain.mines_on_demand {
        format!(
            "Block {head} has been the newest for {still}: this node mines nothing just now. Mine a block (evm_mine), or start \
             anvil with --block-time 1; nothing else is known to be wrong."
        )
    } else {
        format!(
            "No endpoint has shown a new block for {still}: block {head} is still the newest. The chain stands still, and with \
             it every transaction.{standing} It goes on with the next block; look at the network's status page."
        )
    };
    Told::new(told).note("stalledAtBlock", head).note("stalledSeconds", stall.lasting.as_secs())
}

pub(super) fn receipts_differ(shows: &str, block: u64, differs: &str) -> Told {
    differ(
        &format!("{} shows the transaction in block {block}, and {} does not", name(shows), name(differs)),
        "It counts when the one that is followed shows it.",
    )
    .note("includedBlock", block)
}

pub(super) fn blocks_differ(shows: &str, block: u64, differs: &str) -> Told {
    differ(
        &format!("{} shows block {block}, which holds the transaction, and {} does not", name(shows), name(differs)),
        "It is confirmed when they agree.",
    )
    .note("includedBlock", block)
    .note("blockShownBy", shows)
    .note("blockNotShownBy", differs)
}

pub(super) fn nonces_differ(nonce: u64, ahead: &str, behind: &str) -> Told {
    differ(
        &format!("{} shows its nonce {nonce} as used, and {} does not", name(ahead), name(behind)),
        "A receipt settles it, and nothing is given up before.",
    )
    .note("nonceUsedBy", ahead)
    .note("nonceUnusedBy", behind)
}

pub(super) fn behindhand(endpoint: &str, lag: Duration) -> Told {
    differ(
        &format!(
            "{} is {} behind the others, and of those that were asked it alone knows it",
            name(endpoint),
            seconds(lag)
        ),
        &format!("{AGAIN}."),
    )
    .note("laggingEndpoint", endpoint)
    .note("lagSeconds", lag.as_secs())
}

fn differ(how: &str, so: &str) -> Told {
    Told::new(format!(
        "The endpoints disagree: {how}. One of them is behind or on another branch. {so} If it stays so, take the wrong one \
         out of REGISTRAR_RPC_URLS."
    ))
}

pub(super) fn awaiting(seen: &Evidence, block: u64, depth: Option<u64>) -> Told {
    let required = seen.confirmations_required;
    let has = depth.map_or_else(|| "too few".to_owned(), |depth| depth.to_string());
    let base =
        format!("The transaction is in block {block}, which has {has} of the {required} confirmations it needs.");
    let told = match seen.chain.head.filter(|head| seen.chain.mines_on_demand && head.still >= STILL) {
        Some(head) => format!(
            "{base} No block has come for {}. A node that mines only when there is a transaction, as plain anvil does, may never \
             mine the next one: start anvil with --block-time 1, or set REGISTRAR_CONFIRMATIONS=1.",
            seconds(head.still)
        ),
        None if depth.is_some_and(|depth| depth >= required) => {
            format!("{base} It is confirmed as soon as the endpoints agree on that.")
        }
        None => format!("{base} It goes on with the next block."),
    };
    deepening(Told::new(told), seen, Some(block), depth)
        .note_some("secondsSinceNewBlock", seen.chain.head.map(|head| head.still.as_secs()))
}

pub(super) fn found(seen: &Evidence, block: Option<u64>, depth: Option<u64>) -> Told {
    let required = seen.confirmations_required;
    let which = match (block, depth) {
        (Some(block), Some(depth)) => {
            format!("block {block}, which has {depth} of the {required} confirmations it needs")
        }
        (Some(_) | None, _) => "a block that is not deep enough yet".to_owned(),
    };
    let told = Told::new(format!(
        "The pair is on chain already, by another transaction in {which}. Nothing is sent for it; it is confirmed by itself \
         when that block is deep enough."
    ));
    deepening(told, seen, block, depth)
}

pub(super) fn reverted(seen: &Evidence, receipt: &ReceiptSeen, depth: Option<u64>) -> Told {
    let sent = sent(seen);
    let out_of_gas = sent.is_some_and(|sent| receipt.gas_used >= sent.gas_limit);
    let revert = sent.and_then(|sent| sent.answers.revert.as_ref());
    let why = match revert.filter(|_| !out_of_gas) {
        None if out_of_gas => format!(": it ran out of gas, and used all {}", receipt.gas_used),
        None => String::new(),
        Some(Revert::NotRegistrar(account)) => {
            format!(": the contract does not allow {account}; its owner mends that with addRegistrar")
        }
        Some(Revert::Data(data)) => format!(" with {}", cut(&hex::encode_prefixed(data), WORDS)),
        Some(Revert::Nothing) => "; run again it does not, so why is not known".to_owned(),
    };
    let now = depth.map(|depth| format!(" ({depth} now)")).unwrap_or_default();
    let told = Told::new(format!(
        "The transaction is in block {} and reverted{why}. When that block has {} confirmations{now} its work is queued again, \
         and fails after three reverts.",
        receipt.block, seen.confirmations_required
    ));
    deepening(told, seen, Some(receipt.block), depth)
        .note("gasUsed", receipt.gas_used)
        .note_some("gasLimit", sent.map(|sent| sent.gas_limit))
        .note_some("revert", revert.map(reason))
}

fn reason(revert: &Revert) -> String {
    match revert {
        Revert::NotRegistrar(account) => format!("NotRegistrar({account})"),
        Revert::Data(data) => hex::encode_prefixed(data),
        Revert::Nothing => "none when run again".to_owned(),
    }
}

pub(super) fn no_contract(endpoint: &str, contract: Address) -> Told {
    Told::new(format!(
        "{} answers, but has no contract at {contract}: it was restarted with an empty chain, or shows another one. Nothing is \
         sent until that is mended: by REGISTRAR_RPC_URLS, or, on a new chain, with a new contract and a new database.",
        name(endpoint)
    ))
    .note("contract", contract)
    .note("endpoint", endpoint)
}

pub(super) fn would_revert(account: Option<Address>) -> Told {
    let who = account.map_or_else(|| "its signer".to_owned(), |account| account.to_string());
    let call = account.map_or_else(String::new, |account| format!("({account})"));
    Told::new(format!(
        "Tried without sending, it reverts: the contract does not allow {who}. The contract's owner mends that with \
         addRegistrar{call}. Nothing is sent until then; it is tried again every 2 s and goes on by itself."
    ))
    .note_some("revert", account.map(|account| reason(&Revert::NotRegistrar(account))))
}

pub(super) fn reorged(block: u64) -> Told {
    Told::new(format!(
        "Block {block}, which held the transaction, is no longer canonical: a reorg took it back, and no block is known to hold \
         it now. {AGAIN}, so that a new block takes it; there is nothing to do."
    ))
    .note("reorgedOutOfBlock", block)
}

fn deepening(told: Told, seen: &Evidence, block: Option<u64>, depth: Option<u64>) -> Told {
    told.note_some("includedBlock", block)
        .note_some("confirmations", depth)
        .note("confirmationsRequired", seen.confirmations_required)
}
