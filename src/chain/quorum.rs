//! The same call to several endpoints at once, for decisions that one endpoint must not make alone.

use super::{
    BlockTag, CallError, Chain, EndpointResponse, Header, Receipt, RejectReason,
    rpc_types::{BLOCK_BY_NUMBER, RpcHeader, RpcReceipt},
};
use crate::registration::Block;
use alloy::{
    primitives::{Address, B256, U64},
    rpc::json_rpc::{RpcRecv, RpcSend},
};
use std::time::Duration;
use tokio::time::Instant;

/// How many endpoints have to agree, where that many are configured.
const QUORUM: usize = 2;
/// How long the endpoints of a quorum have to answer.
pub const QUORUM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a block or receipt has to be missing before the endpoints vote on it: a node that is behind also answers
/// `null`, and the nodes behind one load balancer differ by less than this.
pub const MISSING_GRACE: Duration = Duration::from_secs(10);
/// After this long one vote is enough, because the other endpoints cannot be reached.
const SINGLE_ENDPOINT_GRACE: Duration = Duration::from_secs(60);
/// A block this much deeper than required needs no vote of an endpoint that does not answer.
const QUORUM_GRACE_BLOCKS: u64 = 150;

/// The votes needed for a decision about something that has been missing for `missing_for`.
pub fn required_votes(missing_for: Duration, endpoints: usize) -> usize {
    if missing_for >= SINGLE_ENDPOINT_GRACE { 1 } else { quorum_size(endpoints) }
}

/// The votes needed where no passage of time makes up for an endpoint that cannot be reached.
pub fn quorum_size(endpoints: usize) -> usize {
    QUORUM.min(endpoints)
}

/// How many endpoints receive the same call, and until when they may answer.
#[derive(Clone, Copy, Debug)]
pub struct FanOut {
    pub max_endpoints: usize,
    pub deadline: Instant,
}

impl FanOut {
    /// Several calls may share it: their answers are then due at the same time.
    pub fn to_quorum() -> Self {
        Self { max_endpoints: QUORUM, deadline: Instant::now() + QUORUM_TIMEOUT }
    }
}

/// One endpoint's answer about a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Vote {
    Confirms,
    /// It has no block of this number, or another one.
    Contradicts,
    /// It rejects the call.
    Abstains,
    NoAnswer,
}

impl Chain {
    /// Whether two healthy endpoints (or the preferred one, with fewer) have this block, and a block of the number that
    /// makes it `confirmations` deep: `head` may be of a chain that has been reorged since. An endpoint that does not
    /// answer keeps the decision open until the head is [`QUORUM_GRACE_BLOCKS`] above; one that rejects the call has no
    /// vote.
    pub(crate) async fn has_quorum(&self, block: &Block, confirmations: u64, head: u64) -> bool {
        let required_head = block.number + confirmations.saturating_sub(1);
        let wait_for_all = head < required_head + QUORUM_GRACE_BLOCKS;
        // A reorg may leave a number without a block forever, so past the grace another number is checked at each head.
        let top = if wait_for_all { required_head } else { head - QUORUM_GRACE_BLOCKS / 2 };
        let top_votes = async {
            match top > block.number {
                true => self.block_votes(top, None).await,
                false => Vec::new(),
            }
        };
        let (votes, top_votes) = tokio::join!(self.block_votes(block.number, Some(block.hash)), top_votes);
        votes.into_iter().chain(top_votes).all(|vote| match vote {
            Vote::Confirms | Vote::Abstains => true,
            Vote::Contradicts => false,
            Vote::NoAnswer => !wait_for_all,
        })
    }

    /// Whether one of two healthy endpoints (or the preferred one, with fewer) still has this block.
    pub(crate) async fn any_endpoint_has_block(&self, number: u64, hash: B256) -> bool {
        self.block_votes(number, Some(hash)).await.contains(&Vote::Confirms)
    }

