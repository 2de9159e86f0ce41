//! From evidence to one cause. Where several are true, the one that has to be mended first is named: what concerns every
//! transaction before what concerns this one, and what keeps a transaction out of blocks for certain before what only became
//! of it, as that the nodes forgot it.

use super::{
    Answers, Cause, Earlier, EndpointSeen, Evidence, FeesSeen, Hindrance, Meaning, ReceiptSeen, Refused, Sent,
    StallSeen, Subject, Unsent, Witnessed,
};
use crate::registration::{
    Blocked,
    policy::{batching, budget::OverBudget, fees::AboveCap},
};
use alloy::primitives::{Address, U256};
use std::time::Duration;

/// Heads further apart than this, by the blocks' times, are two views of the chain and not the time an answer takes.
const APART: Duration = Duration::from_secs(3);
/// A node that took a transaction may be one of several behind one name: only after this long does "not known" say something.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// A receipt may come a moment after the nonce that it consumes: only after this long is it missed.
const MISSED: Duration = Duration::from_secs(1);

/// A cause, with what it was concluded from.
#[derive(Clone, Debug)]
pub(super) enum Finding<'a> {
    /// No endpoint may be asked.
    NoEndpoint,
    /// No endpoint answered when it was last tried.
    Unanswered(Option<&'a str>),
    /// Endpoints were asked, and not one answered.
    Silence(&'a [Witnessed<String>]),
    /// No endpoint's head moves.
    Stalled(StallSeen),
    /// One endpoint shows a receipt, and another one shows none or another block.
    ReceiptsDiffer { shows: &'a str, block: u64, differs: &'a str },
    /// One endpoint shows the block that holds it, and another one does not.
    BlocksDiffer { shows: &'a str, block: u64, differs: &'a str },
    /// One endpoint shows the nonce as consumed, and another one does not.
    NoncesDiffer { ahead: &'a str, behind: &'a str },
    /// One endpoint is behind the others.
    Behindhand { endpoint: &'a str, lag: Duration },
    /// In a canonical block.
    Awaiting { block: u64, depth: Option<u64> },
    /// The pair is on chain, by somebody else.
    AwaitingFound { block: Option<u64>, depth: Option<u64> },
    /// In a block, and reverted.
    Reverted { receipt: &'a ReceiptSeen, depth: Option<u64> },
    /// It would revert, for the contract does not allow the signer.
    WouldRevert(Option<Address>),
    /// Its block is canonical no more.
    Reorged { block: u64 },
    /// Its nonce is consumed, and not by us.
    Replaced { next: u64, since: Duration },
    /// Another transaction with its nonce is waiting, and offers more.
    Outbid(&'a Refused),
    /// A lower nonce is nowhere.
    Gap { next: u64 },
    /// A lower nonce of ours has to be included first.
    Behind(&'a Earlier),
    /// The next block asks more than it offers.
    FeeTooLow { base_fee: u128 },
    /// A node wants a higher offer.
    FeeRefused(&'a Refused),
    /// Nothing is offered, for the cap is too low.
    AboveCap(Option<&'a AboveCap>),
    /// Blocks are full of what offers more.
    TipTooLow { offered: u128, crowd: Crowd },
    /// Nobody knows it any more.
    Dropped(Option<&'a Refused>),
    /// The signer cannot pay for it.
    Funds { signer: Address, balance: U256, needed: U256 },
    /// A node says that the signer cannot pay.
    FundsRefused(Option<&'a Refused>),
    /// A node takes no more of the signer.
    SenderLimit(&'a Refused),
    /// More gas than there is.
    TooLarge { gas: Option<u64>, limit: u64 },
    /// A node refuses its gas.
    GasRefused(&'a Refused),
    /// Its nonce is consumed by a block that was just seen.
    NoncePassed,
    /// A node has it.
    Waiting,
    /// The endpoint that is asked shows a chain without the contract.
    NoContract { endpoint: &'a str, contract: Address },
    /// The day's budget does not allow it.
    OverBudget(Option<&'a OverBudget>),
    /// In the queue, perhaps with a node's refusal that means none of the above.
    Queued(Option<&'a Hindrance>),
}

/// How many of the newest blocks had no room for the transaction beside what offered more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crowd {
    /// How many.
    pub crowded: usize,
    /// Of how many.
    pub of: usize,
    /// The least that a tenth of the gas in any of them was bought for, in wei per gas.
    pub lowest_tip: u128,
}

impl Finding<'_> {
    /// The cause that it is.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::NoEndpoint | Self::Unanswered(_) | Self::Silence(_) | Self::NoContract { .. } => {
                Cause::RpcUnavailable
            }
            Self::Stalled(_) => Cause::ChainStalled,
            Self::ReceiptsDiffer { .. }
            | Self::BlocksDiffer { .. }
            | Self::NoncesDiffer { .. }
            | Self::Behindhand { .. } => Cause::RpcDisagreement,
            Self::Awaiting { .. } | Self::AwaitingFound { .. } => Cause::AwaitingConfirmations,
            Self::Reverted { .. } | Self::WouldRevert(_) => Cause::Reverted,
            Self::Reorged { .. } => Cause::Reorged,
            Self::Replaced { .. } | Self::Outbid(_) => Cause::ReplacedExternally,
            Self::Gap { .. } => Cause::NonceGap,
            Self::Behind(_) => Cause::BlockedByEarlierNonce,
            Self::FeeTooLow { .. } | Self::FeeRefused(_) | Self::AboveCap(_) => Cause::FeeTooLow,
            Self::TipTooLow { .. } => Cause::TipTooLow,
            Self::Dropped(_) => Cause::DroppedFromMempool,
            Self::Funds { .. } | Self::FundsRefused(_) => Cause::InsufficientFunds,
            Self::SenderLimit(_) => Cause::SenderLimit,
            Self::TooLarge { .. } | Self::GasRefused(_) => Cause::TooLarge,
            Self::NoncePassed | Self::Waiting | Self::OverBudget(_) | Self::Queued(_) => Cause::Pending,
        }
    }
}

/// Names the cause.
pub(super) fn decide(seen: &Evidence) -> Finding<'_> {
    let chain = &seen.chain;
    if chain.usable.is_empty() && !chain.unusable.is_empty() {
        return Finding::NoEndpoint;
    }
    let stalled = chain.stalled.filter(|_| !chain.mines_on_demand).map(Finding::Stalled);
    match &seen.subject {
        Subject::Unsent(unsent) => held(seen, unsent).or(stalled).unwrap_or_else(|| in_the_queue(unsent)),
        Subject::Included { block, shown } => contradicted(*block, shown)
            .or(stalled)
            .unwrap_or_else(|| Finding::Awaiting { block: *block, depth: depth(seen, *block) }),
        Subject::Sent(sent) => silence(&sent.answers)
            .or(stalled)
            .or_else(|| sent.earlier.as_ref().map(Finding::Behind))
            .or_else(|| in_a_block(seen, sent))
            .or_else(|| of_its_nonce(sent))
            .or_else(|| kept_out(seen, sent))
            .or_else(|| lost(seen, sent))
            .or_else(|| of_the_endpoints(seen, sent))
            .unwrap_or(Finding::Waiting),
    }
}

/// What an operator can mend keeps it from being sent, whatever the chain does.
fn held<'a>(seen: &Evidence, unsent: &'a Unsent) -> Option<Finding<'a>> {
    let blocked = unsent.blocked?;
    let hindrance = unsent.hindrance.as_ref().filter(|hindrance| hindrance.blocked() == blocked);
    Some(match hindrance {
        Some(Hindrance::Funds { signer, balance, needed }) => {
            Finding::Funds { signer: *signer, balance: *balance, needed: *needed }
        }
        Some(Hindrance::NotAllowed(account)) => Finding::WouldRevert(Some(*account)),
        Some(Hindrance::FeeCap(above)) => Finding::AboveCap(Some(above)),
        Some(Hindrance::NoEndpoint(words)) => Finding::Unanswered(Some(words)),
        Some(Hindrance::TooLarge(large)) => Finding::TooLarge { gas: Some(large.gas), limit: large.most },
        Some(Hindrance::Refused(refused)) => meant(refused).unwrap_or(Finding::Queued(hindrance)),
        Some(Hindrance::DailyBudget(over)) => Finding::OverBudget(Some(over)),
        Some(Hindrance::NoContract { endpoint, contract }) => Finding::NoContract { endpoint, contract: *contract },
        Some(Hindrance::Other(_)) => Finding::Queued(hindrance),
        None => without_numbers(seen, unsent, blocked),
    })
}

/// What is stored outlives a restart; the numbers do not, until the lane has tried again.
fn without_numbers<'a>(seen: &Evidence, unsent: &'a Unsent, blocked: Blocked) -> Finding<'a> {
    match blocked {
        Blocked::NoEndpoint => Finding::Unanswered(None),
        Blocked::InsufficientFunds => Finding::FundsRefused(None),
        Blocked::SignerNotAllowed => Finding::WouldRevert(None),
        Blocked::FeeCap => Finding::AboveCap(None),
        Blocked::AwaitingConfirmations => Finding::AwaitingFound {
            block: unsent.found_in,
            depth: unsent.found_in.and_then(|block| depth(seen, block)),
        },
        Blocked::TooLarge => Finding::TooLarge { gas: None, limit: most_gas_now(seen) },
        Blocked::DailyBudget => Finding::OverBudget(None),
        Blocked::NodeRefuses => Finding::Queued(None),
    }
}

fn in_the_queue(unsent: &Unsent) -> Finding<'_> {
    unsent.earlier.as_ref().map_or(Finding::Queued(None), Finding::Behind)
}

/// One endpoint shows the block that another one does not.
fn contradicted(block: u64, shown: &[Witnessed<bool>]) -> Option<Finding<'_>> {
    let first = |says| shown.iter().find(|witness| witness.says == says).map(|witness| witness.endpoint.as_str());
    Some(Finding::BlocksDiffer { shows: first(true)?, block, differs: first(false)? })
}

/// Endpoints that were asked, and none of which said anything.
fn silence(answers: &Answers) -> Option<Finding<'_>> {
    let heard = !(answers.receipts.is_empty() && answers.known.is_empty() && answers.nonces.is_empty())
        || answers.balance.is_some()
        || answers.fees.is_some();
    (!heard && !answers.silent.is_empty()).then_some(Finding::Silence(&answers.silent))
}

/// A receipt is shown: by all who were asked, or in contradiction of others.
fn in_a_block<'a>(seen: &Evidence, sent: &'a Sent) -> Option<Finding<'a>> {
    let answers = &sent.answers;
    let (shows, receipt) =
        answers.receipts.iter().find_map(|witness| Some((witness.endpoint.as_str(), witness.says.as_ref()?)))?;
    let same = |other: &Option<ReceiptSeen>| other.is_some_and(|other| other.block_hash == receipt.block_hash);
    if let Some(other) = answers.receipts.iter().find(|witness| !same(&witness.says)) {
        return Some(Finding::ReceiptsDiffer { shows, block: receipt.block, differs: &other.endpoint });
    }
    if answers.canonical.is_some_and(|hash| hash != receipt.block_hash) {
        return Some(Finding::Reorged { block: receipt.block });
    }
    let depth = depth(seen, receipt.block);
    Some(if receipt.succeeded {
        Finding::Awaiting { block: receipt.block, depth }
    } else {
        Finding::Reverted { receipt, depth }
    })
}

