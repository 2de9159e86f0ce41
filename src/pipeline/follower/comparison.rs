//! The receipt of one endpoint, compared with that of a second one before it has consequences that last: a confirmation,
//! or a new transaction for what reverted.

use super::{Follower, SharedPendingTx};
use crate::{
    chain::{Chain, Receipt, ReceiptComparison},
    registration::Block,
};
use alloy::primitives::B256;
use tokio::time::Instant;

pub(super) enum Comparison {
    /// There is no second endpoint.
    NotPossible,
    Agreed(Receipt),
    /// Both say that the transaction is not in this block.
    Denied,
    NotAgreed,
}

impl Follower {
    /// Whether a second endpoint has the same receipt of the attempt `hash`, in this block.
    pub(super) async fn compare_receipt(&mut self, tx: &SharedPendingTx, hash: B256, block: &Block) -> Comparison {
        let chain: &Chain = &self.parts.chain;
        if chain.endpoint_count() < 2 {
            return Comparison::NotPossible;
        }
        if !self.disagreement.may_ask(Instant::now()) {
            return Comparison::NotAgreed;
        }
        match chain.compare_receipts(hash, block).await {
            ReceiptComparison::Agreed(receipt) => Comparison::Agreed(receipt),
            ReceiptComparison::Denied => Comparison::Denied,
            ReceiptComparison::Undecided => {
                if self.disagreement.record(Instant::now()) {
                    self.spawn_rebroadcast(tx.clone());
                }
                Comparison::NotAgreed
            }
        }
    }
}