    /// Without a `hash`, any block of this number confirms.
    async fn block_votes(&self, number: u64, hash: Option<B256>) -> Vec<Vote> {
        let params = (BlockTag::Number(number).to_param(), false);
        let answers = self.pool.fan_out_healthy::<_, Option<RpcHeader>>(BLOCK_BY_NUMBER, params, QUORUM).await;
        let vote = |answer: Result<Option<RpcHeader>, CallError>| match answer {
            Ok(header) => match header.map(Header::from) {
                Some(header) if hash.is_none_or(|hash| header.block.hash == hash) => Vote::Confirms,
                Some(_) | None => Vote::Contradicts,
            },
            Err(error) if error.reject_reason() == Some(&RejectReason::UnknownBlock) => Vote::Contradicts,
            Err(error) if error.reject_reason().is_some() => Vote::Abstains,
            Err(_) => Vote::NoAnswer,
        };
        answers.into_iter().map(vote).collect()
    }

    pub(crate) async fn receipts_from_many(
        &self,
        hash: B256,
        fan_out: FanOut,
    ) -> Vec<EndpointResponse<Option<Receipt>>> {
        let receipt = |wire: Option<RpcReceipt>| wire.and_then(|wire| Receipt::from_rpc(wire, self.contract()));
        self.query_many("eth_getTransactionReceipt", (hash,), fan_out, receipt).await
    }

    /// Whether each endpoint has the transaction, pending or included.
    pub(crate) async fn has_transaction_from_many(&self, hash: B256, fan_out: FanOut) -> Vec<EndpointResponse<bool>> {
        let is_known = |transaction: Option<serde_json::Value>| transaction.is_some();
        self.query_many("eth_getTransactionByHash", (hash,), fan_out, is_known).await
    }

    /// The account's nonce at each endpoint's head.
    pub(crate) async fn nonces_from_many(&self, account: Address, fan_out: FanOut) -> Vec<EndpointResponse<u64>> {
        let nonce = |nonce: U64| nonce.to();
        self.query_many("eth_getTransactionCount", (account, "latest"), fan_out, nonce).await
    }

    /// The account's nonce as of the end of block `number`.
    pub(crate) async fn nonces_at_block_from_many(
        &self,
        account: Address,
        number: u64,
        fan_out: FanOut,
    ) -> Vec<EndpointResponse<u64>> {
        let params = (account, BlockTag::Number(number).to_param());
        self.query_many("eth_getTransactionCount", params, fan_out, |nonce: U64| nonce.to()).await
    }

    pub(crate) async fn headers_from_many(
        &self,
        number: u64,
        fan_out: FanOut,
    ) -> Vec<EndpointResponse<Option<Header>>> {
        let header = |wire: Option<RpcHeader>| wire.map(Header::from);
        let params = (BlockTag::Number(number).to_param(), false);
        self.query_many(BLOCK_BY_NUMBER, params, fan_out, header).await
    }

    async fn query_many<P: RpcSend + 'static, W: RpcRecv + 'static, R>(
        &self,
        method: &'static str,
        params: P,
        fan_out: FanOut,
        parse: impl Fn(W) -> R,
    ) -> Vec<EndpointResponse<R>> {
        let responses = self.pool.fan_out(method, params, fan_out.max_endpoints, fan_out.deadline).await;
        let parsed =
            responses.into_iter().map(|(endpoint, result)| EndpointResponse { endpoint, result: result.map(&parse) });
        parsed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_endpoints_decide_and_after_a_minute_one_is_enough() {
        for (seconds, endpoints, expected) in
            [(0, 1, 1), (0, 2, 2), (0, 3, 2), (59, 1, 1), (59, 2, 2), (59, 3, 2), (60, 1, 1), (60, 2, 1), (60, 3, 1)]
        {
            let votes = required_votes(Duration::from_secs(seconds), endpoints);
            assert_eq!(votes, expected, "missing for {seconds} s, {endpoints} endpoints");
        }
        assert_eq!([1, 2, 3].map(quorum_size), [1, 2, 2]);
    }
}