/// The chain's next nonce is past it, or short of it.
fn of_its_nonce(sent: &Sent) -> Option<Finding<'_>> {
    let nonces = &sent.answers.nonces;
    let ahead = nonces.iter().max_by_key(|witness| witness.says)?;
    let behind = nonces.iter().min_by_key(|witness| witness.says)?;
    let next = ahead.says;
    if next.max(sent.seen_nonce.unwrap_or_default()) < sent.nonce {
        return Some(Finding::Gap { next });
    }
    if next <= sent.nonce {
        return None;
    }
    if behind.says <= sent.nonce {
        return Some(Finding::NoncesDiffer { ahead: &ahead.endpoint, behind: &behind.endpoint });
    }
    match sent.missing_for {
        Some(since) if since >= MISSED && !sent.answers.receipts.is_empty() => Some(Finding::Replaced { next, since }),
        Some(_) | None => Some(Finding::NoncePassed),
    }
}

/// As long as this is so, no block takes it, whether nodes still know it or not.
fn kept_out<'a>(seen: &Evidence, sent: &'a Sent) -> Option<Finding<'a>> {
    let answers = &sent.answers;
    let needed = U256::from(sent.gas_limit) * U256::from(sent.fees.max_fee_per_gas);
    if let Some(balance) = answers.balance.filter(|balance| *balance < needed) {
        return Some(Finding::Funds { signer: sent.signer, balance, needed });
    }
    let limit = most_gas_now(seen);
    if sent.gas_limit > limit {
        return Some(Finding::TooLarge { gas: Some(sent.gas_limit), limit });
    }
    let fees = answers.fees.as_ref();
    if let Some(fees) = fees.filter(|fees| fees.next_base_fee > sent.fees.max_fee_per_gas) {
        return Some(Finding::FeeTooLow { base_fee: fees.next_base_fee });
    }
    fees.and_then(|fees| crowded_out(fees, sent))
}

