//! What one endpoint says of a transaction, compared with a second one before it has consequences that last.

use super::{
    BlockTag, CallError, Chain, EndpointFault,
    contract::decode_not_registrar,
    pool::{QUORUM, SECOND_OPINION_TIMEOUT, Silence},
    rpc_types::{BLOCK_BY_NUMBER, CallRequest, Receipt, RpcBlockContents, RpcReceipt},
};
use crate::registration::Block;
use alloy::primitives::{B256, Bytes};
use tokio::time::Instant;

pub enum ReceiptComparison {
    /// Same block, same status, same events. Of the costs the lower one.
    Agreed(Receipt),
    /// None of them has the transaction in this block.
    Denied,
    /// They disagree, or too few answer.
    Undecided,
}

/// What an endpoint says of a transaction in a block.
enum InclusionAnswer {
    Receipt(Receipt),
    /// It has the block with the transaction, but no receipt.
    Included,
    NotIncluded,
}

impl Chain {
    /// What two endpoints, where there are two, say of a transaction in this block.
    pub(crate) async fn compare_receipts(&self, hash: B256, block: &Block) -> ReceiptComparison {
        let answers = self.pool.ask_quorum(|position| self.ask_inclusion(position, hash, block)).await;
        if !answers.is_sufficient() {
            return ReceiptComparison::Undecided;
        }
        if answers.is_unanimous(|answer| matches!(answer, InclusionAnswer::NotIncluded)) {
            return ReceiptComparison::Denied;
        }
        let mut agreed: Option<Receipt> = None;
        for answer in answers.answers {
            agreed = match (answer, agreed) {
                (InclusionAnswer::NotIncluded, _) => return ReceiptComparison::Undecided,
                (InclusionAnswer::Included, agreed) => agreed,
                (InclusionAnswer::Receipt(receipt), None) => Some(receipt),
                (InclusionAnswer::Receipt(receipt), Some(other)) => {
                    if !receipt.agrees_with(&other) {
                        return ReceiptComparison::Undecided;
                    }
                    Some(receipt.cheaper(other))
                }
            };
        }
        agreed.map_or(ReceiptComparison::Undecided, ReceiptComparison::Agreed)
    }

    /// A node without the receipt may not have indexed the transaction, or refuse the question. Its block says whether the
    /// transaction is there.
    async fn ask_inclusion(&self, position: usize, hash: B256, block: &Block) -> Result<InclusionAnswer, Silence> {
        let receipt: Result<Option<RpcReceipt>, _> =
            self.pool.call(position, "eth_getTransactionReceipt", (hash,), 1).await;
        let receipt = receipt.ok().flatten().and_then(|wire| Receipt::from_rpc(wire, self.contract()));
        if let Some(receipt) = receipt.filter(|receipt| receipt.block_hash == block.hash) {
            return Ok(InclusionAnswer::Receipt(receipt));
        }
        let params = (BlockTag::Number(block.number).to_param(), false);
        let contents: Result<Option<RpcBlockContents>, _> = self.pool.call(position, BLOCK_BY_NUMBER, params, 1).await;
        // Without the block it says nothing about the block's contents.
        let contents = contents.map_err(|error| Silence::from(&error))?.filter(|contents| contents.hash == block.hash);
        Ok(match contents.ok_or(Silence::Unanswered)?.transactions.contains(&hash) {
            true => InclusionAnswer::Included,
            false => InclusionAnswer::NotIncluded,
        })
    }

    /// `revert` would block or fail what the call does. An endpoint that executes the call outweighs it: then the chain
    /// itself decides. A revert that would fail the work for good needs two endpoints, where there are two; until then
    /// the error is that of the silent one.
    pub(super) async fn compare_revert(&self, call: CallRequest, revert: CallError) -> Result<Bytes, CallError> {
        if self.endpoint_count() < QUORUM {
            return Err(revert);
        }
        let deadline = Instant::now() + SECOND_OPINION_TIMEOUT;
        let params = (call, BlockTag::Latest.to_param());
        let answers = self.pool.fan_out::<_, Bytes>("eth_call", params, QUORUM, deadline).await;
        let (mut reverts, mut silent) = (0, None);
        for (endpoint, answer) in answers {
            match answer {
                Ok(result) if !result.is_empty() => return Ok(result),
                Err(error) if error.is_revert() => reverts += 1,
                Err(error) => silent = Some(error),
                Ok(_) => silent = Some(CallError::unavailable(&endpoint, "eth_call", EndpointFault::NoContract)),
            }
        }
        let waits_only = revert.revert_data().is_some_and(|data| decode_not_registrar(data).is_some());
        match reverts >= QUORUM || waits_only {
            true => Err(revert),
            false => Err(silent.unwrap_or_else(|| self.pool.no_endpoint_error("eth_call"))),
        }
    }
}

impl Receipt {
    fn agrees_with(&self, other: &Self) -> bool {
        let facts = |receipt: &Self| (receipt.block_hash, receipt.block_number, receipt.succeeded);
        facts(self) == facts(other) && self.events == other.events
    }

    fn cheaper(self, other: Self) -> Self {
        if other.cost().total_fee() < self.cost().total_fee() { other } else { self }
    }
}
