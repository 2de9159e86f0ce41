//! Questions to several endpoints at once, each answered by itself: where one alone is not enough, and where they may differ.

use super::{
    BlockTag, CallError, Chain, Header, Receipt, Refusal, Witness,
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
/// What is so many blocks deeper than it has to be is agreed although an endpoint that should say so cannot be heard.
const PATIENCE: u64 = 150;

/// What one endpoint says about a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Word {
    /// It has it.
    Shows,
    /// It has none of this number, or another one.
    Denies,
    /// It refuses the question.
    NoSay,
    /// It does not answer.
    Silent,
}

impl Chain {
    /// Whether two healthy endpoints show this block, and one of the number that makes it `confirmations` deep: the head that was
    /// believed may be of a chain that has fallen since. With fewer the one that comes first has to. One that cannot be heard just
    /// now keeps it open until the head is far above; one that refuses the question has no say.
    pub async fn is_agreed(&self, block: &Block, confirmations: u64, head: u64) -> bool {
        let needed = block.number + confirmations.saturating_sub(1);
        let patience = head < needed + PATIENCE;
        // A reorg may leave a number on top that no block has, for ever: then another one is asked for with each head.
        let reached = if patience { needed } else { head - PATIENCE / 2 };
        let on_top = async {
            match reached > block.number {
                true => self.words(reached, None).await,
                false => Vec::new(),
            }
        };
        let (shown, on_top) = tokio::join!(self.words(block.number, Some(block.hash)), on_top);
        shown.into_iter().chain(on_top).all(|word| match word {
            Word::Shows | Word::NoSay => true,
            Word::Denies => false,
            Word::Silent => !patience,
        })
    }

    /// Whether one of two healthy endpoints still shows this block; with fewer, whether the one that comes first does.
    pub async fn is_shown(&self, number: u64, hash: B256) -> bool {
        self.words(number, Some(hash)).await.contains(&Word::Shows)
    }

    /// What two healthy endpoints say about the block of this number: that it is there and, where that is asked, that it is this one.
    async fn words(&self, number: u64, hash: Option<B256>) -> Vec<Word> {
        let params = (BlockTag::Number(number).text(), false);
        let answers = self.pool.ask_healthy::<_, Option<WireHeader>>(BLOCK_BY_NUMBER, params, WITNESSES).await;
        let word = |answer: Result<Option<WireHeader>, CallError>| match answer {
            Ok(header) => match header.map(Header::from) {
                Some(header) if hash.is_none_or(|hash| header.block.hash == hash) => Word::Shows,
                Some(_) | None => Word::Denies,
            },
            Err(error) if error.refusal() == Some(&Refusal::UnknownBlock) => Word::Denies,
            Err(error) if error.refusal().is_some() => Word::NoSay,
            Err(_) => Word::Silent,
        };
        answers.into_iter().map(word).collect()
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

    /// The account's nonce as of the end of block `number`, as each of the first `most` usable endpoints shows it, asked at once and
    /// heard `until` then.
    pub async fn nonces_everywhere_at(
        &self,
        account: Address,
        number: u64,
        most: usize,
        until: Instant,
    ) -> Vec<Witness<u64>> {
        let params = (account, BlockTag::Number(number).text());
        self.everywhere("eth_getTransactionCount", params, (most, until), |nonce: U64| nonce.to()).await
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
