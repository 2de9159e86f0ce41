//! The nonce of the next transaction: the store's, or the chain's where that is higher and proven.

use super::{types::Sender, unproven_jump::UnprovenJump};
use crate::{
    chain::{FanOut, SenderState, real_answers},
    pipeline::error::PrepareError,
    registration::{
        diagnosis::Blocker,
        policy::next_nonce::{NONCE_QUORUM, NextNonce, NonceJump, next_nonce},
    },
};
use tokio::time::Instant;

impl Sender {
    /// The next nonce by the store, or the chain's if that is higher and proven: the signer's key was then used by
    /// another program.
    pub(super) async fn choose_nonce(&mut self, sender_state: &SenderState) -> Result<u64, PrepareError> {
        let stored = self.next_nonce.unwrap_or(0);
        if sender_state.nonce <= stored {
            self.unproven_jump = None;
            return Ok(stored);
        }
        let jump = self.observe_jump(stored, sender_state).await;
        let nonce = match next_nonce(&jump) {
            NextNonce::Use(nonce) => nonce,
            NextNonce::Unproven => return Err(PrepareError::Blocked(Blocker::Other(self.describe_jump(&jump)))),
        };
        self.unproven_jump = None;
        // Without an own next nonce the signer's history is older than the store, and none of ours.
        if let Some(next) = self.next_nonce.filter(|next| *next < nonce) {
            self.parts.importer.account_for_nonces(self.address(), next..nonce, sender_state.head.block.number).await;
        }
        Ok(nonce)
    }

    async fn observe_jump(&mut self, stored: u64, sender_state: &SenderState) -> NonceJump {
        let (chain, signer) = (&self.parts.chain, self.address());
        let answers = chain.nonces_from_many(signer, FanOut::to_quorum()).await;
        let nonces = real_answers(answers);
        let now = nonces.iter().copied().min().unwrap_or(sender_state.nonce);
        let observed = UnprovenJump::observe(self.unproven_jump, now, Instant::now());
        self.unproven_jump = Some(observed);
        let is_agreed = nonces.len() >= NONCE_QUORUM;
        // Two endpoints that agree now need not have agreed before.
        let reported = if is_agreed { now } else { observed.lowest };
        let mut jump = NonceJump {
            stored,
            reported,
            answers: nonces.len(),
            has_signed_transaction: false,
            at_depth: None,
            seen_for: observed.since.elapsed(),
        };
        if next_nonce(&jump) == NextNonce::Unproven && reported > stored {
            jump.has_signed_transaction = chain.included_transaction(signer, reported - 1).await.is_some();
            jump.at_depth = self.nonce_at_depth(sender_state.head.block.number).await;
        }
        jump
    }

    /// The lowest nonce at confirmation depth that an endpoint returns.
    async fn nonce_at_depth(&self, head: u64) -> Option<u64> {
        let confirmed_block = (head + 1).saturating_sub(self.parts.settings.confirmations);
        let chain = &self.parts.chain;
        let answers = chain.nonces_at_block_from_many(self.address(), confirmed_block, FanOut::to_quorum()).await;
        real_answers(answers).into_iter().min()
    }

    fn describe_jump(&self, jump: &NonceJump) -> String {
        let NonceJump { stored, reported, .. } = jump;
        format!(
            "the next nonce of {} is {stored} by the database, and one endpoint reports {reported}: nothing is signed \
             there until another endpoint agrees, the transaction with nonce {} is found, or it has lasted",
            self.address(),
            reported.saturating_sub(1)
        )
    }
}
