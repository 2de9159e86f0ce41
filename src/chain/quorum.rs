//! Questions to several endpoints at once, each answered by itself: where one alone is not enough, and where they may differ.

use super::{
    BlockTag, CallError, Chain, EndpointResponse, Header, Receipt, RejectReason,
    rpc_types::{BLOCK_BY_NUMBER, RpcHeader, RpcReceipt},
};
use crate::registration::Block;
use alloy::{
    primitives::{Address, B256, U64},
    rpc::json_rpc::{RpcRecv, RpcSend},
};
use tokio::time::Instant;

/// How many endpoints have to agree, where there are so many.
const QUORUM: usize = 2;
/// What is so many blocks deeper than it has to be is agreed although an endpoint that should say so cannot be heard.
const QUORUM_GRACE_BLOCKS: u64 = 150;

/// What one endpoint says about a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Vote {
    /// It has it.
    Confirms,
    /// It has none of this number, or another one.
    Contradicts,
    /// It refuses the question.
    Abstains,
    /// It does not answer.
    NoAnswer,
}

impl Chain {
    /// Whether two healthy endpoints show this block, and one of the number that makes it `confirmations` deep: the head that was
    /// believed may be of a chain that has fallen since. With fewer the one that comes first has to. One that cannot be heard just
    /// now keeps it open until the head is far above; one that refuses the question has no say.
    pub async fn has_quorum(&self, block: &Block, confirmations: u64, head: u64) -> bool {
        let needed = block.number + confirmations.saturating_sub(1);
        let patience = head < needed + QUORUM_GRACE_BLOCKS;
        // A reorg may leave a number on top that no block has, for ever: then another one is asked for with each head.
        let reached = if patience { needed } else { head - QUORUM_GRACE_BLOCKS / 2 };
        let on_top = async {
            match reached > block.number {
                true => self.block_votes(reached, None).await,
                false => Vec::new(),
            }
        };
        let (shown, on_top) = tokio::join!(self.block_votes(block.number, Some(block.hash)), on_top);
        shown.into_iter().chain(on_top).all(|word| match word {
            Vote::Confirms | Vote::Abstains => true,
            Vote::Contradicts => false,
            Vote::NoAnswer => !patience,
        })
    }

    /// Whether one of two healthy endpoints still shows this block; with fewer, whether the one that comes first does.
    pub async fn any_endpoint_has_block(&self, number: u64, hash: B256) -> bool {
        self.block_votes(number, Some(hash)).await.contains(&Vote::Confirms)
    }

    /// What two healthy endpoints say about the block of this number: that it is there and, where that is asked, that it is this one.
    async fn block_votes(&self, number: u64, hash: Option<B256>) -> Vec<Vote> {
        let params = (BlockTag::Number(number).to_param(), false);
        let answers = self.pool.fan_out_healthy::<_, Option<RpcHeader>>(BLOCK_BY_NUMBER, params, QUORUM).await;
        let word = |answer: Result<Option<RpcHeader>, CallError>| match answer {
            Ok(header) => match header.map(Header::from) {
                Some(header) if hash.is_none_or(|hash| header.block.hash == hash) => Vote::Confirms,
                Some(_) | None => Vote::Contradicts,
            },
            Err(error) if error.reject_reason() == Some(&RejectReason::UnknownBlock) => Vote::Contradicts,
            Err(error) if error.reject_reason().is_some() => Vote::Abstains,
            Err(_) => Vote::NoAnswer,
        };
        answers.into_iter().map(word).collect()
    }

    /// The receipt as each of the first `most` usable endpoints shows it, asked at once and heard `until` then.
    pub async fn receipts_from_many(
        &self,
        hash: B256,
        most: usize,
        until: Instant,
    ) -> Vec<EndpointResponse<Option<Receipt>>> {
        let receipt = |wire: Option<RpcReceipt>| wire.and_then(|wire| Receipt::from_rpc(wire, self.contract()));
        self.query_many("eth_getTransactionReceipt", (hash,), (most, until), receipt).await
    }

    /// Whether each of the first `most` usable endpoints knows the transaction, pending or included; asked at once and heard
    /// `until` then.
    pub async fn has_transaction_from_many(
        &self,
        hash: B256,
        most: usize,
        until: Instant,
    ) -> Vec<EndpointResponse<bool>> {
        let known = |transaction: Option<serde_json::Value>| transaction.is_some();
        self.query_many("eth_getTransactionByHash", (hash,), (most, until), known).await
    }

    /// The account's nonce at the head as each of the first `most` usable endpoints shows it, asked at once and heard `until`
    /// then.
    pub async fn nonces_from_many(&self, account: Address, most: usize, until: Instant) -> Vec<EndpointResponse<u64>> {
        let nonce = |nonce: U64| nonce.to();
        self.query_many("eth_getTransactionCount", (account, "latest"), (most, until), nonce).await
    }

    /// The account's nonce as of the end of block `number`, as each of the first `most` usable endpoints shows it, asked at once and
    /// heard `until` then.
    pub async fn nonces_at_block_from_many(
        &self,
        account: Address,
        number: u64,
        most: usize,
        until: Instant,
    ) -> Vec<EndpointResponse<u64>> {
        let params = (account, BlockTag::Number(number).to_param());
        self.query_many("eth_getTransactionCount", params, (most, until), |nonce: U64| nonce.to()).await
    }

    /// The header of this number as each of the first `most` usable endpoints shows it, asked at once and heard `until` then.
    pub async fn headers_from_many(
        &self,
        number: u64,
        most: usize,
        until: Instant,
    ) -> Vec<EndpointResponse<Option<Header>>> {
        let header = |wire: Option<RpcHeader>| wire.map(Header::from);
        let params = (BlockTag::Number(number).to_param(), false);
        self.query_many(BLOCK_BY_NUMBER, params, (most, until), header).await
    }

    async fn query_many<P: RpcSend + 'static, W: RpcRecv + 'static, R>(
        &self,
        method: &'static str,
        params: P,
        (most, until): (usize, Instant),
        read: impl Fn(W) -> R,
    ) -> Vec<EndpointResponse<R>> {
        let asked = self.pool.fan_out(method, params, most, until).await;
        asked.into_iter().map(|(endpoint, answer)| EndpointResponse { endpoint, result: answer.map(&read) }).collect()
    }
}
