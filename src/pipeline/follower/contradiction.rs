//! A receipt whose block is not the canonical one at its height: a reorg is under way, or an endpoint is wrong. Other
//! endpoints are asked at once, because a wrong endpoint may stay wrong for long.

use super::canonical_view::CanonicalView;
use crate::{
    chain::{CallError, Chain, FanOut, Receipt, real_answers},
    pipeline::in_flight::PendingTx,
    registration::Block,
};
use alloy::primitives::B256;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

/// Something that lasts is asked about at most this often.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// After a disagreement about a receipt none is compared for this long.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Where endpoints disagree, the transaction may be in no block: its bytes are sent again from time to time.
const REBROADCAST_INTERVAL: Duration = Duration::from_secs(3);
/// The preferred endpoint, and two that may be right where it is wrong.
const ENDPOINTS_ASKED: usize = 3;

/// When other endpoints may be asked about something that lasts. All transactions of one poll share it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskTimer {
    next_check: Instant,
    is_due: bool,
}

impl AskTimer {
    pub(super) fn new() -> Self {
        Self { next_check: Instant::now(), is_due: true }
    }

    pub(super) fn start_poll(&mut self) {
        self.is_due = Instant::now() >= self.next_check;
    }

    /// Whether this poll may ask. If so, the polls of the interval may not.
    pub(super) fn is_due(&mut self) -> bool {
        if self.is_due {
            self.next_check = Instant::now() + CHECK_INTERVAL;
        }
        self.is_due
    }
}

/// When endpoints that disagree are asked again, and when the bytes are sent again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disagreement {
    ask_again_at: Instant,
    rebroadcast_at: Instant,
}

impl Disagreement {
    pub(super) fn none() -> Self {
        let now = Instant::now();
        Self { ask_again_at: now, rebroadcast_at: now + REBROADCAST_INTERVAL }
    }

    pub(super) fn may_ask(&self, now: Instant) -> bool {
        now >= self.ask_again_at
    }

    /// Returns whether the bytes are to be sent again.
    pub(super) fn record(&mut self, now: Instant) -> bool {
        self.ask_again_at = now + ASK_AGAIN_AFTER;
        let is_due = now >= self.rebroadcast_at;
        if is_due {
            self.rebroadcast_at = now + REBROADCAST_INTERVAL;
        }
        is_due
    }
}

/// A receipt that agrees with the chain, with the attempt's hash and the block.
pub(super) struct AgreedReceipt {
    pub(super) hash: B256,
    pub(super) receipt: Receipt,
    pub(super) block: Block,
}

/// The receipt of an attempt whose block is canonical, or in whose block two endpoints agree.
pub(super) async fn find_agreed_receipt(
    chain: &Chain,
    tx: &PendingTx,
    canonical: &mut CanonicalView,
) -> Result<Option<AgreedReceipt>, CallError> {
    let fan_out = || FanOut { max_endpoints: ENDPOINTS_ASKED, ..FanOut::to_quorum() };
    let versions = tx.versions();
    let reads = versions.attempts.iter().map(|attempt| chain.receipts_from_many(attempt.hash, fan_out()));
    let answers = join_all(reads).await;
    for (attempt, answers) in versions.attempts.iter().zip(answers) {
        let receipts: Vec<Receipt> = real_answers(answers).into_iter().flatten().collect();
        for receipt in &receipts {
            let agreed = |block| AgreedReceipt { hash: attempt.hash, receipt: receipt.clone(), block };
            if let Some(header) = canonical.header(receipt.block_number).await?
                && header.block.hash == receipt.block_hash
            {
                return Ok(Some(agreed(header.block)));
            }
            if receipts.iter().filter(|other| other.block_hash == receipt.block_hash).count() < 2 {
                continue;
            }
            let headers = chain.headers_from_many(receipt.block_number, fan_out()).await;
            let mut blocks = real_answers(headers).into_iter().flatten().map(|header| header.block);
            if let Some(block) = blocks.find(|block| block.hash == receipt.block_hash) {
                return Ok(Some(agreed(block)));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disagreement_is_looked_at_twice_a_second_and_the_bytes_are_sent_every_three() {
        let mut disagreement = Disagreement::none();
        let (mut asked, mut sent) = (0, 0);
        for _ in 0..100 {
            if disagreement.may_ask(Instant::now()) {
                asked += 1;
                sent += u32::from(disagreement.record(Instant::now()));
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!((asked, sent), (20, 3));
    }
}
