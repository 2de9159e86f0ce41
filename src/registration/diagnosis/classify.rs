//! From evidence to one cause. Where several are true, the one that has to be mended first is named: what concerns every
//! transaction before what concerns this one, and what keeps a transaction out of blocks for certain before what only became
//! of it, as that the nodes forgot it.

use super::{
    blocker::Blocker,
    cause::Cause,
    evidence::{EarlierTx, Evidence, RpcAnswers, Subject, SubmittedTx, Unsent},
};
use crate::registration::{
    blocked_reason::BlockedReason,
    observations::{
        EndpointAnswer, EndpointSnapshot, FeeSnapshot, NodeRejection, ReceiptSnapshot, RejectKind, StallSnapshot,
    },
    policy::{batching, budget::OverBudget, fees::FeeCapExceeded},
};
use alloy::primitives::{Address, U256};
use std::time::Duration;

/// Heads further apart than this, by the blocks' times, are two views of the chain and not the time an answer takes.
const MAX_HEAD_SKEW: Duration = Duration::from_secs(3);
/// A node that took a transaction may be one of several behind one name: only after this long does "not known" say something.
const MEMPOOL_DROP_GRACE: Duration = Duration::from_secs(5);
/// A receipt may come a moment after the nonce that it consumes: only after this long is it missed.
const MISSING_RECEIPT_GRACE: Duration = Duration::from_secs(1);

