//! What concerns the transaction itself: its nonce, its offer, its signer, its place in the nodes' pools.

use super::{AGAIN, OBSTACLE, Told, cut, list, name, nonce, quoted, seconds, sent, tried_again};
use crate::registration::{
    diagnosis::{Earlier, Evidence, Hindrance, Refused, Subject, decide::Crowd},
    policy::{budget::OverBudget, fees::AboveCap},
    units::{ether, gwei},
};
use alloy::primitives::{Address, U256};
use std::time::Duration;

/// What is done about an offer that is too low.
const RAISED: &str = "It is signed again with a higher offer, up to REGISTRAR_MAX_FEE_GWEI";

pub(super) fn replaced(seen: &Evidence, next: u64, since: Duration) -> Told {
    Told::new(format!(
        "Nonce {} of {} is used (the next one is {next}), and for {} no receipt shows that it was this transaction: somebody else \
         signs with this key; find out who. After 10 s at the earliest, and {} blocks, the work is queued under another nonce.",
        nonce(seen),
        signer(seen),
        seconds(since),
        seen.confirmations_required
    ))
    .note("missingSeconds", since.as_secs())
    .note("from", signer(seen))
}

pub(super) fn outbid(seen: &Evidence, refused: &Refused) -> Told {
    Told::new(format!(
        "{} holds another transaction with nonce {} of {} that offers more: somebody else signs with this key. It is outbid up to the cap; \
         once the other one is mined, the work is queued under another nonce.",
        name(&refused.endpoint),
        nonce(seen),
        signer(seen)
    ))
    .note_refusal(refused)
    .note("from", signer(seen))
}

pub(super) fn gap(seen: &Evidence, next: u64) -> Told {
    Told::new(format!(
        "The chain's next nonce for {} is {next}, and this transaction has {}: no block takes it over the gap, and nothing of \
         ours has {next}. It is filled by itself, with what was once signed for it or with a transfer of nothing.",
        signer(seen),
        nonce(seen)
    ))
    .note("missingNonce", next)
    .note("from", signer(seen))
}

pub(super) fn behind(earlier: &Earlier) -> Told {
    let which = earlier.registration.map(|id| format!(" (registration {id})")).unwrap_or_default();
    Told::new(format!(
        "It waits for an earlier transaction of the same signer, nonce {}, {}, which no block holds yet. Diagnose that one \
         only{which}: this one follows by itself.",
        earlier.nonce, earlier.hash
    ))
    .note("earlierNonce", earlier.nonce)
    .note("earlierTransactionHash", earlier.hash)
    .note_some("earlierRegistrationId", earlier.registration)
}

pub(super) fn nonce_passed(seen: &Evidence) -> Told {
    Told::new(format!(
        "Its nonce {} was used a moment ago, and which transaction used it is not known yet. The receipt is asked for with each \
         look at the chain; there is nothing to do.",
        nonce(seen)
    ))
}

pub(super) fn fee_too_low(seen: &Evidence, base_fee: u128) -> Told {
    Told::new(format!(
        "It offers at most {} per gas, and the next block asks {}: no block can take it. {RAISED}. {AGAIN}, and it goes on by \
         itself when the base fee falls.",
        gwei(sent(seen).map_or(0, |sent| sent.fees.max_fee_per_gas)),
        gwei(base_fee)
    ))
    .note_some("maxFeePerGasWei", sent(seen).map(|sent| sent.fees.max_fee_per_gas))
    .note("nextBaseFeePerGasWei", base_fee)
}

pub(super) fn fee_refused(seen: &Evidence, refused: &Refused) -> Told {
    let offers = sent(seen).map(|sent| {
        let (most, tip) = (sent.fees.max_fee_per_gas, sent.fees.max_priority_fee_per_gas);
        format!(" It offers at most {} per gas, {} as priority fee.", gwei(most), gwei(tip))
    });
    Told::new(format!("{}{} {RAISED}, and goes on by itself.", quoted(refused), offers.unwrap_or_default()))
        .note_refusal(refused)
        .note_some("maxFeePerGasWei", sent(seen).map(|sent| sent.fees.max_fee_per_gas))
        .note_some("maxPriorityFeePerGasWei", sent(seen).map(|sent| sent.fees.max_priority_fee_per_gas))
}

