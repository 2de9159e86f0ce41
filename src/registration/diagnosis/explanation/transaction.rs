//! What concerns the transaction itself: its nonce, its offer, its signer, its place in the nodes' pools.

use super::text::{
    Explanation, MAX_BLOCKER_CHARS, REBROADCAST_NOTE, endpoint_name, format_seconds, join_first_two, quote_rejection,
    retry_note, submitted_tx, truncate_ascii, tx_nonce,
};
use crate::registration::{
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

/// What is done about an offer that is too low.
const FEE_BUMP_NOTE: &str = "It is signed again with a higher offer, up to REGISTRAR_MAX_FEE_GWEI";

pub(super) fn nonce_consumed_externally(seen: &Evidence, next: u64, since: Duration) -> Explanation {
    Explanation::new(format!(
        "Nonce {} of {} is used (the next one is {next}), and for {} no receipt shows that it was this transaction: somebody else \
         signs with this key; find out who. After 10 s at the earliest, and {} blocks, the work is queued under another nonce.",
        tx_nonce(seen),
        signer(seen),
        format_seconds(since),
        seen.confirmations_required
    ))
    .field("missingSeconds", since.as_secs())
    .field("from", signer(seen))
}

pub(super) fn replacement_underpriced(seen: &Evidence, refused: &NodeRejection) -> Explanation {
    Explanation::new(format!(
        "{} holds another transaction with nonce {} of {} that offers more: somebody else signs with this key. It is outbid up to the cap; \
         once the other one is mined, the work is queued under another nonce.",
        endpoint_name(&refused.endpoint),
        tx_nonce(seen),
        signer(seen)
    ))
    .rejection_fields(refused)
    .field("from", signer(seen))
}

pub(super) fn nonce_gap(seen: &Evidence, next: u64) -> Explanation {
    Explanation::new(format!(
        "The chain's next nonce for {} is {next}, and this transaction has {}: no block takes it over the gap, and nothing of \
         ours has {next}. It is filled by itself, with what was once signed for it or with a transfer of nothing.",
        signer(seen),
        tx_nonce(seen)
    ))
    .field("missingNonce", next)
    .field("from", signer(seen))
}

pub(super) fn behind_earlier_nonce(earlier: &EarlierTx) -> Explanation {
    let which = earlier.registration_id.map(|id| format!(" (registration {id})")).unwrap_or_default();
    Explanation::new(format!(
        "It waits for an earlier transaction of the same signer, nonce {}, {}, which no block holds yet. Diagnose that one \
         only{which}: this one follows by itself.",
        earlier.nonce, earlier.hash
    ))
    .field("earlierNonce", earlier.nonce)
    .field("earlierTransactionHash", earlier.hash)
    .field_opt("earlierRegistrationId", earlier.registration_id)
}

pub(super) fn nonce_just_consumed(seen: &Evidence) -> Explanation {
    Explanation::new(format!(
        "Its nonce {} was used a moment ago, and which transaction used it is not known yet. The receipt is asked for with each \
         look at the chain; there is nothing to do.",
        tx_nonce(seen)
    ))
}

pub(super) fn fee_too_low(seen: &Evidence, base_fee: u128) -> Explanation {
    Explanation::new(format!(
        "It offers at most {} per gas, and the next block asks {}: no block can take it. {FEE_BUMP_NOTE}. {REBROADCAST_NOTE}, and it goes on by \
         itself when the base fee falls.",
        format_gwei(submitted_tx(seen).map_or(0, |sent| sent.fees.max_fee_per_gas)),
        format_gwei(base_fee)
    ))
    .field_opt("maxFeePerGasWei", submitted_tx(seen).map(|sent| sent.fees.max_fee_per_gas))
    .field("nextBaseFeePerGasWei", base_fee)
}

pub(super) fn fee_rejected(seen: &Evidence, refused: &NodeRejection) -> Explanation {
    let offers = submitted_tx(seen).map(|sent| {
        let (most, tip) = (sent.fees.max_fee_per_gas, sent.fees.max_priority_fee_per_gas);
        format!(" It offers at most {} per gas, {} as priority fee.", format_gwei(most), format_gwei(tip))
    });
    Explanation::new(format!(
        "{}{} {FEE_BUMP_NOTE}, and goes on by itself.",
        quote_rejection(refused),
        offers.unwrap_or_default()
    ))
    .rejection_fields(refused)
    .field_opt("maxFeePerGasWei", submitted_tx(seen).map(|sent| sent.fees.max_fee_per_gas))
    .field_opt("maxPriorityFeePerGasWei", submitted_tx(seen).map(|sent| sent.fees.max_priority_fee_per_gas))
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
        "A block asks {asked} REGISTRAR_MAX_FEE_GWEI {allowed}. Nothing is sent until fees fall or the cap is raised; it is \
         tried again every 2 s and goes on by itself."
    ))
    .field_opt("neededFeePerGasWei", above.map(|above| above.needed))
    .field_opt("maxFeeCapWei", above.map(|above| above.cap))
}

