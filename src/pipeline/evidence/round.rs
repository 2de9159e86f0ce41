//! The one round of questions about a transaction that no block is known to hold. Never on the hot path: a few times for a
//! transaction that is late, and when somebody asks.
//!
//! First its receipt, whether it is known, and the signer's nonce, of several endpoints at once: they say where it is. Then
//! either why it is there, or what keeps it out. What is not answered in time is absent.

use super::convert;
use crate::{
    chain::{BlockTag, CallError, Chain, Pair, Witness, register_calldata},
    pipeline::{Tools, flights::Flight, lane::rehearse},
    registration::{
        Block, Blocked,
        diagnosis::{Answers, ChainSeen, EndpointSeen, Hindrance, ReceiptSeen, Revert, Witnessed},
    },
};
use alloy::primitives::Address;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A round takes this long at most.
pub const LONGEST: Duration = Duration::from_secs(2);
/// The first questions are over by then, so that the others have some time too.
const FIRST: Duration = Duration::from_millis(1_200);
/// How many endpoints are asked the same.
const WITNESSES: usize = 3;
/// How many are asked for the nonce, which a receipt or its absence says in part already.
const NONCE_WITNESSES: usize = 2;
/// How many of the newest blocks are looked at for what they ask.
const FEE_BLOCKS: u64 = 10;
/// Of the versions of a transaction, the newest so many are asked about: which one is included decides whoever builds blocks.
const VERSIONS: usize = 3;
/// A round about a transaction that was signed once makes this many calls at most: receipt, known and nonce, then header and two
/// simulations, or balance and fees. Each earlier version adds its receipt and whether it is known.
pub const CALLS: usize = 2 * WITNESSES + NONCE_WITNESSES + 3;
const _: () = assert!(CALLS <= 12);

/// Asks.
pub(super) async fn ask(chain: &Chain, flight: &Flight, seen: &ChainSeen) -> Answers {
    let begun = Instant::now();
    let (first, versions) = (begun + FIRST, flight.versions());
    let hashes = || versions.attempts.iter().rev().take(VERSIONS).map(|attempt| attempt.hash);
    let (receipts, known, nonces) = tokio::join!(
        join_all(hashes().map(|hash| chain.receipts_everywhere(hash, WITNESSES, first))),
        join_all(hashes().map(|hash| chain.known_everywhere(hash, WITNESSES, first))),
        chain.nonces_everywhere(flight.signer, NONCE_WITNESSES, first),
    );
    let receipts = of_any(receipts, Option::is_some);
    let known = of_any(known, |known| *known);
    let silent = seen.usable.iter().filter_map(|endpoint| {
        let heard = [heard(&receipts, endpoint), heard(&known, endpoint), heard(&nonces, endpoint)];
        let mut heard = heard.into_iter().flatten();
        let silent = heard.clone().all(|heard| heard.is_err());
        // Whoever is usable and was not asked at all asked to be left alone, or enough others were asked.
        let nobody = receipts.is_empty().then(|| endpoint.error.clone().unwrap_or_else(|| "rate limited".to_owned()));
        let why = heard.find_map(Result::err).or(nobody).filter(|_| silent)?;
        Some(Witnessed { endpoint: endpoint.name.clone(), says: why })
    });
    let answers = Answers {
        silent: silent.collect(),
        receipts: convert::answered(&receipts, |receipt| receipt.as_ref().map(convert::receipt)),
        known: convert::answered(&known, |known| *known),
        nonces: convert::answered(&nonces, |nonce| *nonce),
        ..Answers::default()
    };
    if answers.receipts.is_empty() && answers.known.is_empty() && answers.nonces.is_empty() {
        return answers;
    }
    match answers.receipts.iter().find_map(|witness| witness.says) {
        Some(receipt) => why_there(chain, flight, receipt, answers, begun + LONGEST).await,
        None => what_keeps_it_out(chain, flight, seen, answers, begun + LONGEST).await,
    }
}