pub(super) fn above_cap(above: Option<&AboveCap>) -> Told {
    let (asked, allowed) = above.map_or_else(
        || ("more per gas than".to_owned(), "allows".to_owned()),
        |above| (format!("at least {} per gas, and", gwei(above.needed)), format!("allows {}", gwei(above.cap))),
    );
    Told::new(format!(
        "A block asks {asked} REGISTRAR_MAX_FEE_GWEI {allowed}. Nothing is sent until fees fall or the cap is raised; it is \
         tried again every 2 s and goes on by itself."
    ))
    .note_some("neededFeePerGasWei", above.map(|above| above.needed))
    .note_some("maxFeeCapWei", above.map(|above| above.cap))
}

pub(super) fn tip_too_low(seen: &Evidence, offered: u128, crowd: &Crowd) -> Told {
    let Crowd { crowded, of, lowest_tip } = crowd;
    Told::new(format!(
        "It offers a priority fee of {} per gas, and {crowded} of the last {of} blocks had no room for it beside what offers {} \
         and more. {RAISED}, and goes on by itself when blocks are less full.",
        gwei(offered),
        gwei(*lowest_tip)
    ))
    .note("offeredTipPerGasWei", offered)
    .note("lowestCrowdedTipPerGasWei", lowest_tip)
    .note("crowdedBlocks", format!("{crowded} of {of}"))
    .note_some("gasLimit", sent(seen).map(|sent| sent.gas_limit))
}

pub(super) fn funds(seen: &Evidence, signer: Address, balance: U256, needed: U256) -> Told {
    let (verdict, does) = match &seen.subject {
        Subject::Sent(_) => ("no block can take the transaction", AGAIN),
        Subject::Unsent(_) | Subject::Included { .. } => ("nothing is sent", "It is tried again every 2 s"),
    };
    Told::new(format!(
        "{signer} has {} and may need {}: {verdict}. Send that account some ETH. {does}, and it goes on by itself when the \
         account can pay.",
        ether(balance),
        ether(needed)
    ))
    .note("from", signer)
    .note("balanceWei", balance)
    .note("neededWei", needed)
}

pub(super) fn funds_refused(seen: &Evidence, refused: Option<&Refused>) -> Told {
    let told = |said: String| Told::new(format!("{said} Send the signer some ETH. {}", tried_again(seen)));
    match refused {
        None => told("The signer cannot pay for the transaction.".to_owned()),
        Some(refused) => {
            told(format!("{} A node counts all that the signer has pending, and L1 fees.", quoted(refused)))
                .note_refusal(refused)
        }
    }
}

pub(super) fn sender_limit(seen: &Evidence, refused: &Refused) -> Told {
    let out = sent(seen).map(|sent| sent.in_flight);
    let wait = out.map(|out| format!("; {out} of this one wait for a block")).unwrap_or_default();
    Told::new(format!(
        "{} Nodes take only so many of one account{wait}. {} If it stays so, add a signer key or an endpoint.",
        quoted(refused),
        tried_again(seen)
    ))
    .note_refusal(refused)
    .note_some("inFlight", out)
}

pub(super) fn too_large(gas: Option<u64>, limit: u64) -> Told {
    let needs = gas.map_or("It needs more gas than a block takes".to_owned(), |gas| format!("Its gas limit is {gas}"));
    Told::new(format!(
        "{needs} and the most that a block takes is {limit}: no block can take it. A batch is split, and its \
         first part goes on at the same nonce; a single one goes on by itself if the chain's limit rises. {AGAIN}."
    ))
    .note_some("gasLimit", gas)
    .note("mostGas", limit)
}

pub(super) fn gas_refused(seen: &Evidence, refused: &Refused) -> Told {
    let gas = sent(seen).map(|sent| format!(" of {}", sent.gas_limit)).unwrap_or_default();
    Told::new(format!(
        "{} That is about its gas limit{gas}: more than a block or a transaction may have, or less than it needs. {}",
        quoted(refused),
        tried_again(seen)
    ))
    .note_refusal(refused)
    .note_some("gasLimit", sent(seen).map(|sent| sent.gas_limit))
}

