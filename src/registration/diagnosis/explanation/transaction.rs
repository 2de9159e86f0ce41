//! Findings about the transaction: its nonce, fees, signer and state in the mempools.

use super::text::{
    Explanation, MAX_BLOCKER_CHARS, REBROADCAST_NOTE, endpoint_name, format_seconds, join_first_two, quote_rejection,
    retry_note, submitted_tx, truncate_ascii, tx_nonce,
};
use crate::registration::{
    BlockedReason,
    diagnosis::{
        blocker::Blocker,
        classify::Congestion,
        evidence::{EarlierTx, Evidence, Subject},
    },
    observations::NodeRejection,
    policy::{budget::OverBudget, fees::FeeCapExceeded},
    units::{format_eth, format_gwei},
};
use alloy::primitives::{Address, U256};
use std::time::Duration;

/// What the service does about fees that are too low.
const FEE_BUMP_NOTE: &str = "It is replaced with higher fees, up to REGISTRAR_MAX_FEE_GWEI";

pub(super) fn nonce_consumed_externally(evidence: &Evidence, next: u64, since: Duration) -> Explanation {
    Explanation::new(format!(
        "Nonce {} of {} is used (the next one is {next}), and for {} no receipt has shown this transaction: another \
         sender uses this key; find out which. After at least 10 s and {} blocks, the work is queued under another \
         nonce.",
        tx_nonce(evidence),
        signer(evidence),
        format_seconds(since),
        evidence.confirmations_required
    ))
    .field("missingSeconds", since.as_secs())
    .field("from", signer(evidence))
}

pub(super) fn replacement_underpriced(evidence: &Evidence, rejection: &NodeRejection) -> Explanation {
    Explanation::new(format!(
        "{} has another transaction with nonce {} of {} and higher fees: another sender uses this key. Fees are \
         raised up to the cap; once the other one is mined, the work is queued under another nonce.",
        endpoint_name(&rejection.endpoint),
        tx_nonce(evidence),
        signer(evidence)
    ))
    .rejection_fields(rejection)
    .field("from", signer(evidence))
}

pub(super) fn nonce_gap(evidence: &Evidence, next: u64) -> Explanation {
    Explanation::new(format!(
        "The chain's next nonce for {} is {next}, and this transaction has {}: no block includes it before the gap \
         is closed, and no pending transaction of ours has {next}. The gap is filled automatically, with a \
         transaction signed for it before or an empty transfer.",
        signer(evidence),
        tx_nonce(evidence)
    ))
    .field("missingNonce", next)
    .field("from", signer(evidence))
}

pub(super) fn behind_earlier_nonce(earlier: &EarlierTx) -> Explanation {
    let which = earlier.registration_id.map(|id| format!(" (registration {id})")).unwrap_or_default();
    Explanation::new(format!(
        "It waits for an earlier transaction of the same signer, nonce {}, {}, which is in no block yet. Diagnose only \
         that one{which}: this one follows by itself.",
        earlier.nonce, earlier.hash
    ))
    .field("earlierNonce", earlier.nonce)
    .field("earlierTransactionHash", earlier.hash)
    .field_opt("earlierRegistrationId", earlier.registration_id)
}

pub(super) fn nonce_just_consumed(evidence: &Evidence) -> Explanation {
    Explanation::new(format!(
        "Its nonce {} was used a moment ago, and it is not known yet by which transaction. The receipt is requested \
         with each poll of the chain; no action is needed.",
        tx_nonce(evidence)
    ))
}

pub(super) fn fee_too_low(evidence: &Evidence, base_fee: u128) -> Explanation {
    Explanation::new(format!(
        "Its maximum fee is {} per gas, below the next base fee of {}: no block can include it. {FEE_BUMP_NOTE}. \
         {REBROADCAST_NOTE}, and continues by itself when the base fee falls.",
        format_gwei(submitted_tx(evidence).map_or(0, |sent| sent.fees.max_fee_per_gas)),
        format_gwei(base_fee)
    ))
    .field_opt("maxFeePerGasWei", submitted_tx(evidence).map(|sent| sent.fees.max_fee_per_gas))
    .field("nextBaseFeePerGasWei", base_fee)
}

pub(super) fn fee_rejected(evidence: &Evidence, rejection: &NodeRejection) -> Explanation {
    let offers = submitted_tx(evidence).map(|sent| {
        let (most, tip) = (sent.fees.max_fee_per_gas, sent.fees.max_priority_fee_per_gas);
        format!(" Its maximum fee is {} per gas, {} of it priority fee.", format_gwei(most), format_gwei(tip))
    });
    Explanation::new(format!(
        "{}{} {FEE_BUMP_NOTE}, and continues by itself.",
        quote_rejection(rejection),
        offers.unwrap_or_default()
    ))
    .rejection_fields(rejection)
    .field_opt("maxFeePerGasWei", submitted_tx(evidence).map(|sent| sent.fees.max_fee_per_gas))
    .field_opt("maxPriorityFeePerGasWei", submitted_tx(evidence).map(|sent| sent.fees.max_priority_fee_per_gas))
}

