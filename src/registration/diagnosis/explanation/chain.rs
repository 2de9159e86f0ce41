//! What concerns endpoints, blocks and the contract.

use super::text::{
    Explanation, MAX_NODE_MESSAGE_CHARS, REBROADCAST_NOTE, endpoint_name, format_seconds, join_first_two, submitted_tx,
    truncate_ascii,
};
use crate::registration::{
    diagnosis::evidence::{Evidence, Subject},
    observations::{EndpointAnswer, EndpointSnapshot, ReceiptSnapshot, RevertReason, StallSnapshot},
};
use alloy::primitives::{Address, hex};
use std::time::Duration;

/// A chain that mines on demand is not said to stand still before this.
const ON_DEMAND_STALL_AFTER: Duration = Duration::from_secs(2);

pub(super) fn no_endpoint(seen: &Evidence) -> Explanation {
    unavailable(seen, "can be used", join_first_two(seen.chain.unusable.iter().map(describe_endpoint)))
}

pub(super) fn no_answers(seen: &Evidence, silent: &[EndpointAnswer<String>]) -> Explanation {
    unavailable(seen, "answered in time", join_first_two(silent.iter().map(describe_unanswered)))
}

pub(super) fn last_call_failed(seen: &Evidence, words: Option<&str>) -> Explanation {
    unavailable(
        seen,
        "answered the last time",
        words.map_or_else(String::new, |words| truncate_ascii(words, MAX_NODE_MESSAGE_CHARS)),
    )
}

fn unavailable(seen: &Evidence, what: &str, which: String) -> Explanation {
    let which = if which.is_empty() { which } else { format!(": {which}") };
    let (usable, all) = (seen.chain.usable.len(), seen.chain.usable.len() + seen.chain.unusable.len());
    Explanation::new(format!(
        "No RPC endpoint {what}{which}. Nothing can be sent and nothing of the chain is seen until one does. The work is on disk \
         and goes on by itself then; look at the endpoints, or at REGISTRAR_RPC_URLS."
    ))
    .field("usableEndpoints", format!("{usable} of {all}"))
}

fn describe_endpoint(endpoint: &EndpointSnapshot) -> String {
    let error = endpoint
        .error
        .as_ref()
        .map(|error| format!(": {}", truncate_ascii(error, MAX_NODE_MESSAGE_CHARS / 2)))
        .unwrap_or_default();
    format!("{} ({}{error})", endpoint_name(&endpoint.name), endpoint.state)
}

fn describe_unanswered(silent: &EndpointAnswer<String>) -> String {
    format!("{} ({})", endpoint_name(&silent.endpoint), truncate_ascii(&silent.value, MAX_NODE_MESSAGE_CHARS / 2))
}