/// A cause, with what it was concluded from.
#[derive(Clone, Debug)]
pub(super) enum Finding<'a> {
    /// No endpoint may be asked.
    NoEndpoint,
    /// No endpoint answered when it was last tried.
    LastCallFailed(Option<&'a str>),
    /// Endpoints were asked, and not one answered.
    NoAnswers(&'a [EndpointAnswer<String>]),
    /// No endpoint's head moves.
    ChainStalled(StallSnapshot),
    /// One endpoint shows a receipt, and another one shows none or another block.
    ReceiptsDiffer { shown_by: &'a str, block: u64, contradicted_by: &'a str },
    /// One endpoint shows the block that holds it, and another one does not.
    BlocksDiffer { shows: &'a str, block: u64, differs: &'a str },
    /// One endpoint shows the nonce as consumed, and another one does not.
    NoncesDiffer { ahead: &'a str, behind: &'a str },
    /// One endpoint is behind the others.
    EndpointLagging { endpoint: &'a str, lag: Duration },
    /// In a canonical block.
    AwaitingConfirmations { block: u64, depth: Option<u64> },
    /// The pair is on chain, by somebody else.
    AwaitingForeignConfirmations { block: Option<u64>, depth: Option<u64> },
    /// In a block, and reverted.
    Reverted { receipt: &'a ReceiptSnapshot, depth: Option<u64> },
    /// It would revert, for the contract does not allow the signer.
    WouldRevert(Option<Address>),
    /// Its block is canonical no more.
    Reorged { block: u64 },
    /// Its nonce is consumed, and not by us.
    NonceConsumedExternally { next_nonce: u64, receipt_missing_for: Duration },
    /// Another transaction with its nonce is waiting, and offers more.
    ReplacementUnderpriced(&'a NodeRejection),
    /// A lower nonce is nowhere.
    NonceGap { next: u64 },
    /// A lower nonce of ours has to be included first.
    BehindEarlierNonce(&'a EarlierTx),
    /// The next block asks more than it offers.
    FeeTooLow { base_fee: u128 },
    /// A node wants a higher offer.
    FeeRejected(&'a NodeRejection),
    /// Nothing is offered, for the cap is too low.
    FeeCapExceeded(Option<&'a FeeCapExceeded>),
    /// Blocks are full of what offers more.
    TipTooLow { offered_tip: u128, congestion: Congestion },
    /// Nobody knows it any more.
    DroppedFromMempool(Option<&'a NodeRejection>),
    /// The signer cannot pay for it.
    InsufficientFunds { signer: Address, balance: U256, needed: U256 },
    /// A node says that the signer cannot pay.
    FundsRejected(Option<&'a NodeRejection>),
    /// A node takes no more of the signer.
    SenderLimit(&'a NodeRejection),
    /// More gas than there is.
    TooLarge { gas_limit: Option<u64>, max_gas: u64 },
    /// A node refuses its gas.
    GasLimitRejected(&'a NodeRejection),
    /// Its nonce is consumed by a block that was just seen.
    NonceJustConsumed,
    /// A node has it.
    Pending,
    /// The endpoint that is asked shows a chain without the contract.
    NoContract { endpoint: &'a str, contract: Address },
    /// The day's budget does not allow it.
    OverBudget(Option<&'a OverBudget>),
    /// In the queue, perhaps with a node's refusal that means none of the above.
    Queued(Option<&'a Blocker>),
}

/// How many of the newest blocks had no room for the transaction beside what offered more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Congestion {
    /// How many.
    pub full_blocks: usize,
    /// Of how many.
    pub sampled_blocks: usize,
    /// The least that a tenth of the gas in any of them was bought for, in wei per gas.
    pub lowest_tip: u128,
}

impl Finding<'_> {
    /// The cause that it is.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::NoEndpoint | Self::LastCallFailed(_) | Self::NoAnswers(_) | Self::NoContract { .. } => {
                Cause::RpcUnavailable
            }
            Self::ChainStalled(_) => Cause::ChainStalled,
            Self::ReceiptsDiffer { .. }
            | Self::BlocksDiffer { .. }
            | Self::NoncesDiffer { .. }
            | Self::EndpointLagging { .. } => Cause::RpcDisagreement,
            Self::AwaitingConfirmations { .. } | Self::AwaitingForeignConfirmations { .. } => {
                Cause::AwaitingConfirmations
            }
            Self::Reverted { .. } | Self::WouldRevert(_) => Cause::Reverted,
            Self::Reorged { .. } => Cause::Reorged,
            Self::NonceConsumedExternally { .. } | Self::ReplacementUnderpriced(_) => Cause::ReplacedExternally,
            Self::NonceGap { .. } => Cause::NonceGap,
            Self::BehindEarlierNonce(_) => Cause::BlockedByEarlierNonce,
            Self::FeeTooLow { .. } | Self::FeeRejected(_) | Self::FeeCapExceeded(_) => Cause::FeeTooLow,
            Self::TipTooLow { .. } => Cause::TipTooLow,
            Self::DroppedFromMempool(_) => Cause::DroppedFromMempool,
            Self::InsufficientFunds { .. } | Self::FundsRejected(_) => Cause::InsufficientFunds,
            Self::SenderLimit(_) => Cause::SenderLimit,
            Self::TooLarge { .. } | Self::GasLimitRejected(_) => Cause::TooLarge,
            Self::NonceJustConsumed | Self::Pending | Self::OverBudget(_) | Self::Queued(_) => Cause::Pending,
        }
    }
}

/// Names the cause.
pub(super) fn classify(seen: &Evidence) -> Finding<'_> {
    let chain = &seen.chain;
    if chain.usable.is_empty() && !chain.unusable.is_empty() {
        return Finding::NoEndpoint;
    }
    let stalled = chain.stalled.filter(|_| !chain.mines_on_demand).map(Finding::ChainStalled);
    match &seen.subject {
        Subject::Unsent(unsent) => from_blocker(seen, unsent).or(stalled).unwrap_or_else(|| from_queue(unsent)),
        Subject::Included { block, block_votes } => from_block_votes(*block, block_votes)
            .or(stalled)
            .unwrap_or_else(|| Finding::AwaitingConfirmations { block: *block, depth: depth(seen, *block) }),
        Subject::Submitted(sent) => no_answers(&sent.answers)
            .or(stalled)
            .or_else(|| sent.earlier_tx.as_ref().map(Finding::BehindEarlierNonce))
            .or_else(|| from_receipts(seen, sent))
            .or_else(|| from_nonces(sent))
            .or_else(|| unincludable(seen, sent))
            .or_else(|| not_in_mempool(seen, sent))
            .or_else(|| from_endpoints(seen, sent))
            .unwrap_or(Finding::Pending),
    }
}

/// What an operator can mend keeps it from being sent, whatever the chain does.
fn from_blocker<'a>(seen: &Evidence, unsent: &'a Unsent) -> Option<Finding<'a>> {
    let blocked = unsent.blocked_reason?;
    let hindrance = unsent.blocker.as_ref().filter(|hindrance| hindrance.blocked_reason() == blocked);
    Some(match hindrance {
        Some(Blocker::InsufficientFunds { signer, balance, needed }) => {
            Finding::InsufficientFunds { signer: *signer, balance: *balance, needed: *needed }
        }
        Some(Blocker::SignerNotAllowed(account)) => Finding::WouldRevert(Some(*account)),
        Some(Blocker::FeeCap(above)) => Finding::FeeCapExceeded(Some(above)),
        Some(Blocker::NoEndpoint(words)) => Finding::LastCallFailed(Some(words)),
        Some(Blocker::TooLarge(large)) => {
            Finding::TooLarge { gas_limit: Some(large.gas_limit), max_gas: large.max_gas }
        }
        Some(Blocker::Rejected(refused)) => from_rejection(refused).unwrap_or(Finding::Queued(hindrance)),
        Some(Blocker::DailyBudget(over)) => Finding::OverBudget(Some(over)),
        Some(Blocker::NoContract { endpoint, contract }) => Finding::NoContract { endpoint, contract: *contract },
        Some(Blocker::Other(_)) => Finding::Queued(hindrance),
        None => from_blocked_reason(seen, unsent, blocked),
    })
}

/// What is stored outlives a restart; the numbers do not, until the lane has tried again.
fn from_blocked_reason<'a>(seen: &Evidence, unsent: &'a Unsent, blocked: BlockedReason) -> Finding<'a> {
    match blocked {
        BlockedReason::NoEndpoint => Finding::LastCallFailed(None),
        BlockedReason::InsufficientFunds => Finding::FundsRejected(None),
        BlockedReason::SignerNotAllowed => Finding::WouldRevert(None),
        BlockedReason::FeeCap => Finding::FeeCapExceeded(None),
        BlockedReason::AwaitingConfirmations => Finding::AwaitingForeignConfirmations {
            block: unsent.foreign_block,
            depth: unsent.foreign_block.and_then(|block| depth(seen, block)),
        },
        BlockedReason::TooLarge => Finding::TooLarge { gas_limit: None, max_gas: max_tx_gas_at_head(seen) },
        BlockedReason::DailyBudget => Finding::OverBudget(None),
        BlockedReason::NodeRefuses => Finding::Queued(None),
    }
}

fn from_queue(unsent: &Unsent) -> Finding<'_> {
    unsent.earlier_tx.as_ref().map_or(Finding::Queued(None), Finding::BehindEarlierNonce)
}

/// One endpoint shows the block that another one does not.
fn from_block_votes(block: u64, shown: &[EndpointAnswer<bool>]) -> Option<Finding<'_>> {
    let first = |says| shown.iter().find(|witness| witness.value == says).map(|witness| witness.endpoint.as_str());
    Some(Finding::BlocksDiffer { shows: first(true)?, block, differs: first(false)? })
}

/// Endpoints that were asked, and none of which said anything.
fn no_answers(answers: &RpcAnswers) -> Option<Finding<'_>> {
    let heard = !(answers.receipts.is_empty() && answers.tx_known.is_empty() && answers.nonces.is_empty())
        || answers.balance.is_some()
        || answers.fees.is_some();
    (!heard && !answers.unanswered.is_empty()).then_some(Finding::NoAnswers(&answers.unanswered))
}

/// A receipt is shown: by all who were asked, or in contradiction of others.
fn from_receipts<'a>(seen: &Evidence, sent: &'a SubmittedTx) -> Option<Finding<'a>> {
    let answers = &sent.answers;
    let (shows, receipt) =
        answers.receipts.iter().find_map(|witness| Some((witness.endpoint.as_str(), witness.value.as_ref()?)))?;
    let same = |other: &Option<ReceiptSnapshot>| other.is_some_and(|other| other.block_hash == receipt.block_hash);
    if let Some(other) = answers.receipts.iter().find(|witness| !same(&witness.value)) {
        return Some(Finding::ReceiptsDiffer {
            shown_by: shows,
            block: receipt.block,
            contradicted_by: &other.endpoint,
        });
    }
    if answers.canonical_block_hash.is_some_and(|hash| hash != receipt.block_hash) {
        return Some(Finding::Reorged { block: receipt.block });
    }
    let depth = depth(seen, receipt.block);
    Some(if receipt.succeeded {
        Finding::AwaitingConfirmations { block: receipt.block, depth }
    } else {
        Finding::Reverted { receipt, depth }
    })
}