pub(super) fn tip_too_low(seen: &Evidence, offered: u128, crowd: &Congestion) -> Explanation {
    let Congestion { full_blocks: crowded, sampled_blocks, lowest_tip } = crowd;
    Explanation::new(format!(
        "It offers a priority fee of {} per gas, and {crowded} of the last {sampled_blocks} blocks had no room for it beside what offers {} \
         and more. {FEE_BUMP_NOTE}, and goes on by itself when blocks are less full.",
        format_gwei(offered),
        format_gwei(*lowest_tip)
    ))
    .field("offeredTipPerGasWei", offered)
    .field("lowestCrowdedTipPerGasWei", lowest_tip)
    .field("crowdedBlocks", format!("{crowded} of {sampled_blocks}"))
    .field_opt("gasLimit", submitted_tx(seen).map(|sent| sent.gas_limit))
}

pub(super) fn insufficient_funds(seen: &Evidence, signer: Address, balance: U256, needed: U256) -> Explanation {
    let (verdict, does) = match &seen.subject {
        Subject::Submitted(_) => ("no block can take the transaction", REBROADCAST_NOTE),
        Subject::Unsent(_) | Subject::Included { .. } => ("nothing is sent", "It is tried again every 2 s"),
    };
    Explanation::new(format!(
        "{signer} has {} and may need {}: {verdict}. Send that account some ETH. {does}, and it goes on by itself when the \
         account can pay.",
        format_eth(balance),
        format_eth(needed)
    ))
    .field("from", signer)
    .field("balanceWei", balance)
    .field("neededWei", needed)
}

pub(super) fn funds_rejected(seen: &Evidence, refused: Option<&NodeRejection>) -> Explanation {
    let told = |said: String| Explanation::new(format!("{said} Send the signer some ETH. {}", retry_note(seen)));
    match refused {
        None => told("The signer cannot pay for the transaction.".to_owned()),
        Some(refused) => {
            told(format!("{} A node counts all that the signer has pending, and L1 fees.", quote_rejection(refused)))
                .rejection_fields(refused)
        }
    }
}

pub(super) fn sender_limit(seen: &Evidence, refused: &NodeRejection) -> Explanation {
    let out = submitted_tx(seen).map(|sent| sent.in_flight);
    let wait = out.map(|out| format!("; {out} of this one wait for a block")).unwrap_or_default();
    Explanation::new(format!(
        "{} Nodes take only so many of one account{wait}. {} If it stays so, add a signer key or an endpoint.",
        quote_rejection(refused),
        retry_note(seen)
    ))
    .rejection_fields(refused)
    .field_opt("inFlight", out)
}

pub(super) fn too_large(gas: Option<u64>, limit: u64) -> Explanation {
    let needs = gas.map_or("It needs more gas than a block takes".to_owned(), |gas| format!("Its gas limit is {gas}"));
    Explanation::new(format!(
        "{needs} and the most that a block takes is {limit}: no block can take it. A batch is split, and its \
         first part goes on at the same nonce; a single one goes on by itself if the chain's limit rises. {REBROADCAST_NOTE}."
    ))
    .field_opt("gasLimit", gas)
    .field("mostGas", limit)
}

pub(super) fn gas_limit_rejected(seen: &Evidence, refused: &NodeRejection) -> Explanation {
    let gas = submitted_tx(seen).map(|sent| format!(" of {}", sent.gas_limit)).unwrap_or_default();
    Explanation::new(format!(
        "{} That is about its gas limit{gas}: more than a block or a transaction may have, or less than it needs. {}",
        quote_rejection(refused),
        retry_note(seen)
    ))
    .rejection_fields(refused)
    .field_opt("gasLimit", submitted_tx(seen).map(|sent| sent.gas_limit))
}

