//! From evidence to one cause. Where several apply, the one that has to be fixed first is named: a problem of every
//! transaction before a problem of this one, and what certainly keeps a transaction out of blocks before its
//! consequences, such as nodes dropping it.

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

/// Heads further apart than this, by block times, are two views of the chain and not a difference in response time.
const MAX_HEAD_SKEW: Duration = Duration::from_secs(3);
/// An endpoint may be several nodes behind one name, so that "unknown" has a meaning only this long after the
/// transaction was accepted.
const MEMPOOL_DROP_GRACE: Duration = Duration::from_secs(5);
/// A receipt may appear a moment after its nonce is consumed.
const MISSING_RECEIPT_GRACE: Duration = Duration::from_secs(1);

/// A cause with what it was concluded from.
#[derive(Clone, Debug)]
pub(super) enum Finding<'a> {
    /// No endpoint is usable.
    NoEndpoint,
    /// No endpoint responded at the last attempt.
    LastCallFailed(Option<&'a str>),
    /// Endpoints were called, and none responded.
    NoAnswers(&'a [EndpointAnswer<String>]),
    ChainStalled(StallSnapshot),
    /// One endpoint has a receipt, and another has none or one of another block.
    ReceiptsDiffer {
        shown_by: &'a str,
        block: u64,
        contradicted_by: &'a str,
    },
    /// One endpoint has the including block, and another does not.
    BlocksDiffer {
        shows: &'a str,
        block: u64,
        differs: &'a str,
    },
    /// One endpoint reports the nonce as consumed, and another does not.
    NoncesDiffer {
        ahead: &'a str,
        behind: &'a str,
    },
    /// Only an endpoint that is behind the others knows the transaction.
    EndpointLagging {
        endpoint: &'a str,
        lag: Duration,
    },
    /// In a canonical block.
    AwaitingConfirmations {
        block: u64,
        depth: Option<u64>,
    },
    /// Another sender registered the pair.
    AwaitingForeignConfirmations {
        block: Option<u64>,
        depth: Option<u64>,
    },
    Reverted {
        receipt: &'a ReceiptSnapshot,
        depth: Option<u64>,
    },
    /// The contract does not allow the signer.
    WouldRevert(Option<Address>),
    Reorged {
        block: u64,
    },
    /// Its nonce is consumed, and no transaction of ours has a receipt.
    NonceConsumedExternally {
        next_nonce: u64,
        receipt_missing_for: Duration,
    },
    /// A node has another pending transaction with this nonce and higher fees.
    ReplacementUnderpriced(&'a NodeRejection),
    /// No pending transaction has a lower nonce that the chain needs first.
    NonceGap {
        next: u64,
    },
    BehindEarlierNonce(&'a EarlierTx),
    /// The next base fee is above its maximum fee.
    FeeTooLow {
        base_fee: u128,
    },
    /// A node demands higher fees.
    FeeRejected(&'a NodeRejection),
    /// Nothing is signed, because the cap is too low.
    FeeCapExceeded(Option<&'a FeeCapExceeded>),
    /// Blocks are full of transactions with higher priority fees.
    TipTooLow {
        offered_tip: u128,
        congestion: Congestion,
    },
    DroppedFromMempool(Option<&'a NodeRejection>),
    InsufficientFunds {
        signer: Address,
        balance: U256,
        needed: U256,
    },
    /// A node says that the signer cannot pay; `None` after a restart, when the answer is no longer known.
    FundsRejected(Option<&'a NodeRejection>),
    /// A node accepts no more transactions of the signer.
    SenderLimit(&'a NodeRejection),
    TooLarge {
        gas_limit: Option<u64>,
        max_gas: u64,
    },
    /// A node rejects its gas limit.
    GasLimitRejected(&'a NodeRejection),
    /// Its nonce was consumed by a block that has just arrived.
    NonceJustConsumed,
    /// A node has it.
    Pending,
    /// The endpoint that is asked shows a chain without the contract.
    NoContract {
        endpoint: &'a str,
        contract: Address,
    },
    /// The day's budget does not allow it.
    OverBudget(Option<&'a OverBudget>),
    /// In the queue, perhaps with a rejection that is none of the above.
    Queued(Option<&'a Blocker>),
}

/// The newest blocks without enough free gas, full of transactions with higher priority fees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Congestion {
    pub full_blocks: usize,
    pub sampled_blocks: usize,
    /// The lowest 10th percentile of priority fees among the full blocks, in wei per gas.
    pub lowest_tip: u128,
}

impl Finding<'_> {
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

pub(super) fn classify(evidence: &Evidence) -> Finding<'_> {
    let chain = &evidence.chain;
    if chain.usable.is_empty() && !chain.unusable.is_empty() {
        return Finding::NoEndpoint;
    }
    let stalled = chain.stalled.filter(|_| !chain.mines_on_demand).map(Finding::ChainStalled);
    match &evidence.subject {
        Subject::Unsent(unsent) => from_blocker(evidence, unsent).or(stalled).unwrap_or_else(|| from_queue(unsent)),
        Subject::Included { block, block_votes } => from_block_votes(*block, block_votes)
            .or(stalled)
            .unwrap_or_else(|| Finding::AwaitingConfirmations { block: *block, depth: depth(evidence, *block) }),
        Subject::Submitted(sent) => no_answers(&sent.answers)
            .or(stalled)
            .or_else(|| sent.earlier_tx.as_ref().map(Finding::BehindEarlierNonce))
            .or_else(|| from_receipts(evidence, sent))
            .or_else(|| from_nonces(sent))
            .or_else(|| unincludable(evidence, sent))
            .or_else(|| not_in_mempool(evidence, sent))
            .or_else(|| from_endpoints(evidence, sent))
            .unwrap_or(Finding::Pending),
    }
}

/// A problem that an operator can fix prevents sending, whatever the chain does.
fn from_blocker<'a>(evidence: &Evidence, unsent: &'a Unsent) -> Option<Finding<'a>> {
    let blocked = unsent.blocked_reason?;
    let blocker = unsent.blocker.as_ref().filter(|blocker| blocker.blocked_reason() == blocked);
    Some(match blocker {
        Some(Blocker::InsufficientFunds { signer, balance, needed }) => {
            Finding::InsufficientFunds { signer: *signer, balance: *balance, needed: *needed }
        }
        Some(Blocker::SignerNotAllowed(account)) => Finding::WouldRevert(Some(*account)),
        Some(Blocker::FeeCap(above)) => Finding::FeeCapExceeded(Some(above)),
        Some(Blocker::NoEndpoint(words)) => Finding::LastCallFailed(Some(words)),
        Some(Blocker::TooLarge(large)) => {
            Finding::TooLarge { gas_limit: Some(large.gas_limit), max_gas: large.max_gas }
        }
        Some(Blocker::Rejected(rejection)) => from_rejection(rejection).unwrap_or(Finding::Queued(blocker)),
        Some(Blocker::DailyBudget(over)) => Finding::OverBudget(Some(over)),
        Some(Blocker::NoContract { endpoint, contract }) => Finding::NoContract { endpoint, contract: *contract },
        Some(Blocker::SignerUnavailable(_) | Blocker::SignerThrottled(_) | Blocker::Other(_)) => {
            Finding::Queued(blocker)
        }
        None => from_blocked_reason(evidence, unsent, blocked),
    })
}

/// The reason is stored and survives a restart; the values do not, until the sender has tried again.
fn from_blocked_reason<'a>(evidence: &Evidence, unsent: &'a Unsent, blocked: BlockedReason) -> Finding<'a> {
    match blocked {
        BlockedReason::NoEndpoint => Finding::LastCallFailed(None),
        BlockedReason::InsufficientFunds => Finding::FundsRejected(None),
        BlockedReason::SignerNotAllowed => Finding::WouldRevert(None),
        BlockedReason::FeeCap => Finding::FeeCapExceeded(None),
        BlockedReason::AwaitingConfirmations => Finding::AwaitingForeignConfirmations {
            block: unsent.foreign_block,
            depth: unsent.foreign_block.and_then(|block| depth(evidence, block)),
        },
        BlockedReason::TooLarge => Finding::TooLarge { gas_limit: None, max_gas: max_tx_gas_at_head(evidence) },
        BlockedReason::DailyBudget => Finding::OverBudget(None),
        BlockedReason::NodeRefuses | BlockedReason::SignerUnavailable | BlockedReason::SignerThrottled => {
            Finding::Queued(None)
        }
    }
}

fn from_queue(unsent: &Unsent) -> Finding<'_> {
    unsent.earlier_tx.as_ref().map_or(Finding::Queued(None), Finding::BehindEarlierNonce)
}

fn from_block_votes(block: u64, shown: &[EndpointAnswer<bool>]) -> Option<Finding<'_>> {
    let first = |says| shown.iter().find(|answer| answer.value == says).map(|answer| answer.endpoint.as_str());
    Some(Finding::BlocksDiffer { shows: first(true)?, block, differs: first(false)? })
}

fn no_answers(answers: &RpcAnswers) -> Option<Finding<'_>> {
    let heard = !(answers.receipts.is_empty() && answers.tx_known.is_empty() && answers.nonces.is_empty())
        || answers.balance.is_some()
        || answers.fees.is_some();
    (!heard && !answers.unanswered.is_empty()).then_some(Finding::NoAnswers(&answers.unanswered))
}

/// At least one endpoint has a receipt; the others agree or contradict it.
fn from_receipts<'a>(evidence: &Evidence, sent: &'a SubmittedTx) -> Option<Finding<'a>> {
    let answers = &sent.answers;
    let (shows, receipt) =
        answers.receipts.iter().find_map(|answer| Some((answer.endpoint.as_str(), answer.value.as_ref()?)))?;
    let same = |other: &Option<ReceiptSnapshot>| other.is_some_and(|other| other.block_hash == receipt.block_hash);
    if let Some(other) = answers.receipts.iter().find(|answer| !same(&answer.value)) {
        return Some(Finding::ReceiptsDiffer {
            shown_by: shows,
            block: receipt.block,
            contradicted_by: &other.endpoint,
        });
    }
    if answers.canonical_block_hash.is_some_and(|hash| hash != receipt.block_hash) {
        return Some(Finding::Reorged { block: receipt.block });
    }
    let depth = depth(evidence, receipt.block);
    Some(if receipt.succeeded {
        Finding::AwaitingConfirmations { block: receipt.block, depth }
    } else {
        Finding::Reverted { receipt, depth }
    })
}

