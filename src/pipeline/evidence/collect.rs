//! The one round of questions about a transaction that no block is known to hold. Never on the hot path: a few times for a
//! transaction that is late, and when somebody asks.
//!
//! First its receipt, whether it is known, and the signer's nonce, of several endpoints at once: they say where it is. Then
//! either why it is there, or what keeps it out. What is not answered in time is absent.

use super::convert;
use crate::{
    chain::{BlockTag, CallError, Chain, EndpointResponse, FanOut, register_calldata},
    pipeline::{Context, in_flight::PendingTx, preflight},
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

/// A round takes this long at most.
pub const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(2);
/// The first questions are over by then, so that the others have some time too.
const LOCATE_TIMEOUT: Duration = Duration::from_millis(1_200);
/// How many endpoints are asked the same.
const EVIDENCE_ENDPOINTS: usize = 3;
/// How many are asked for the nonce, which a receipt or its absence says in part already.
const EVIDENCE_NONCE_ENDPOINTS: usize = 2;
/// How many of the newest blocks are looked at for what they ask.
const FEE_HISTORY_BLOCKS: u64 = 10;
/// Of the versions of a transaction, the newest so many are asked about: which one is included decides whoever builds blocks.
const MAX_ATTEMPTS_CHECKED: usize = 3;
/// A round about a transaction that was signed once makes this many calls at most: receipt, known and nonce, then header and two
/// simulations, or balance and fees. Each earlier version adds its receipt and whether it is known.
pub const MAX_EVIDENCE_CALLS: usize = 2 * EVIDENCE_ENDPOINTS + EVIDENCE_NONCE_ENDPOINTS + 3;
const _: () = assert!(MAX_EVIDENCE_CALLS <= 12);

/// Asks.
pub(super) async fn collect_answers(chain: &Chain, flight: &PendingTx, seen: &ChainSnapshot) -> RpcAnswers {
    let begun = Instant::now();
    let versions = flight.versions();
    let fan_out = |max_endpoints| FanOut { max_endpoints, deadline: begun + LOCATE_TIMEOUT };
    let hashes = || versions.attempts.iter().rev().take(MAX_ATTEMPTS_CHECKED).map(|attempt| attempt.hash);
    let (receipts, known, nonces) = tokio::join!(
        join_all(hashes().map(|hash| chain.receipts_from_many(hash, fan_out(EVIDENCE_ENDPOINTS)))),
        join_all(hashes().map(|hash| chain.has_transaction_from_many(hash, fan_out(EVIDENCE_ENDPOINTS)))),
        chain.nonces_from_many(flight.signer, fan_out(EVIDENCE_NONCE_ENDPOINTS)),
    );
    let receipts = merge_attempts(receipts, Option::is_some);
    let known = merge_attempts(known, |known| *known);
    let silent = seen.usable.iter().filter_map(|endpoint| {
        let heard = [
            endpoint_outcome(&receipts, endpoint),
            endpoint_outcome(&known, endpoint),
            endpoint_outcome(&nonces, endpoint),
        ];
        let mut heard = heard.into_iter().flatten();
        let silent = heard.clone().all(|heard| heard.is_err());
        // Whoever is usable and was not asked at all asked to be left alone, or enough others were asked.
        let nobody = receipts.is_empty().then(|| endpoint.error.clone().unwrap_or_else(|| "rate limited".to_owned()));
        let why = heard.find_map(Result::err).or(nobody).filter(|_| silent)?;
        Some(EndpointAnswer { endpoint: endpoint.name.clone(), value: why })
    });
    let answers = RpcAnswers {
        unanswered: silent.collect(),
        receipts: convert::endpoint_answers(&receipts, |receipt| receipt.as_ref().map(convert::receipt_snapshot)),
        tx_known: convert::endpoint_answers(&known, |known| *known),
        nonces: convert::endpoint_answers(&nonces, |nonce| *nonce),
        ..RpcAnswers::default()
    };
    if answers.receipts.is_empty() && answers.tx_known.is_empty() && answers.nonces.is_empty() {
        return answers;
    }
    match answers.receipts.iter().find_map(|witness| witness.value) {
        Some(receipt) => explain_included(chain, flight, receipt, answers, begun + EVIDENCE_TIMEOUT).await,
        None => explain_pending(chain, flight, seen, answers, begun + EVIDENCE_TIMEOUT).await,
    }
}

/// What each endpoint says of whichever version it knows something of: its answer about the latest one, or about an earlier one
/// that says more.
fn merge_attempts<T>(
    versions: Vec<Vec<EndpointResponse<T>>>,
    says_more: impl Fn(&T) -> bool,
) -> Vec<EndpointResponse<T>> {
    let mut versions = versions.into_iter();
    let mut all = versions.next().unwrap_or_default();
    let says_more = |witness: &EndpointResponse<T>| witness.result.as_ref().is_ok_and(&says_more);
    for earlier in versions.flatten().filter(|witness| says_more(witness)) {
        match all.iter_mut().find(|witness| witness.endpoint == earlier.endpoint) {
            Some(witness) if !says_more(witness) => *witness = earlier,
            Some(_) => {}
            None => all.push(earlier),
        }
    }
    all
}

/// What an endpoint said to a question, if it was asked.
fn endpoint_outcome<T>(witnesses: &[EndpointResponse<T>], endpoint: &EndpointSnapshot) -> Option<Result<(), String>> {
    let witness = witnesses.iter().find(|witness| witness.endpoint == endpoint.name)?;
    Some(witness.result.as_ref().map(drop).map_err(convert::error_text))
}

/// It is in a block: whether that is canonical, and why it reverted if it did.
async fn explain_included(
    chain: &Chain,
    flight: &PendingTx,
    receipt: ReceiptSnapshot,
    answers: RpcAnswers,
    end: Instant,
) -> RpcAnswers {
    let pairs: Vec<Pair> = {
        let journeys = flight.traces();
        journeys.iter().map(|journey| journey.member.pair.clone()).collect()
    };
    let calldata = register_calldata(&pairs);
    // Of the two states around its block one may be the one it ran on: exactly so when it was the first, or the last.
    let run = async |number: u64| {
        if receipt.succeeded {
            return None;
        }
        let run = chain.revert_at(flight.signer, &calldata, flight.versions().gas_limit, number);
        timeout_at(end, run).await.ok()?.ok()
    };
    let header = timeout_at(end, chain.header(BlockTag::Number(receipt.block)));
    let (header, before, after) = tokio::join!(header, run(receipt.block.saturating_sub(1)), run(receipt.block));
    let canonical = header.ok().and_then(Result::ok).flatten().map(|header| header.block.hash);
    let data = [&before, &after].into_iter().find_map(|run| run.as_ref()?.as_ref());
    let revert = match data {
        Some(data) => Some(convert::revert_cause(data)),
        None => before.and(after).map(|_| RevertReason::NotReproduced),
    };
    RpcAnswers { canonical_block_hash: canonical, revert, ..answers }
}

/// It is in no block: whether the signer can pay, and what blocks ask.
async fn explain_pending(
    chain: &Chain,
    flight: &PendingTx,
    seen: &ChainSnapshot,
    answers: RpcAnswers,
    end: Instant,
) -> RpcAnswers {
    let (balance, fees) = tokio::join!(
        timeout_at(end, chain.balance(flight.signer)),
        timeout_at(end, chain.fee_history(FEE_HISTORY_BLOCKS))
    );
    let gas_limit = seen.head.map_or(0, |head| head.gas_limit);
    let fees = fees.ok().and_then(Result::ok).map(|history| convert::fees_snapshot(&history, gas_limit));
    RpcAnswers { balance: balance.ok().and_then(Result::ok), fees, ..answers }
}

/// Whether each endpoint shows this very block.
pub(super) async fn block_votes(chain: &Chain, block: &Block) -> Vec<EndpointAnswer<bool>> {
    let fan_out = FanOut { max_endpoints: EVIDENCE_ENDPOINTS, deadline: Instant::now() + EVIDENCE_TIMEOUT };
    let witnesses = chain.headers_from_many(block.number, fan_out).await;
    convert::endpoint_answers(&witnesses, |header| header.is_some_and(|header| header.block.hash == block.hash))
}

/// The block in which somebody else registered a pair: one call.
pub(super) async fn foreign_block(chain: &Chain, pair: Pair) -> Option<u64> {
    let records: Result<_, CallError> =
        timeout_at(Instant::now() + EVIDENCE_TIMEOUT, chain.records(&[pair])).await.ok()?;
    records.ok()?.into_iter().next()?.map(|record| record.block_number)
}

/// What would stand in a lane's way now, if it is this that blocks the pair: of the first signers, for work is blocked only while
/// none of them can do it.
pub(super) async fn preflight_blocker(
    tools: &Context,
    blocked: BlockedReason,
    pair: Pair,
    signers: &[Address],
) -> Option<Blocker> {
    match blocked {
        // Told by the endpoints, or by the pair's record.
        BlockedReason::NoEndpoint | BlockedReason::AwaitingConfirmations => return None,
        BlockedReason::InsufficientFunds
        | BlockedReason::SignerNotAllowed
        | BlockedReason::FeeCap
        | BlockedReason::DailyBudget
        | BlockedReason::TooLarge
        | BlockedReason::NodeRefuses => {}
    }
    let signers = signers.iter().take(EVIDENCE_ENDPOINTS);
    let inputs = preflight::Inputs {
        chain: &tools.chain,
        store: &tools.store,
        in_flight: &tools.in_flight,
        block_gas_limit: tools.head().map_or(preflight::DEFAULT_BLOCK_GAS_LIMIT, |head| head.gas_limit),
        daily_budget: tools.settings.daily_budget,
    };
    let all = join_all(signers.map(|signer| preflight::find_blocker(&inputs, *signer, &pair)));
    let seen = timeout_at(Instant::now() + EVIDENCE_TIMEOUT, all).await.ok()?;
    seen.into_iter().flatten().find(|hindrance| hindrance.blocked_reason() == blocked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_knows_an_earlier_version_knows_the_transaction() {
        let witness = |endpoint: &str, says: Option<bool>| EndpointResponse {
            endpoint: endpoint.to_owned(),
            result: says.ok_or(CallError::NoEndpoint { method: "", details: String::new() }),
        };
        let latest = vec![witness("a", Some(false)), witness("b", Some(true)), witness("c", None)];
        let earlier = vec![witness("a", Some(true)), witness("b", Some(false)), witness("c", Some(false))];

        let merged = merge_attempts(vec![latest.clone(), earlier], |known| *known);

        assert_eq!(merged, [witness("a", Some(true)), witness("b", Some(true)), witness("c", None)]);
        assert_eq!(merge_attempts(vec![latest.clone()], |known| *known), latest);
        assert_eq!(merge_attempts(Vec::<Vec<EndpointResponse<bool>>>::new(), |known| *known), []);
    }
}