pub(super) fn dropped(seen: &Evidence, refused: Option<&Refused>) -> Told {
    let (known, took) = sent(seen).map_or((&[][..], None), |sent| (&sent.answers.known[..], sent.taken_by.as_deref()));
    let asked = list(known.iter().map(|witness| name(&witness.endpoint)));
    let ago = age(seen).map(|age| format!(" {age} ago")).unwrap_or_default();
    match refused {
        Some(refused) => {
            let said = quoted(refused);
            Told::new(format!("It was taken{ago}, and is not known to {asked} now. {said} {AGAIN}."))
                .note_refusal(refused)
        }
        None => Told::new(format!(
            "{} took it{ago}, and it is not known to {asked} now; nothing else is known to be wrong. {AGAIN}; there is nothing \
             to do unless it stays so.",
            took.map_or_else(|| "A node".to_owned(), name)
        )),
    }
}

pub(super) fn waiting(seen: &Evidence) -> Told {
    let (known, took) = sent(seen).map_or((&[][..], None), |sent| (&sent.answers.known[..], sent.taken_by.as_deref()));
    let knows = list(known.iter().filter(|witness| witness.says).map(|witness| name(&witness.endpoint)));
    let ago = age(seen).map(|age| format!(" for {age}")).unwrap_or_default();
    let state = if knows.is_empty() {
        format!("The transaction was sent and has been waiting{ago}; no block is known to hold it.")
    } else {
        format!(
            "The transaction has been waiting for a block{ago}. It is known to {knows}, and nothing is known to be wrong."
        )
    };
    Told::new(format!("{state} {AGAIN}, and it goes on by itself.")).note_some("takenBy", took)
}

pub(super) fn over_budget(over: Option<&OverBudget>) -> Told {
    let goes_on = "It goes on by itself at 00:00 UTC, or when the budget is raised.";
    let explanation = match over {
        None => format!("It waits for the day's budget, REGISTRAR_DAILY_BUDGET_ETH, which is used up. {goes_on}"),
        Some(over) => format!(
            "It waits for the day's budget, REGISTRAR_DAILY_BUDGET_ETH: of {} today, {} are spent or kept for what is out, and \
             the next transaction may cost {}. {goes_on}",
            ether(U256::from(over.budget)),
            ether(U256::from(over.taken)),
            ether(U256::from(over.next))
        ),
    };
    Told::new(explanation)
        .note_some("budgetWei", over.map(|over| over.budget))
        .note_some("takenWei", over.map(|over| over.taken))
        .note_some("neededWei", over.map(|over| over.next))
}

pub(super) fn queued(seen: &Evidence, hindrance: Option<&Hindrance>) -> Told {
    let blocked = match &seen.subject {
        Subject::Unsent(unsent) => unsent.blocked,
        Subject::Sent(_) | Subject::Included { .. } => None,
    };
    match hindrance {
        Some(Hindrance::Refused(refused)) => Told::new(format!(
            "{} It is accepted, and no node has a transaction for it. It is tried again every 2 s and goes on by itself when the \
             node takes it.",
            quoted(refused)
        ))
        .note_refusal(refused),
        Some(hindrance) => Told::new(format!(
            "It is accepted, and no node has a transaction for it: {}. It is tried again every 2 s and goes on by itself.",
            cut(&hindrance.to_string(), OBSTACLE)
        )),
        None if blocked.is_some() => Told::new(
            "It is accepted, and a node refused its transaction when it was last tried; the node's words are in the log. It is \
             tried again every 2 s and goes on by itself."
                .to_owned(),
        ),
        None => Told::new("It is accepted and waits for its turn; no node has taken a transaction for it yet.".to_owned()),
    }
}

fn age(seen: &Evidence) -> Option<String> {
    seen.submitted.map(|at| seconds(seen.now.since(at)))
}

fn signer(seen: &Evidence) -> Address {
    sent(seen).map(|sent| sent.signer).unwrap_or_default()
}
