//! The RPC calls about a pending transaction. Never on the hot path: a few times for a late transaction, and for
//! callers that request a diagnosis.
//!
//! The first calls locate it at several endpoints at once: its receipt, whether it is in the mempool, and the signer's
//! nonce. The second ones explain why it is there. An answer that does not arrive in time is absent from the evidence.

use super::{convert, sources::Sources};
use crate::{
    chain::{BlockTag, CallError, Chain, EndpointResponse, FanOut, register_calldata},
    pipeline::{in_flight::PendingTx, preflight},
    registration::{
        Block, BlockedReason, Pair,
        diagnosis::{
            Blocker, ChainSnapshot, EndpointAnswer, EndpointSnapshot, ReceiptSnapshot, RevertReason, RpcAnswers,
        },
    },
};
use alloy::primitives::Address;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Limit for all calls of one diagnosis.
pub(super) const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Limit for the first calls, which leaves time for the second ones.
const LOCATE_TIMEOUT: Duration = Duration::from_millis(1_200);
const EVIDENCE_ENDPOINTS: usize = 3;
/// Fewer than for receipts, which already show in part whether the nonce is consumed.
const EVIDENCE_NONCE_ENDPOINTS: usize = 2;
const FEE_HISTORY_BLOCKS: u64 = 10;
/// The newest versions of a transaction; a block builder may include any of them.
const MAX_ATTEMPTS_CHECKED: usize = 3;
/// Maximum number of calls about a transaction with one version: receipts, mempool and nonces, then either a header and
/// two simulations or balance and fees. Each earlier version adds its receipts and mempool calls.
pub(super) const MAX_EVIDENCE_CALLS: usize = 2 * EVIDENCE_ENDPOINTS + EVIDENCE_NONCE_ENDPOINTS + 3;
const _: () = assert!(MAX_EVIDENCE_CALLS <= 12);

pub(super) async fn collect_answers(chain: &Chain, tx: &PendingTx, seen: &ChainSnapshot) -> RpcAnswers {
    let start = Instant::now();
    let versions = tx.versions();
    let fan_out = |max_endpoints| FanOut { max_endpoints, deadline: start + LOCATE_TIMEOUT };
    let hashes = || versions.attempts.iter().rev().take(MAX_ATTEMPTS_CHECKED).map(|attempt| attempt.hash);
    let (receipts, in_mempool, nonces) = tokio::join!(
        join_all(hashes().map(|hash| chain.receipts_from_many(hash, fan_out(EVIDENCE_ENDPOINTS)))),
        join_all(hashes().map(|hash| chain.has_transaction_from_many(hash, fan_out(EVIDENCE_ENDPOINTS)))),
        chain.nonces_from_many(tx.signer, fan_out(EVIDENCE_NONCE_ENDPOINTS)),
    );
    let receipts = merge_attempts(receipts, Option::is_some);
    let in_mempool = merge_attempts(in_mempool, |is_known| *is_known);
    let unanswered = seen.usable.iter().filter_map(|endpoint| {
        let outcomes = [
            endpoint_outcome(&receipts, endpoint),
            endpoint_outcome(&in_mempool, endpoint),
            endpoint_outcome(&nonces, endpoint),
        ];
        let mut outcomes = outcomes.into_iter().flatten();
        let has_no_answer = outcomes.clone().all(|outcome| outcome.is_err());
        // A usable endpoint without a call is rate limited, or enough others were called.
        let not_called =
            receipts.is_empty().then(|| endpoint.error.clone().unwrap_or_else(|| "rate limited".to_owned()));
        let error = outcomes.find_map(Result::err).or(not_called).filter(|_| has_no_answer)?;
        Some(EndpointAnswer { endpoint: endpoint.name.clone(), value: error })
    });
    let answers = RpcAnswers {
        unanswered: unanswered.collect(),
        receipts: convert::endpoint_answers(&receipts, |receipt| receipt.as_ref().map(convert::receipt_snapshot)),
        tx_known: convert::endpoint_answers(&in_mempool, |is_known| *is_known),
        nonces: convert::endpoint_answers(&nonces, |nonce| *nonce),
        ..RpcAnswers::default()
    };
    if answers.receipts.is_empty() && answers.tx_known.is_empty() && answers.nonces.is_empty() {
        return answers;
    }
    match answers.receipts.iter().find_map(|answer| answer.value) {
        Some(receipt) => explain_included(chain, tx, receipt, answers, start + EVIDENCE_TIMEOUT).await,
        None => explain_pending(chain, tx, seen, answers, start + EVIDENCE_TIMEOUT).await,
    }
}

/// Each endpoint's answer about the latest version, or about an earlier version if that one is conclusive.
fn merge_attempts<T>(
    versions: Vec<Vec<EndpointResponse<T>>>,
    is_conclusive: impl Fn(&T) -> bool,
) -> Vec<EndpointResponse<T>> {
    let mut versions = versions.into_iter();
    let mut all = versions.next().unwrap_or_default();
    let is_conclusive = |answer: &EndpointResponse<T>| answer.result.as_ref().is_ok_and(&is_conclusive);
    for earlier in versions.flatten().filter(|answer| is_conclusive(answer)) {
        match all.iter_mut().find(|answer| answer.endpoint == earlier.endpoint) {
            Some(answer) if !is_conclusive(answer) => *answer = earlier,
            Some(_) => {}
            None => all.push(earlier),
        }
    }
    all
}

/// Whether the endpoint answered; `None` if it was not called.
fn endpoint_outcome<T>(answers: &[EndpointResponse<T>], endpoint: &EndpointSnapshot) -> Option<Result<(), String>> {
    let answer = answers.iter().find(|answer| answer.endpoint == endpoint.name)?;
    Some(answer.result.as_ref().map(drop).map_err(convert::error_text))
}

