//! The head and the nonces: the answers that everything else is measured by, so they are believed with care.

use super::{
    Pool,
    read::{Rejected, Worth},
    watermark::Step,
};
use crate::chain::{
    BlockTag, CallError, Fault, Header,
    wire::{BLOCK_BY_NUMBER, WireHeader},
};
use alloy::primitives::{Address, U64};
use tokio::time::Instant;

impl Pool {
    /// The head. One from before what was seen is not taken, nor one that leaps and cannot show the block before it.
    ///
    /// # Errors
    /// When no endpoint shows a head that can be believed.
    pub async fn latest(&self) -> Result<Header, CallError> {
        let mut doubted = Vec::new();
        let mut doubt = None;
        loop {
            let worth = |wire: &WireHeader| match self.watermark().step(&wire.clone().into()) {
                Step::Next | Step::Leap => Worth::Good,
                Step::Behind => Worth::Void(Rejected::Behind),
            };
            let answer = self.read_but(&doubted, BLOCK_BY_NUMBER, (BlockTag::Latest.text(), false), worth).await;
            let (position, wire) = match answer {
                Ok(answer) => answer,
                Err(error) => return Err(doubt.unwrap_or(error)),
            };
            let header = Header::from(wire);
            if self.is_believed(position, &header).await {
                self.watermark().raise(header);
                return Ok(header);
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
        let shown = self.shows_parent(position, header).await;
        let change = self.0.members[position].health().showed_parent(self.name(position), shown, Instant::now());
        self.changed(position, change);
        shown
    }

    /// The account's nonce at the head. One that is lower than what was seen counts only when every endpoint says so: then a reorg
    /// took transactions of the account away.
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