pub(super) fn dropped_from_mempool(seen: &Evidence, refused: Option<&NodeRejection>) -> Explanation {
    let (known, took) =
        submitted_tx(seen).map_or((&[][..], None), |sent| (&sent.answers.tx_known[..], sent.accepted_by.as_deref()));
    let asked = join_first_two(known.iter().map(|witness| endpoint_name(&witness.endpoint)));
    let ago = time_since_submit(seen).map(|age| format!(" {age} ago")).unwrap_or_default();
    match refused {
        Some(refused) => {
            let said = quote_rejection(refused);
            Explanation::new(format!("It was taken{ago}, and is not known to {asked} now. {said} {REBROADCAST_NOTE}."))
                .rejection_fields(refused)
        }
        None => Explanation::new(format!(
            "{} took it{ago}, and it is not known to {asked} now; nothing else is known to be wrong. {REBROADCAST_NOTE}; there is nothing \
             to do unless it stays so.",
            took.map_or_else(|| "A node".to_owned(), endpoint_name)
        )),
    }
}

pub(super) fn pending(seen: &Evidence) -> Explanation {
    let (known, took) =
        submitted_tx(seen).map_or((&[][..], None), |sent| (&sent.answers.tx_known[..], sent.accepted_by.as_deref()));
    let knows =
        join_first_two(known.iter().filter(|witness| witness.value).map(|witness| endpoint_name(&witness.endpoint)));
    let ago = time_since_submit(seen).map(|age| format!(" for {age}")).unwrap_or_default();
    let state = if knows.is_empty() {
        format!("The transaction was sent and has been waiting{ago}; no block is known to hold it.")
    } else {
        format!(
            "The transaction has been waiting for a block{ago}. It is known to {knows}, and nothing is known to be wrong."
        )
    };
    Explanation::new(format!("{state} {REBROADCAST_NOTE}, and it goes on by itself.")).field_opt("takenBy", took)
}

pub(super) fn over_budget(over: Option<&OverBudget>) -> Explanation {
    let goes_on = "It goes on by itself at 00:00 UTC, or when the budget is raised.";
    let explanation = match over {
        None => format!("It waits for the day's budget, REGISTRAR_DAILY_BUDGET_ETH, which is used up. {goes_on}"),
        Some(over) => format!(
            "It waits for the day's budget, REGISTRAR_DAILY_BUDGET_ETH: of {} today, {} are spent or kept for what is out, and \
             the next transaction may cost {}. {goes_on}",
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

pub(super) fn queued(seen: &Evidence, hindrance: Option<&Blocker>) -> Explanation {
    let blocked = match &seen.subject {
        Subject::Unsent(unsent) => unsent.blocked_reason,
        Subject::Submitted(_) | Subject::Included { .. } => None,
    };
    match hindrance {
        Some(Blocker::Rejected(refused)) => Explanation::new(format!(
            "{} It is accepted, and no node has a transaction for it. It is tried again every 2 s and goes on by itself when the \
             node takes it.",
            quote_rejection(refused)
        ))
        .rejection_fields(refused),
        Some(hindrance) => Explanation::new(format!(
            "It is accepted, and no node has a transaction for it: {}. It is tried again every 2 s and goes on by itself.",
            truncate_ascii(&hindrance.to_string(), MAX_BLOCKER_CHARS)
        )),
        None if blocked.is_some() => Explanation::new(
            "It is accepted, and a node refused its transaction when it was last tried; the node's words are in the log. It is \
             tried again every 2 s and goes on by itself."
                .to_owned(),
        ),
        None => Explanation::new("It is accepted and waits for its turn; no node has taken a transaction for it yet.".to_owned()),
    }
}

fn time_since_submit(seen: &Evidence) -> Option<String> {
    seen.submitted_at.map(|at| format_seconds(seen.now.since(at)))
}

fn signer(seen: &Evidence) -> Address {
    submitted_tx(seen).map(|sent| sent.signer).unwrap_or_default()
}