pub(super) fn fee_cap_exceeded(above: Option<&FeeCapExceeded>) -> Explanation {
    let (asked, allowed) = above.map_or_else(
        || ("more per gas than".to_owned(), "allows".to_owned()),
        |above| {
            (
                format!("at least {} per gas, and", format_gwei(above.needed)),
                format!("allows {}", format_gwei(above.cap)),
            )
        },
    );
    Explanation::new(format!(
        "A block requires {asked} REGISTRAR_MAX_FEE_GWEI {allowed}. Nothing is sent until fees fall or the cap is \
         raised; it is retried every 2 s and continues by itself."
    ))
    .field_opt("neededFeePerGasWei", above.map(|above| above.needed))
    .field_opt("maxFeeCapWei", above.map(|above| above.cap))
}

pub(super) fn tip_too_low(evidence: &Evidence, offered: u128, crowd: &Congestion) -> Explanation {
    let Congestion { full_blocks: crowded, sampled_blocks, lowest_tip } = crowd;
    Explanation::new(format!(
        "Its priority fee is {} per gas, and {crowded} of the last {sampled_blocks} blocks were full of transactions \
         with {} or more. {FEE_BUMP_NOTE}, and continues by itself when blocks are less full.",
        format_gwei(offered),
        format_gwei(*lowest_tip)
    ))
    .field("offeredTipPerGasWei", offered)
    .field("lowestCrowdedTipPerGasWei", lowest_tip)
    .field("crowdedBlocks", format!("{crowded} of {sampled_blocks}"))
    .field_opt("gasLimit", submitted_tx(evidence).map(|sent| sent.gas_limit))
}

pub(super) fn insufficient_funds(evidence: &Evidence, signer: Address, balance: U256, needed: U256) -> Explanation {
    let (verdict, does) = match &evidence.subject {
        Subject::Submitted(_) => ("no block can include the transaction", REBROADCAST_NOTE),
        Subject::Unsent(_) | Subject::Included { .. } => ("nothing is sent", "It is retried every 2 s"),
    };
    Explanation::new(format!(
        "{signer} has {} and may need {}: {verdict}. Send that account some ETH. {does}, and continues by itself \
         when the account can pay.",
        format_eth(balance),
        format_eth(needed)
    ))
    .field("from", signer)
    .field("balanceWei", balance)
    .field("neededWei", needed)
}

pub(super) fn funds_rejected(evidence: &Evidence, rejection: Option<&NodeRejection>) -> Explanation {
    let explain = |said: String| Explanation::new(format!("{said} Send the signer some ETH. {}", retry_note(evidence)));
    match rejection {
        None => explain("The signer cannot pay for the transaction.".to_owned()),
        Some(rejection) => explain(format!(
            "{} A node counts all pending transactions of the signer, and L1 fees.",
            quote_rejection(rejection)
        ))
        .rejection_fields(rejection),
    }
}

pub(super) fn sender_limit(evidence: &Evidence, rejection: &NodeRejection) -> Explanation {
    let out = submitted_tx(evidence).map(|sent| sent.in_flight);
    let wait = out.map(|out| format!("; {out} of this one are pending")).unwrap_or_default();
    Explanation::new(format!(
        "{} Nodes limit the pending transactions of an account{wait}. {} If this lasts, add a signer key or an \
         endpoint.",
        quote_rejection(rejection),
        retry_note(evidence)
    ))
    .rejection_fields(rejection)
    .field_opt("inFlight", out)
}

pub(super) fn too_large(gas: Option<u64>, limit: u64) -> Explanation {
    let needs = gas.map_or("It needs more gas than a block has".to_owned(), |gas| format!("Its gas limit is {gas}"));
    Explanation::new(format!(
        "{needs}, and the most that a block allows is {limit}: no block can include it. A batch is split, and its \
         first part continues at the same nonce; a single registration continues by itself if the chain's limit \
         rises. {REBROADCAST_NOTE}."
    ))
    .field_opt("gasLimit", gas)
    .field("mostGas", limit)
}

pub(super) fn gas_limit_rejected(evidence: &Evidence, rejection: &NodeRejection) -> Explanation {
    let gas = submitted_tx(evidence).map(|sent| format!(" of {}", sent.gas_limit)).unwrap_or_default();
    Explanation::new(format!(
        "{} The reason is its gas limit{gas}: more than a block or a transaction may have, or less than it needs. {}",
        quote_rejection(rejection),
        retry_note(evidence)
    ))
    .rejection_fields(rejection)
    .field_opt("gasLimit", submitted_tx(evidence).map(|sent| sent.gas_limit))
}