/// What each endpoint says of whichever version it knows something of: its answer about the latest one, or about an earlier one
/// that says more.
fn of_any<T>(versions: Vec<Vec<Witness<T>>>, says_more: impl Fn(&T) -> bool) -> Vec<Witness<T>> {
    let mut versions = versions.into_iter();
    let mut all = versions.next().unwrap_or_default();
    let says_more = |witness: &Witness<T>| witness.answer.as_ref().is_ok_and(&says_more);
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
fn heard<T>(witnesses: &[Witness<T>], endpoint: &EndpointSeen) -> Option<Result<(), String>> {
    let witness = witnesses.iter().find(|witness| witness.endpoint == endpoint.name)?;
    Some(witness.answer.as_ref().map(drop).map_err(convert::silence))
}

/// It is in a block: whether that is canonical, and why it reverted if it did.
async fn why_there(chain: &Chain, flight: &Flight, receipt: ReceiptSeen, answers: Answers, end: Instant) -> Answers {
    let pairs: Vec<Pair> = {
        let journeys = flight.journeys();
        journeys.iter().map(|journey| (journey.member.document_hash, journey.member.case_id.clone())).collect()
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
        Some(data) => Some(convert::revert(data)),
        None => before.and(after).map(|_| Revert::Nothing),
    };
    Answers { canonical, revert, ..answers }
}

/// It is in no block: whether the signer can pay, and what blocks ask.
async fn what_keeps_it_out(
    chain: &Chain,
    flight: &Flight,
    seen: &ChainSeen,
    answers: Answers,
    end: Instant,
) -> Answers {
    let (balance, fees) =
        tokio::join!(timeout_at(end, chain.balance(flight.signer)), timeout_at(end, chain.fee_history(FEE_BLOCKS)));
    let gas_limit = seen.head.map_or(0, |head| head.gas_limit);
    let fees = fees.ok().and_then(Result::ok).map(|history| convert::fees(&history, gas_limit));
    Answers { balance: balance.ok().and_then(Result::ok), fees, ..answers }
}

/// Whether each endpoint shows this very block.
pub(super) async fn shown(chain: &Chain, block: &Block) -> Vec<Witnessed<bool>> {
    let witnesses = chain.headers_everywhere(block.number, WITNESSES, Instant::now() + LONGEST).await;
    convert::answered(&witnesses, |header| header.is_some_and(|header| header.block.hash == block.hash))
}

/// The block in which somebody else registered a pair: one call.
pub(super) async fn found_in(chain: &Chain, pair: Pair) -> Option<u64> {
    let records: Result<_, CallError> = timeout_at(Instant::now() + LONGEST, chain.records(&[pair])).await.ok()?;
    records.ok()?.into_iter().next()?.map(|record| record.block_number)
}

/// What would stand in a lane's way now, if it is this that blocks the pair: of the first signers, for work is blocked only while
/// none of them can do it.
pub(super) async fn rehearsed(tools: &Tools, blocked: Blocked, pair: Pair, signers: &[Address]) -> Option<Hindrance> {
    match blocked {
        // Told by the endpoints, or by the pair's record.
        Blocked::NoEndpoint | Blocked::AwaitingConfirmations => return None,
        Blocked::InsufficientFunds
        | Blocked::SignerNotAllowed
        | Blocked::FeeCap
        | Blocked::DailyBudget
        | Blocked::TooLarge
        | Blocked::NodeRefuses => {}
    }
    let signers = signers.iter().take(WITNESSES);
    let all = join_all(signers.map(|signer| rehearse(tools, *signer, &pair)));
    let seen = timeout_at(Instant::now() + LONGEST, all).await.ok()?;
    seen.into_iter().flatten().find(|hindrance| hindrance.blocked() == blocked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_knows_an_earlier_version_knows_the_transaction() {
        let witness = |endpoint: &str, says: Option<bool>| Witness {
            endpoint: endpoint.to_owned(),
            answer: says.ok_or(CallError::NoEndpoint { method: "", why: String::new() }),
        };
        let latest = vec![witness("a", Some(false)), witness("b", Some(true)), witness("c", None)];
        let earlier = vec![witness("a", Some(true)), witness("b", Some(false)), witness("c", Some(false))];

        let merged = of_any(vec![latest.clone(), earlier], |known| *known);

        assert_eq!(merged, [witness("a", Some(true)), witness("b", Some(true)), witness("c", None)]);
        assert_eq!(of_any(vec![latest.clone()], |known| *known), latest);
        assert_eq!(of_any(Vec::<Vec<Witness<bool>>>::new(), |known| *known), []);
    }
}
