//! Findings about endpoints, blocks and the contract.

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

/// A chain that mines on demand is not reported as stalled before this.
const ON_DEMAND_STALL_AFTER: Duration = Duration::from_secs(2);

pub(super) fn no_endpoint(evidence: &Evidence) -> Explanation {
    unavailable(evidence, "can be used", join_first_two(evidence.chain.unusable.iter().map(describe_endpoint)))
}

pub(super) fn no_answers(evidence: &Evidence, unanswered: &[EndpointAnswer<String>]) -> Explanation {
    unavailable(evidence, "responded in time", join_first_two(unanswered.iter().map(describe_unanswered)))
}

pub(super) fn last_call_failed(evidence: &Evidence, words: Option<&str>) -> Explanation {
    unavailable(
        evidence,
        "responded last time",
        words.map_or_else(String::new, |words| truncate_ascii(words, MAX_NODE_MESSAGE_CHARS)),
    )
}

fn unavailable(evidence: &Evidence, what: &str, which: String) -> Explanation {
    let which = if which.is_empty() { which } else { format!(": {which}") };
    let (usable, all) = (evidence.chain.usable.len(), evidence.chain.usable.len() + evidence.chain.unusable.len());
    Explanation::new(format!(
        "No RPC endpoint {what}{which}. Nothing is sent or confirmed until one is usable. The work is on disk and \
         continues by itself then; check the endpoints and REGISTRAR_RPC_URLS."
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

fn describe_unanswered(unanswered: &EndpointAnswer<String>) -> String {
    format!(
        "{} ({})",
        endpoint_name(&unanswered.endpoint),
        truncate_ascii(&unanswered.value, MAX_NODE_MESSAGE_CHARS / 2)
    )
}

pub(super) fn chain_stalled(evidence: &Evidence, stall: &StallSnapshot) -> Explanation {
    let (age, head) = (format_seconds(stall.duration), stall.head);
    let effect = match &evidence.subject {
        Subject::Included { block, .. } => format!(" The transaction is in block {block}."),
        Subject::Unsent(_) => String::new(),
        Subject::Submitted(_) => format!(" {REBROADCAST_NOTE} and not replaced."),
    };
    let text = if evidence.chain.mines_on_demand {
        format!(
            "Block {head} has been the newest for {age}: this node mines only on demand. Mine a block (evm_mine), or \
             start anvil with --block-time 1; no other problem is known."
        )
    } else {
        format!(
            "No endpoint has reported a new block for {age}: block {head} is still the newest. The chain is stalled, \
             and with it every transaction.{effect} Processing continues with the next block; check the network's \
             status page."
        )
    };
    Explanation::new(text).field("stalledAtBlock", head).field("stalledSeconds", stall.duration.as_secs())
}

pub(super) fn receipts_differ(shows: &str, block: u64, differs: &str) -> Explanation {
    endpoints_disagree(
        &format!(
            "{} has the transaction in block {block}, and {} does not",
            endpoint_name(shows),
            endpoint_name(differs)
        ),
        "The receipt of the primary endpoint counts.",
    )
    .field("includedBlock", block)
}

pub(super) fn blocks_differ(shows: &str, block: u64, differs: &str) -> Explanation {
    endpoints_disagree(
        &format!(
            "{} has block {block} with the transaction, and {} does not",
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
        &format!("{} reports its nonce {nonce} as used, and {} does not", endpoint_name(ahead), endpoint_name(behind)),
        "A receipt decides; the transaction is kept until then.",
    )
    .field("nonceUsedBy", ahead)
    .field("nonceUnusedBy", behind)
}

pub(super) fn endpoint_lagging(endpoint: &str, lag: Duration) -> Explanation {
    endpoints_disagree(
        &format!(
            "{} is {} behind the others, and only it knows the transaction",
            endpoint_name(endpoint),
            format_seconds(lag)
        ),
        &format!("{REBROADCAST_NOTE}."),
    )
    .field("laggingEndpoint", endpoint)
    .field("lagSeconds", lag.as_secs())
}

fn endpoints_disagree(difference: &str, outcome: &str) -> Explanation {
    Explanation::new(format!(
        "The endpoints disagree: {difference}. One of them is behind or on another branch. {outcome} If this lasts, \
         remove the wrong one from REGISTRAR_RPC_URLS."
    ))
}

pub(super) fn awaiting_confirmations(evidence: &Evidence, block: u64, depth: Option<u64>) -> Explanation {
    let required = evidence.confirmations_required;
    let has = depth.map_or_else(|| "too few".to_owned(), |depth| depth.to_string());
    let base =
        format!("The transaction is in block {block}, which has {has} of the {required} confirmations it needs.");
    let text =
        match evidence.chain.head.filter(|head| evidence.chain.mines_on_demand && head.age >= ON_DEMAND_STALL_AFTER) {
            Some(head) => format!(
                "{base} There has been no block for {}. A node that mines only when there is a transaction, as plain \
             anvil does, may never mine the next one: start anvil with --block-time 1, or set \
             REGISTRAR_CONFIRMATIONS=1.",
                format_seconds(head.age)
            ),
            None if depth.is_some_and(|depth| depth >= required) => {
                format!("{base} It is confirmed as soon as the endpoints agree on the block.")
            }
            None => format!("{base} No action is needed."),
        };
    confirmation_fields(Explanation::new(text), evidence, Some(block), depth)
        .field_opt("secondsSinceNewBlock", evidence.chain.head.map(|head| head.age.as_secs()))
}

pub(super) fn awaiting_foreign_confirmations(
    evidence: &Evidence,
    block: Option<u64>,
    depth: Option<u64>,
) -> Explanation {
    let required = evidence.confirmations_required;
    let which = match (block, depth) {
        (Some(block), Some(depth)) => {
            format!("block {block}, which has {depth} of the {required} confirmations it needs")
        }
        (Some(_) | None, _) => "a block that is not deep enough yet".to_owned(),
    };
    let explanation = Explanation::new(format!(
        "The pair is on chain already, by another transaction in {which}. Nothing is sent for it; it is confirmed \
         when that block is deep enough."
    ));
    confirmation_fields(explanation, evidence, block, depth)
}

pub(super) fn reverted(evidence: &Evidence, receipt: &ReceiptSnapshot, depth: Option<u64>) -> Explanation {
    let sent = submitted_tx(evidence);
    let out_of_gas = sent.is_some_and(|sent| receipt.gas_used >= sent.gas_limit);
    let revert = sent.and_then(|sent| sent.answers.revert.as_ref());
    let why = match revert.filter(|_| !out_of_gas) {
        None if out_of_gas => format!(": it ran out of gas, and used all {}", receipt.gas_used),
        None => String::new(),
        Some(RevertReason::NotRegistrar(account)) => {
            format!(": the contract does not allow {account}; its owner fixes that with addRegistrar")
        }
        Some(RevertReason::Data(data)) => {
            format!(" with {}", truncate_ascii(&hex::encode_prefixed(data), MAX_NODE_MESSAGE_CHARS))
        }
        Some(RevertReason::NotReproduced) => "; run again it does not, so the reason is unknown".to_owned(),
    };
    let now = depth.map(|depth| format!(" ({depth} now)")).unwrap_or_default();
    let explanation = Explanation::new(format!(
        "The transaction is in block {} and reverted{why}. When that block has {} confirmations{now} its work is \
         queued again, and fails after three reverts.",
        receipt.block, evidence.confirmations_required
    ));
    confirmation_fields(explanation, evidence, Some(receipt.block), depth)
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
        "{} responds, but has no contract at {contract}: it was restarted with an empty chain, or is on another one. \
         Nothing is sent until that is fixed: in REGISTRAR_RPC_URLS, or, on a new chain, with a new contract and a \
         new database.",
        endpoint_name(endpoint)
    ))
    .field("contract", contract)
    .field("endpoint", endpoint)
}

pub(super) fn would_revert(account: Option<Address>) -> Explanation {
    let who = account.map_or_else(|| "its signer".to_owned(), |account| account.to_string());
    let call = account.map_or_else(String::new, |account| format!("({account})"));
    Explanation::new(format!(
        "In a simulation it reverts: the contract does not allow {who}. The contract's owner fixes that with \
         addRegistrar{call}. Nothing is sent until then; it is retried every 2 s and continues by itself."
    ))
    .field_opt("revert", account.map(|account| format_revert(&RevertReason::NotRegistrar(account))))
}

pub(super) fn reorged(block: u64) -> Explanation {
    Explanation::new(format!(
        "Block {block}, which held the transaction, is no longer canonical after a reorg, and no block is known to \
         hold it now. {REBROADCAST_NOTE} until a new block includes it; no action is needed."
    ))
    .field("reorgedOutOfBlock", block)
}

fn confirmation_fields(
    explanation: Explanation,
    evidence: &Evidence,
    block: Option<u64>,
    depth: Option<u64>,
) -> Explanation {
    explanation
        .field_opt("includedBlock", block)
        .field_opt("confirmations", depth)
        .field("confirmationsRequired", evidence.confirmations_required)
}