pub(super) fn chain_stalled(seen: &Evidence, stall: &StallSnapshot) -> Explanation {
    let (still, head) = (format_seconds(stall.duration), stall.head);
    let standing = match &seen.subject {
        Subject::Included { block, .. } => format!(" The transaction is in block {block}."),
        Subject::Unsent(_) => String::new(),
        Subject::Submitted(_) => format!(" {REBROADCAST_NOTE} and nothing is replaced."),
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
    Explanation::new(told).field("stalledAtBlock", head).field("stalledSeconds", stall.duration.as_secs())
}

pub(super) fn receipts_differ(shows: &str, block: u64, differs: &str) -> Explanation {
    endpoints_disagree(
        &format!(
            "{} shows the transaction in block {block}, and {} does not",
            endpoint_name(shows),
            endpoint_name(differs)
        ),
        "It counts when the one that is followed shows it.",
    )
    .field("includedBlock", block)
}

pub(super) fn blocks_differ(shows: &str, block: u64, differs: &str) -> Explanation {
    endpoints_disagree(
        &format!(
            "{} shows block {block}, which holds the transaction, and {} does not",
            endpoint_name(shows),
            endpoint_name(differs)
        ),
        "It is confirmed when they agree.",
    )
    .field("includedBlock", block)
    .field("blockShownBy", shows)
    .field("blockNotShownBy", differs)
}

pub(super) fn nonces_differ(nonce: u64, ahead: &str, behind: &str) -> Explanation {
    endpoints_disagree(
        &format!("{} shows its nonce {nonce} as used, and {} does not", endpoint_name(ahead), endpoint_name(behind)),
        "A receipt settles it, and nothing is given up before.",
    )
    .field("nonceUsedBy", ahead)
    .field("nonceUnusedBy", behind)
}

pub(super) fn endpoint_lagging(endpoint: &str, lag: Duration) -> Explanation {
    endpoints_disagree(
        &format!(
            "{} is {} behind the others, and of those that were asked it alone knows it",
            endpoint_name(endpoint),
            format_seconds(lag)
        ),
        &format!("{REBROADCAST_NOTE}."),
    )
    .field("laggingEndpoint", endpoint)
    .field("lagSeconds", lag.as_secs())
}

fn endpoints_disagree(how: &str, so: &str) -> Explanation {
    Explanation::new(format!(
        "The endpoints disagree: {how}. One of them is behind or on another branch. {so} If it stays so, take the wrong one \
         out of REGISTRAR_RPC_URLS."
    ))
}

pub(super) fn awaiting_confirmations(seen: &Evidence, block: u64, depth: Option<u64>) -> Explanation {
    let required = seen.confirmations_required;
    let has = depth.map_or_else(|| "too few".to_owned(), |depth| depth.to_string());
    let base =
        format!("The transaction is in block {block}, which has {has} of the {required} confirmations it needs.");
    let told = match seen.chain.head.filter(|head| seen.chain.mines_on_demand && head.age >= ON_DEMAND_STALL_AFTER) {
        Some(head) => format!(
            "{base} No block has come for {}. A node that mines only when there is a transaction, as plain anvil does, may never \
             mine the next one: start anvil with --block-time 1, or set REGISTRAR_CONFIRMATIONS=1.",
            format_seconds(head.age)
        ),
        None if depth.is_some_and(|depth| depth >= required) => {
            format!("{base} It is confirmed as soon as the endpoints agree on that.")
        }
        None => format!("{base} It goes on with the next block."),
    };
    confirmation_fields(Explanation::new(told), seen, Some(block), depth)
        .field_opt("secondsSinceNewBlock", seen.chain.head.map(|head| head.age.as_secs()))
}

pub(super) fn awaiting_foreign_confirmations(seen: &Evidence, block: Option<u64>, depth: Option<u64>) -> Explanation {
    let required = seen.confirmations_required;
    let which = match (block, depth) {
        (Some(block), Some(depth)) => {
            format!("block {block}, which has {depth} of the {required} confirmations it needs")
        }
        (Some(_) | None, _) => "a block that is not deep enough yet".to_owned(),
    };
    let told = Explanation::new(format!(
        "The pair is on chain already, by another transaction in {which}. Nothing is sent for it; it is confirmed by itself \
         when that block is deep enough."
    ));
    confirmation_fields(told, seen, block, depth)
}

pub(super) fn reverted(seen: &Evidence, receipt: &ReceiptSnapshot, depth: Option<u64>) -> Explanation {
    let sent = submitted_tx(seen);
    let out_of_gas = sent.is_some_and(|sent| receipt.gas_used >= sent.gas_limit);
    let revert = sent.and_then(|sent| sent.answers.revert.as_ref());
    let why = match revert.filter(|_| !out_of_gas) {
        None if out_of_gas => format!(": it ran out of gas, and used all {}", receipt.gas_used),
        None => String::new(),
        Some(RevertReason::NotRegistrar(account)) => {
            format!(": the contract does not allow {account}; its owner mends that with addRegistrar")
        }
        Some(RevertReason::Data(data)) => {
            format!(" with {}", truncate_ascii(&hex::encode_prefixed(data), MAX_NODE_MESSAGE_CHARS))
        }
        Some(RevertReason::NotReproduced) => "; run again it does not, so why is not known".to_owned(),
    };
    let now = depth.map(|depth| format!(" ({depth} now)")).unwrap_or_default();
    let told = Explanation::new(format!(
        "The transaction is in block {} and reverted{why}. When that block has {} confirmations{now} its work is queued again, \
         and fails after three reverts.",
        receipt.block, seen.confirmations_required
    ));
    confirmation_fields(told, seen, Some(receipt.block), depth)
        .field("gasUsed", receipt.gas_used)
        .field_opt("gasLimit", sent.map(|sent| sent.gas_limit))
        .field_opt("revert", revert.map(format_revert))
}

fn format_revert(revert: &RevertReason) -> String {
    match revert {
        RevertReason::NotRegistrar(account) => format!("NotRegistrar({account})"),
        RevertReason::Data(data) => hex::encode_prefixed(data),
        RevertReason::NotReproduced => "none when run again".to_owned(),
    }
}

pub(super) fn no_contract(endpoint: &str, contract: Address) -> Explanation {
    Explanation::new(format!(
        "{} answers, but has no contract at {contract}: it was restarted with an empty chain, or shows another one. Nothing is \
         sent until that is mended: by REGISTRAR_RPC_URLS, or, on a new chain, with a new contract and a new database.",
        endpoint_name(endpoint)
    ))
    .field("contract", contract)
    .field("endpoint", endpoint)
}

pub(super) fn would_revert(account: Option<Address>) -> Explanation {
    let who = account.map_or_else(|| "its signer".to_owned(), |account| account.to_string());
    let call = account.map_or_else(String::new, |account| format!("({account})"));
    Explanation::new(format!(
        "Tried without sending, it reverts: the contract does not allow {who}. The contract's owner mends that with \
         addRegistrar{call}. Nothing is sent until then; it is tried again every 2 s and goes on by itself."
    ))
    .field_opt("revert", account.map(|account| format_revert(&RevertReason::NotRegistrar(account))))
}

pub(super) fn reorged(block: u64) -> Explanation {
    Explanation::new(format!(
        "Block {block}, which held the transaction, is no longer canonical: a reorg took it back, and no block is known to hold \
         it now. {REBROADCAST_NOTE}, so that a new block takes it; there is nothing to do."
    ))
    .field("reorgedOutOfBlock", block)
}

fn confirmation_fields(told: Explanation, seen: &Evidence, block: Option<u64>, depth: Option<u64>) -> Explanation {
    told.field_opt("includedBlock", block)
        .field_opt("confirmations", depth)
        .field("confirmationsRequired", seen.confirmations_required)
}