/// The next nonce is above the transaction's, or below it.
fn from_nonces(sent: &SubmittedTx) -> Option<Finding<'_>> {
    let nonces = &sent.answers.nonces;
    let ahead = nonces.iter().max_by_key(|answer| answer.value)?;
    let behind = nonces.iter().min_by_key(|answer| answer.value)?;
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

/// While one of these holds, no block includes it, whether nodes have it in the mempool or not.
fn unincludable<'a>(evidence: &Evidence, sent: &'a SubmittedTx) -> Option<Finding<'a>> {
    let answers = &sent.answers;
    let needed = U256::from(sent.gas_limit) * U256::from(sent.fees.max_fee_per_gas);
    if let Some(balance) = answers.balance.filter(|balance| *balance < needed) {
        return Some(Finding::InsufficientFunds { signer: sent.signer, balance, needed });
    }
    let limit = max_tx_gas_at_head(evidence);
    if sent.gas_limit > limit {
        return Some(Finding::TooLarge { gas_limit: Some(sent.gas_limit), max_gas: limit });
    }
    let fees = answers.fees.as_ref();
    if let Some(fees) = fees.filter(|fees| fees.next_base_fee > sent.fees.max_fee_per_gas) {
        return Some(Finding::FeeTooLow { base_fee: fees.next_base_fee });
    }
    fees.and_then(|fees| from_congestion(fees, sent))
}