/// For a transaction with a receipt: whether its block is canonical, and why it reverted.
async fn explain_included(
    chain: &Chain,
    tx: &PendingTx,
    receipt: ReceiptSnapshot,
    answers: RpcAnswers,
    end: Instant,
) -> RpcAnswers {
    let pairs: Vec<Pair> = {
        let traces = tx.traces();
        traces.iter().map(|trace| trace.member.pair.clone()).collect()
    };
    let calldata = register_calldata(&pairs);
    // The state before the block is exact if the transaction was the first of the block, the state after it if the
    // last.
    let simulate = async |number: u64| {
        if receipt.succeeded {
            return None;
        }
        let run = chain.revert_at(tx.signer, &calldata, tx.versions().gas_limit, number);
        timeout_at(end, run).await.ok()?.ok()
    };
    let header = timeout_at(end, chain.header(BlockTag::Number(receipt.block)));
    let (header, before, after) =
        tokio::join!(header, simulate(receipt.block.saturating_sub(1)), simulate(receipt.block));
    let canonical = header.ok().and_then(Result::ok).flatten().map(|header| header.block.hash);
    let data = [&before, &after].into_iter().find_map(|run| run.as_ref()?.as_ref());
    let revert = match data {
        Some(data) => Some(convert::revert_cause(data)),
        None => before.and(after).map(|_| RevertReason::NotReproduced),
    };
    RpcAnswers { canonical_block_hash: canonical, revert, ..answers }
}

/// For a transaction without a receipt: whether the signer can pay for it, and what recent blocks required.
async fn explain_pending(
    chain: &Chain,
    tx: &PendingTx,
    seen: &ChainSnapshot,
    answers: RpcAnswers,
    end: Instant,
) -> RpcAnswers {
    let (balance, fees) =
        tokio::join!(timeout_at(end, chain.balance(tx.signer)), timeout_at(end, chain.fee_history(FEE_HISTORY_BLOCKS)));
    let gas_limit = seen.head.map_or(0, |head| head.gas_limit);
    let fees = fees.ok().and_then(Result::ok).map(|history| convert::fees_snapshot(&history, gas_limit));
    RpcAnswers { balance: balance.ok().and_then(Result::ok), fees, ..answers }
}

/// Whether each endpoint has exactly this block.
pub(super) async fn block_votes(chain: &Chain, block: &Block) -> Vec<EndpointAnswer<bool>> {
    let fan_out = FanOut { max_endpoints: EVIDENCE_ENDPOINTS, deadline: Instant::now() + EVIDENCE_TIMEOUT };
    let answers = chain.headers_from_many(block.number, fan_out).await;
    convert::endpoint_answers(&answers, |header| header.is_some_and(|header| header.block.hash == block.hash))
}

/// The block in which another sender registered the pair.
pub(super) async fn foreign_block(chain: &Chain, pair: Pair) -> Option<u64> {
    let records: Result<_, CallError> =
        timeout_at(Instant::now() + EVIDENCE_TIMEOUT, chain.records(&[pair])).await.ok()?;
    records.ok()?.into_iter().next()?.map(|record| record.block_number)
}

/// The blocker that a preflight finds now, if it is the one that blocks the pair. The first signers are enough, because
/// a registration is blocked only while every signer is.
pub(super) async fn preflight_blocker(
    sources: &Sources,
    blocked: BlockedReason,
    pair: Pair,
    signers: &[Address],
) -> Option<Blocker> {
    match blocked {
        // Other evidence shows it: the endpoints' states, or the pair's record.
        BlockedReason::NoEndpoint | BlockedReason::AwaitingConfirmations => return None,
        BlockedReason::InsufficientFunds
        | BlockedReason::SignerNotAllowed
        | BlockedReason::FeeCap
        | BlockedReason::DailyBudget
        | BlockedReason::TooLarge
        | BlockedReason::SignerUnavailable
        | BlockedReason::SignerThrottled
        | BlockedReason::NodeRefuses => {}
    }
    let signers = signers.iter().take(EVIDENCE_ENDPOINTS);
    let inputs = preflight::Inputs {
        chain: &sources.chain,
        store: &sources.store,
        in_flight: &sources.in_flight,
        block_gas_limit: sources.head.header().map_or(preflight::DEFAULT_BLOCK_GAS_LIMIT, |head| head.gas_limit),
        daily_budget: sources.settings.daily_budget,
    };
    let all = join_all(signers.map(|signer| preflight::find_blocker(&inputs, *signer, &pair)));
    let blockers = timeout_at(Instant::now() + EVIDENCE_TIMEOUT, all).await.ok()?;
    blockers.into_iter().flatten().find(|blocker| blocker.blocked_reason() == blocked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_with_an_earlier_version_has_the_transaction() {
        let answer = |endpoint: &str, says: Option<bool>| EndpointResponse {
            endpoint: endpoint.to_owned(),
            result: says.ok_or(CallError::NoEndpoint { method: "", details: String::new() }),
        };
        let latest = vec![answer("a", Some(false)), answer("b", Some(true)), answer("c", None)];
        let earlier = vec![answer("a", Some(true)), answer("b", Some(false)), answer("c", Some(false))];

        let merged = merge_attempts(vec![latest.clone(), earlier], |known| *known);

        assert_eq!(merged, [answer("a", Some(true)), answer("b", Some(true)), answer("c", None)]);
        assert_eq!(merge_attempts(vec![latest.clone()], |known| *known), latest);
        assert_eq!(merge_attempts(Vec::<Vec<EndpointResponse<bool>>>::new(), |known| *known), []);
    }
}
