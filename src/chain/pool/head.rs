//! The head and the nonces. Other answers are compared with them, so they are validated first.

use super::{EndpointPool, read::AnswerQuality, watermark::HeadStep};
use crate::chain::{
    BlockTag, CallError, EndpointFault, Header,
    nonce::RpcNonce,
    rpc_types::{BLOCK_BY_NUMBER, RpcHeader},
};
use alloy::primitives::Address;
use tokio::time::Instant;

impl EndpointPool {
    /// The highest accepted head, until the chain's head regresses. A head that jumps is rejected when its endpoint
    /// cannot return the parent, or when it is far above all other heads.
    pub async fn head(&self) -> Result<Header, CallError> {
        let mut rejected = Vec::new();
        let mut rejection = None;
        loop {
            let quality = |wire: &RpcHeader| {
                let watermark = self.watermark();
                match watermark.classify_head(&wire.clone().into()) {
                    HeadStep::Regress if !watermark.is_recently_raised(Instant::now()) => AnswerQuality::TryNext,
                    HeadStep::Advance | HeadStep::Jump | HeadStep::Regress => AnswerQuality::Accept,
                }
            };
            let answer =
                self.read_excluding(&rejected, BLOCK_BY_NUMBER, (BlockTag::Latest.to_param(), false), quality).await;
            let (position, wire) = match answer {
                Ok(answer) => answer,
                Err(error) => return Err(rejection.unwrap_or(error)),
            };
            let header = Header::from(wire);
            if self.validate_head(position, &header).await {
                self.0.members[position].health().record_block(header.block.number);
                let mut watermark = self.watermark();
                watermark.raise(header, Instant::now());
                return Ok(watermark.head().unwrap_or(header));
            }
            rejection =
                Some(CallError::unavailable(self.endpoint_name(position), BLOCK_BY_NUMBER, EndpointFault::Implausible));
            rejected.push(position);
        }
    }

    async fn validate_head(&self, position: usize, header: &Header) -> bool {
        let step = self.watermark().classify_head(header);
        if step != HeadStep::Jump || header.block.number == 0 {
            return true;
        }
        if self.is_far_ahead(position, header) {
            // The other heads are from their last probes: a correct head is accepted after the next ones.
            return false;
        }
        let has_parent = self.has_parent(position, header).await;
        let change = self.0.members[position].health().record_parent_check(
            self.endpoint_name(position),
            has_parent,
            Instant::now(),
        );
        self.report_state_change(position, change);
        has_parent
    }

    /// A lower nonce than before is accepted only when every reachable endpoint returns it: then a reorg removed
    /// transactions of the account.
    pub async fn nonce(&self, account: Address) -> Result<u64, CallError> {
        let quality = |nonce: &RpcNonce| match self.watermark().is_stale_nonce(account, nonce.get()) {
            true => AnswerQuality::TryNext,
            false => AnswerQuality::Accept,
        };
        let nonce = self.read("eth_getTransactionCount", (account, BlockTag::Latest.to_param()), quality).await?.get();
        self.watermark().record_nonce(account, nonce);
        Ok(nonce)
    }

    pub(super) async fn has_parent(&self, position: usize, header: &Header) -> bool {
        let Some(number) = header.block.number.checked_sub(1) else { return true };
        let params = (BlockTag::Number(number).to_param(), false);
        let parent = self.call::<_, Option<RpcHeader>>(position, BLOCK_BY_NUMBER, params, 1).await.ok().flatten();
        parent.is_some_and(|parent| Header::from(parent).block.hash == header.parent_hash)
    }
}