fn max_tx_gas_at_head(evidence: &Evidence) -> u64 {
    batching::max_tx_gas(evidence.chain.head.map_or(u64::MAX, |head| head.gas_limit))
}

fn from_congestion<'a>(fees: &FeeSnapshot, sent: &SubmittedTx) -> Option<Finding<'a>> {
    let spare = sent.fees.max_fee_per_gas.saturating_sub(fees.next_base_fee);
    let offered = sent.fees.max_priority_fee_per_gas.min(spare);
    let crowded = fees.blocks.iter().filter(|block| block.free_gas < sent.gas_limit && block.p10_tip > offered);
    let lowest_tip = crowded.clone().map(|block| block.p10_tip).min()?;
    let crowd = Congestion { full_blocks: crowded.count(), sampled_blocks: fees.blocks.len(), lowest_tip };
    (crowd.full_blocks * 2 > crowd.sampled_blocks)
        .then_some(Finding::TipTooLow { offered_tip: offered, congestion: crowd })
}

/// No node that responded knows it: one rejects it, a reorg lost it, or it was dropped.
fn not_in_mempool<'a>(evidence: &Evidence, sent: &'a SubmittedTx) -> Option<Finding<'a>> {
    let known = &sent.answers.tx_known;
    if known.iter().any(|answer| answer.value) {
        return sent.reorged_out_of_block.map(|block| Finding::Reorged { block });
    }
    let rejection = sent.last_rejection.as_ref();
    let reorged = || sent.reorged_out_of_block.map(|block| Finding::Reorged { block });
    let age = evidence.submitted_at.map_or(Duration::ZERO, |at| evidence.now.since(at));
    let dropped = || (!known.is_empty() && age >= MEMPOOL_DROP_GRACE).then_some(Finding::DroppedFromMempool(rejection));
    rejection.and_then(from_rejection).or_else(reorged).or_else(dropped)
}

