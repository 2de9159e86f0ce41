//! The same call to several endpoints at once, for decisions that one endpoint must not make alone.

use super::{
    BlockTag, Chain, EndpointResponse, Header, Receipt, RejectReason,
    pool::{QUORUM, Silence},
    quantity::Wei,
    real_answers,
    rpc_types::{BLOCK_BY_NUMBER, RpcHeader, RpcReceipt},
};
use crate::registration::Block;
use alloy::{
    primitives::{Address, B256, U256},
    rpc::json_rpc::{RpcRecv, RpcSend},
};
use std::time::Duration;
use tokio::time::Instant;

/// How long the endpoints of a quorum have to answer.
pub const QUORUM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a block or receipt has to be missing before the endpoints vote on it: a node that is behind also answers
/// `null`, and the nodes behind one load balancer differ by less than this.
pub const MISSING_GRACE: Duration = Duration::from_secs(10);
/// After this long one vote is enough, because the other endpoints cannot be reached.
pub const SINGLE_ENDPOINT_GRACE: Duration = Duration::from_secs(60);
/// A block this much deeper than required counts as deep although its exact number is missing.
const MISSING_TOP_GRACE_BLOCKS: u64 = 150;

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

/// A real answer of an endpoint about a block. One that does not have the number (yet) has not the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BlockAnswer {
    Has,
    HasNot,
}

impl Chain {
    /// Whether two endpoints have this block, and a block of the number that makes it `confirmations` deep: `head` may
    /// be of a chain that has been reorged since. `pool::quorum_answers` decides who is waited for.
    pub(crate) async fn is_confirmed_by_quorum(&self, block: &Block, confirmations: u64, head: u64) -> bool {
        let required_head = block.number + confirmations.saturating_sub(1);
        // A reorg may leave a number without a block forever, so past the grace another number is checked at each head.
        let top = match head < required_head + MISSING_TOP_GRACE_BLOCKS {
            true => required_head,
            false => head - MISSING_TOP_GRACE_BLOCKS / 2,
        };
        let ask = |position| async move {
            let has_block = self.ask_block(position, block.number, Some(block.hash));
            if top <= block.number {
                return has_block.await;
            }
            match tokio::join!(has_block, self.ask_block(position, top, None)) {
                (Ok(BlockAnswer::HasNot), _) | (_, Ok(BlockAnswer::HasNot)) => Ok(BlockAnswer::HasNot),
                (Err(silence), _) | (_, Err(silence)) => Err(silence),
                (Ok(BlockAnswer::Has), Ok(BlockAnswer::Has)) => Ok(BlockAnswer::Has),
            }
        };
        self.pool.ask_quorum(ask).await.is_unanimous(|answer| *answer == BlockAnswer::Has)
    }

    /// Whether two endpoints do not have this block, and none that answers has it. Which endpoints are waited for:
    /// `pool::quorum_answers`.
    pub(crate) async fn is_denied_by_quorum(&self, number: u64, hash: B256) -> bool {
        let answers = self.pool.ask_quorum(|position| self.ask_block(position, number, Some(hash))).await;
        answers.is_unanimous(|answer| *answer == BlockAnswer::HasNot)
    }

    /// Without a `hash`, any block of this number will do.
    async fn ask_block(&self, position: usize, number: u64, hash: Option<B256>) -> Result<BlockAnswer, Silence> {
        let params = (BlockTag::Number(number).to_param(), false);
        let answer = self.pool.call::<_, Option<RpcHeader>>(position, BLOCK_BY_NUMBER, params, 1).await;
        match answer.map(|header| header.map(Header::from)) {
            Ok(Some(header)) if hash.is_none_or(|hash| header.block.hash == hash) => Ok(BlockAnswer::Has),
            Ok(Some(_) | None) => Ok(BlockAnswer::HasNot),
            Err(error) if error.reject_reason() == Some(&RejectReason::UnknownBlock) => Ok(BlockAnswer::HasNot),
            Err(error) => Err(Silence::from(&error)),
        }
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

    /// The highest that two endpoints report, in wei: one that is wrong, or behind, must not stop a signer. A balance that
    /// is too high costs nothing, because a node rejects what the account cannot pay. `None` without an answer.
    pub(crate) async fn highest_balance(&self, account: Address) -> Option<U256> {
        let balances = self.query_many("eth_getBalance", (account, "latest"), FanOut::to_quorum(), Wei::get);
        real_answers(balances.await).into_iter().max()
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

    pub(super) async fn query_many<P: RpcSend + 'static, W: RpcRecv + 'static, R>(
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