/// The most gas that a block takes from one transaction.
fn most_gas_now(seen: &Evidence) -> u64 {
    batching::most_gas(seen.chain.head.map_or(u64::MAX, |head| head.gas_limit))
}

/// Most of the newest blocks had no room for it beside what offers more.
fn crowded_out<'a>(fees: &FeesSeen, sent: &Sent) -> Option<Finding<'a>> {
    let spare = sent.fees.max_fee_per_gas.saturating_sub(fees.next_base_fee);
    let offered = sent.fees.max_priority_fee_per_gas.min(spare);
    let crowded = fees.blocks.iter().filter(|block| block.room < sent.gas_limit && block.low_tip > offered);
    let lowest_tip = crowded.clone().map(|block| block.low_tip).min()?;
    let crowd = Crowd { crowded: crowded.count(), of: fees.blocks.len(), lowest_tip };
    (crowd.crowded * 2 > crowd.of).then_some(Finding::TipTooLow { offered, crowd })
}

/// No node that was asked knows it: because one refuses it, or a reorg lost it, or just so.
fn lost<'a>(seen: &Evidence, sent: &'a Sent) -> Option<Finding<'a>> {
    let known = &sent.answers.known;
    if known.iter().any(|witness| witness.says) {
        return sent.reorged_out.map(|block| Finding::Reorged { block });
    }
    let refused = sent.refusal.as_ref();
    let reorged = || sent.reorged_out.map(|block| Finding::Reorged { block });
    let age = seen.submitted.map_or(Duration::ZERO, |at| seen.now.since(at));
    let dropped = || (!known.is_empty() && age >= FORGOTTEN).then_some(Finding::Dropped(refused));
    refused.and_then(meant).or_else(reorged).or_else(dropped)
}