/// `None` when the message is not one of a known kind.
fn from_rejection(rejection: &NodeRejection) -> Option<Finding<'_>> {
    match rejection.kind {
        RejectKind::InsufficientFunds => Some(Finding::FundsRejected(Some(rejection))),
        RejectKind::FeeTooLow => Some(Finding::FeeRejected(rejection)),
        RejectKind::SenderLimit => Some(Finding::SenderLimit(rejection)),
        RejectKind::GasLimit => Some(Finding::GasLimitRejected(rejection)),
        RejectKind::ReplacementUnderpriced => Some(Finding::ReplacementUnderpriced(rejection)),
        RejectKind::Other => None,
    }
}

/// The transaction itself is fine, but only an endpoint that is behind knows it, or a node that mines on demand does
/// not mine.
fn from_endpoints<'a>(evidence: &'a Evidence, sent: &SubmittedTx) -> Option<Finding<'a>> {
    let behind = |name: &str| {
        let lagging =
            |endpoint: &&EndpointSnapshot| endpoint.name == name && endpoint.lag.is_some_and(|lag| lag > MAX_HEAD_SKEW);
        evidence.chain.usable.iter().find(lagging)
    };
    let knows = || sent.answers.tx_known.iter().filter(|answer| answer.value);
    let only_behind = knows().all(|answer| behind(&answer.endpoint).is_some());
    let first = knows().next().and_then(|answer| behind(&answer.endpoint)).filter(|_| only_behind);
    first
        .map(|endpoint| Finding::EndpointLagging { endpoint: &endpoint.name, lag: endpoint.lag.unwrap_or_default() })
        .or_else(|| evidence.chain.stalled.map(Finding::ChainStalled))
}

/// Confirmations of a block; the block itself counts as 1.
fn depth(evidence: &Evidence, block: u64) -> Option<u64> {
    evidence.chain.head.map(|head| (head.number + 1).saturating_sub(block).max(1))
}