pub(super) fn dropped_from_mempool(evidence: &Evidence, rejection: Option<&NodeRejection>) -> Explanation {
    let (known, took) = submitted_tx(evidence)
        .map_or((&[][..], None), |sent| (&sent.answers.tx_known[..], sent.accepted_by.as_deref()));
    let asked = join_first_two(known.iter().map(|answer| endpoint_name(&answer.endpoint)));
    let ago = time_since_submit(evidence).map(|age| format!(" {age} ago")).unwrap_or_default();
    match rejection {
        Some(rejection) => {
            let said = quote_rejection(rejection);
            Explanation::new(format!("It was accepted{ago}, and is now unknown to {asked}. {said} {REBROADCAST_NOTE}."))
                .rejection_fields(rejection)
        }
        None => Explanation::new(format!(
            "{} accepted it{ago}, and it is now unknown to {asked}; no other problem is known. {REBROADCAST_NOTE}; \
             no action is needed unless this lasts.",
            took.map_or_else(|| "A node".to_owned(), endpoint_name)
        )),
    }
}

pub(super) fn pending(evidence: &Evidence) -> Explanation {
    let (known, took) = submitted_tx(evidence)
        .map_or((&[][..], None), |sent| (&sent.answers.tx_known[..], sent.accepted_by.as_deref()));
    let knows =
        join_first_two(known.iter().filter(|answer| answer.value).map(|answer| endpoint_name(&answer.endpoint)));
    let ago = time_since_submit(evidence).map(|age| format!(" for {age}")).unwrap_or_default();
    let state = if knows.is_empty() {
        format!("The transaction was sent and has been pending{ago}; no block is known to hold it.")
    } else {
        format!("The transaction has been pending{ago}. {knows} has it in the mempool, and no problem is known.")
    };
    Explanation::new(format!("{state} {REBROADCAST_NOTE}, and continues by itself.")).field_opt("acceptedBy", took)
}

pub(super) fn over_budget(over: Option<&OverBudget>) -> Explanation {
    let continues = "It continues by itself at 00:00 UTC, or when the budget is raised.";
    let explanation = match over {
        None => format!("It waits for the day's budget, REGISTRAR_DAILY_BUDGET_ETH, which is spent. {continues}"),
        Some(over) => format!(
            "It waits for the day's budget, REGISTRAR_DAILY_BUDGET_ETH: of {} today, {} are spent or reserved for \
             pending transactions, and the next transaction may cost {}. {continues}",
            format_eth(U256::from(over.budget)),
            format_eth(U256::from(over.committed)),
            format_eth(U256::from(over.next_cost))
        ),
    };
    Explanation::new(explanation)
        .field_opt("budgetWei", over.map(|over| over.budget))
        .field_opt("takenWei", over.map(|over| over.committed))
        .field_opt("neededWei", over.map(|over| over.next_cost))
}

pub(super) fn queued(evidence: &Evidence, blocker: Option<&Blocker>) -> Explanation {
    let blocked = match &evidence.subject {
        Subject::Unsent(unsent) => unsent.blocked_reason,
        Subject::Submitted(_) | Subject::Included { .. } => None,
    };
    match blocker {
        Some(Blocker::Rejected(rejection)) => Explanation::new(format!(
            "{} The registration is accepted, and no node has a transaction for it. It is retried every 2 s and \
             continues by itself when the node accepts it.",
            quote_rejection(rejection)
        ))
        .rejection_fields(rejection),
        Some(blocker) => Explanation::new(format!(
            "It is accepted, and no node has a transaction for it: {}. It is retried every 2 s and continues by itself.",
            truncate_ascii(&blocker.to_string(), MAX_BLOCKER_CHARS)
        )),
        None if matches!(blocked, Some(BlockedReason::SignerUnavailable | BlockedReason::SignerThrottled)) => {
            Explanation::new(
                "It is accepted, and its signer did not sign at the last attempt; the reason is in the log. It is \
                 retried every 2 s and continues by itself."
                    .to_owned(),
            )
        }
        None if blocked.is_some() => Explanation::new(
            "It is accepted, and a node rejected its transaction at the last attempt; the node's message is in the \
             log. It is retried every 2 s and continues by itself."
                .to_owned(),
        ),
        None => Explanation::new("It is accepted and waits in the queue; no node has its transaction yet.".to_owned()),
    }
}

fn time_since_submit(evidence: &Evidence) -> Option<String> {
    evidence.submitted_at.map(|at| format_seconds(evidence.now.since(at)))
}

fn signer(evidence: &Evidence) -> Address {
    submitted_tx(evidence).map(|sent| sent.signer).unwrap_or_default()
}