/// The chain's next nonce is past it, or short of it.
fn from_nonces(sent: &SubmittedTx) -> Option<Finding<'_>> {
    let nonces = &sent.answers.nonces;
    let ahead = nonces.iter().max_by_key(|witness| witness.value)?;
    let behind = nonces.iter().min_by_key(|witness| witness.value)?;
    let next = ahead.value;
    if next.max(sent.last_seen_nonce.unwrap_or_default()) < sent.nonce {
        return Some(Finding::NonceGap { next });
    }
    if next <= sent.nonce {
        return None;
    }
    if behind.value <= sent.nonce {
        return Some(Finding::NoncesDiffer { ahead: &ahead.endpoint, behind: &behind.endpoint });
    }
    match sent.nonce_consumed_for {
        Some(since) if since >= MISSING_RECEIPT_GRACE && !sent.answers.receipts.is_empty() => {
            Some(Finding::NonceConsumedExternally { next_nonce: next, receipt_missing_for: since })
        }
        Some(_) | None => Some(Finding::NonceJustConsumed),
    }
}

/// As long as this is so, no block takes it, whether nodes still know it or not.
fn unincludable<'a>(seen: &Evidence, sent: &'a SubmittedTx) -> Option<Finding<'a>> {
    let answers = &sent.answers;
    let needed = U256::from(sent.gas_limit) * U256::from(sent.fees.max_fee_per_gas);
    if let Some(balance) = answers.balance.filter(|balance| *balance < needed) {
        return Some(Finding::InsufficientFunds { signer: sent.signer, balance, needed });
    }
    let limit = max_tx_gas_at_head(seen);
    if sent.gas_limit > limit {
        return Some(Finding::TooLarge { gas_limit: Some(sent.gas_limit), max_gas: limit });
    }
    let fees = answers.fees.as_ref();
    if let Some(fees) = fees.filter(|fees| fees.next_base_fee > sent.fees.max_fee_per_gas) {
        return Some(Finding::FeeTooLow { base_fee: fees.next_base_fee });
    }
    fees.and_then(|fees| from_congestion(fees, sent))
}

