//! Questions to several endpoints at once, each answered by itself: where one alone is not enough, and where they may differ.

use super::{
    BlockTag, Chain, Header, Receipt, Witness,
    wire::{BLOCK_BY_NUMBER, WireHeader, WireReceipt},
};
use crate::registration::Block;
use alloy::{
    primitives::{Address, B256, U64},
    rpc::json_rpc::{RpcRecv, RpcSend},
};
use tokio::time::Instant;

/// How many endpoints have to agree, where there are so many.
const WITNESSES: usize = 2;

impl Chain {
    /// Whether two healthy endpoints show this block, and one of number `reached` on top of it. With fewer there is nobody to
    /// contradict, and one that does not answer contradicts nothing.
    pub async fn is_agreed(&self, block: &Block, reached: u64) -> bool {
        let params = |number| (BlockTag::Number(number).text(), false);
        let shown = self.pool.ask_healthy::<_, Option<WireHeader>>(BLOCK_BY_NUMBER, params(block.number), WITNESSES);
        let on_top = async {
            match reached > block.number {
                true => self.pool.ask_healthy(BLOCK_BY_NUMBER, params(reached), WITNESSES).await,
                false => Vec::new(),
            }
        };
        let (shown, on_top) = tokio::join!(shown, on_top);
        let same = |header: Option<WireHeader>| header.is_some_and(|header| Header::from(header).block == *block);
        let there = |header: Option<WireHeader>| header.is_some();
        shown.into_iter().flatten().all(same) && on_top.into_iter().flatten().all(there)
    }

    /// The receipt as each of the first `most` usable endpoints shows it, asked at once and heard `until` then.
    pub async fn receipts_everywhere(&self, hash: B256, most: usize, until: Instant) -> Vec<Witness<Option<Receipt>>> {
        let receipt = |wire: Option<WireReceipt>| wire.and_then(|wire| Receipt::of(wire, self.contract()));
        self.everywhere("eth_getTransactionReceipt", (hash,), (most, until), receipt).await
    }

    /// Whether each of the first `most` usable endpoints knows the transaction, pending or included; asked at once and heard
    /// `until` then.
    pub async fn known_everywhere(&self, hash: B256, most: usize, until: Instant) -> Vec<Witness<bool>> {
        let known = |transaction: Option<serde_json::Value>| transaction.is_some();
        self.everywhere("eth_getTransactionByHash", (hash,), (most, until), known).await
    }

    /// The account's nonce at the head as each of the first `most` usable endpoints shows it, asked at once and heard `until`
    /// then.
    pub async fn nonces_everywhere(&self, account: Address, most: usize, until: Instant) -> Vec<Witness<u64>> {
        let nonce = |nonce: U64| nonce.to();
        self.everywhere("eth_getTransactionCount", (account, "latest"), (most, until), nonce).await
    }

    /// The header of this number as each of the first `most` usable endpoints shows it, asked at once and heard `until` then.
    pub async fn headers_everywhere(&self, number: u64, most: usize, until: Instant) -> Vec<Witness<Option<Header>>> {
        let header = |wire: Option<WireHeader>| wire.map(Header::from);
        let params = (BlockTag::Number(number).text(), false);
        self.everywhere(BLOCK_BY_NUMBER, params, (most, until), header).await
    }

    async fn everywhere<P: RpcSend + 'static, W: RpcRecv + 'static, R>(
        &self,
        method: &'static str,
        params: P,
        (most, until): (usize, Instant),
        read: impl Fn(W) -> R,
    ) -> Vec<Witness<R>> {
        let asked = self.pool.ask_each(method, params, most, until).await;
        asked.into_iter().map(|(endpoint, answer)| Witness { endpoint, answer: answer.map(&read) }).collect()
    }
}