/// What a node's refusal is the cause of; `None` when its words say nothing that we know.
fn meant(refused: &Refused) -> Option<Finding<'_>> {
    match refused.meaning {
        Meaning::Funds => Some(Finding::FundsRefused(Some(refused))),
        Meaning::Fee => Some(Finding::FeeRefused(refused)),
        Meaning::SenderLimit => Some(Finding::SenderLimit(refused)),
        Meaning::Gas => Some(Finding::GasRefused(refused)),
        Meaning::Replacement => Some(Finding::Outbid(refused)),
        Meaning::Other => None,
    }
}

/// Nothing is wrong with the transaction itself: but only an endpoint that is behind knows it, or the node that was to mine on
/// demand does not.
fn of_the_endpoints<'a>(seen: &'a Evidence, sent: &Sent) -> Option<Finding<'a>> {
    let behind = |name: &str| {
        let lagging = |endpoint: &&EndpointSeen| endpoint.name == name && endpoint.lag.is_some_and(|lag| lag > APART);
        seen.chain.usable.iter().find(lagging)
    };
    let knows = || sent.answers.known.iter().filter(|witness| witness.says);
    let only_behind = knows().all(|witness| behind(&witness.endpoint).is_some());
    let first = knows().next().and_then(|witness| behind(&witness.endpoint)).filter(|_| only_behind);
    first
        .map(|endpoint| Finding::Behindhand { endpoint: &endpoint.name, lag: endpoint.lag.unwrap_or_default() })
        .or_else(|| seen.chain.stalled.map(Finding::Stalled))
}

/// A block's depth at the head; the block itself counts as 1.
fn depth(seen: &Evidence, block: u64) -> Option<u64> {
    seen.chain.head.map(|head| (head.number + 1).saturating_sub(block).max(1))
}