/// The most gas that a block takes from one transaction.
fn max_tx_gas_at_head(seen: &Evidence) -> u64 {
    batching::max_tx_gas(seen.chain.head.map_or(u64::MAX, |head| head.gas_limit))
}

/// Most of the newest blocks had no room for it beside what offers more.
fn from_congestion<'a>(fees: &FeeSnapshot, sent: &SubmittedTx) -> Option<Finding<'a>> {
    let spare = sent.fees.max_fee_per_gas.saturating_sub(fees.next_base_fee);
    let offered = sent.fees.max_priority_fee_per_gas.min(spare);
    let crowded = fees.blocks.iter().filter(|block| block.free_gas < sent.gas_limit && block.p10_tip > offered);
    let lowest_tip = crowded.clone().map(|block| block.p10_tip).min()?;
    let crowd = Congestion { full_blocks: crowded.count(), sampled_blocks: fees.blocks.len(), lowest_tip };
    (crowd.full_blocks * 2 > crowd.sampled_blocks)
        .then_some(Finding::TipTooLow { offered_tip: offered, congestion: crowd })
}

/// No node that was asked knows it: because one refuses it, or a reorg lost it, or just so.
fn not_in_mempool<'a>(seen: &Evidence, sent: &'a SubmittedTx) -> Option<Finding<'a>> {
    let known = &sent.answers.tx_known;
    if known.iter().any(|witness| witness.value) {
        return sent.reorged_out_of_block.map(|block| Finding::Reorged { block });
    }
    let refused = sent.last_rejection.as_ref();
    let reorged = || sent.reorged_out_of_block.map(|block| Finding::Reorged { block });
    let age = seen.submitted_at.map_or(Duration::ZERO, |at| seen.now.since(at));
    let dropped = || (!known.is_empty() && age >= MEMPOOL_DROP_GRACE).then_some(Finding::DroppedFromMempool(refused));
    refused.and_then(from_rejection).or_else(reorged).or_else(dropped)
}

/// What a node's refusal is the cause of; `None` when its words say nothing that we know.
fn from_rejection(refused: &NodeRejection) -> Option<Finding<'_>> {
    match refused.kind {
        RejectKind::InsufficientFunds => Some(Finding::FundsRejected(Some(refused))),
        RejectKind::FeeTooLow => Some(Finding::FeeRejected(refused)),
        RejectKind::SenderLimit => Some(Finding::SenderLimit(refused)),
        RejectKind::GasLimit => Some(Finding::GasLimitRejected(refused)),
        RejectKind::ReplacementUnderpriced => Some(Finding::ReplacementUnderpriced(refused)),
        RejectKind::Other => None,
    }
}

/// Nothing is wrong with the transaction itself: but only an endpoint that is behind knows it, or the node that was to mine on
/// demand does not.
fn from_endpoints<'a>(seen: &'a Evidence, sent: &SubmittedTx) -> Option<Finding<'a>> {
    let behind = |name: &str| {
        let lagging =
            |endpoint: &&EndpointSnapshot| endpoint.name == name && endpoint.lag.is_some_and(|lag| lag > MAX_HEAD_SKEW);
        seen.chain.usable.iter().find(lagging)
    };
    let knows = || sent.answers.tx_known.iter().filter(|witness| witness.value);
    let only_behind = knows().all(|witness| behind(&witness.endpoint).is_some());
    let first = knows().next().and_then(|witness| behind(&witness.endpoint)).filter(|_| only_behind);
    first
        .map(|endpoint| Finding::EndpointLagging { endpoint: &endpoint.name, lag: endpoint.lag.unwrap_or_default() })
        .or_else(|| seen.chain.stalled.map(Finding::ChainStalled))
}

/// A block's depth at the head; the block itself counts as 1.
fn depth(seen: &Evidence, block: u64) -> Option<u64> {
    seen.chain.head.map(|head| (head.number + 1).saturating_sub(block).max(1))
}
