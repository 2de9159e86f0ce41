//! The head and the nonces: the answers that everything else is measured by, so they are believed with care.

use super::{Pool, read::Worth, watermark::Step};
use crate::chain::{
    BlockTag, CallError, Fault, Header,
    wire::{BLOCK_BY_NUMBER, WireHeader},
};
use alloy::primitives::{Address, U64};
use tokio::time::Instant;

impl Pool {
    /// The head: the highest that was ever believed, until the chain's head really falls. One that leaps is not believed when its
    /// endpoint cannot show the block before it, or when it is far above what all others show.
    ///
    /// # Errors
    /// When no endpoint answers, or none shows a head that can be believed.
    pub async fn latest(&self) -> Result<Header, CallError> {
        let mut doubted = Vec::new();
        let mut doubt = None;
        loop {
            let worth = |wire: &WireHeader| {
                let watermark = self.watermark();
                match watermark.step(&wire.clone().into()) {
                    Step::Behind if !watermark.is_young(Instant::now()) => Worth::Poor,
                    Step::Next | Step::Leap | Step::Behind => Worth::Good,
                }
            };
            let answer = self.read_but(&doubted, BLOCK_BY_NUMBER, (BlockTag::Latest.text(), false), worth).await;
            let (position, wire) = match answer {
                Ok(answer) => answer,
                Err(error) => return Err(doubt.unwrap_or(error)),
            };
            let header = Header::from(wire);
            if self.is_believed(position, &header).await {
                self.0.members[position].health().showed(header.block.number);
                let mut watermark = self.watermark();
                watermark.raise(header, Instant::now());
                return Ok(watermark.head().unwrap_or(header));
            }
            doubt = Some(CallError::unavailable(self.name(position), BLOCK_BY_NUMBER, Fault::Implausible));
            doubted.push(position);
        }
    }

    async fn is_believed(&self, position: usize, header: &Header) -> bool {
        let step = self.watermark().step(header);
        if step != Step::Leap || header.block.number == 0 {
            return true;
        }
        if self.leaps(position, header) {
            // The others' heads are from their last probes: if it is true, it will be believed soon.
            return false;
        }
        let shown = self.shows_parent(position, header).await;
        let change = self.0.members[position].health().showed_parent(self.name(position), shown, Instant::now());
        self.changed(position, change);
        shown
    }

    /// The account's nonce at the head. One that is lower than what was seen counts only when every endpoint that can be asked
    /// says so: then a reorg took transactions of the account away.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn nonce(&self, account: Address) -> Result<u64, CallError> {
        let worth = |nonce: &U64| match self.watermark().is_old_nonce(account, nonce.to()) {
            true => Worth::Poor,
            false => Worth::Good,
        };
        let nonce = self.read("eth_getTransactionCount", (account, BlockTag::Latest.text()), worth).await?.to();
        self.watermark().note_nonce(account, nonce);
        Ok(nonce)
    }

    /// Whether an endpoint can show the block before a head of its own.
    pub(super) async fn shows_parent(&self, position: usize, header: &Header) -> bool {
        let Some(number) = header.block.number.checked_sub(1) else { return true };
        let params = (BlockTag::Number(number).text(), false);
        let parent = self.call::<_, Option<WireHeader>>(position, BLOCK_BY_NUMBER, params, 1).await.ok().flatten();
        parent.is_some_and(|parent| Header::from(parent).block.hash == header.parent_hash)
    }
}
