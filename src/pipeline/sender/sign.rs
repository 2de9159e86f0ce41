//! Signing, which may take seconds and fail with a remote signer. It holds no lock and no database transaction; what is
//! signed is used only once it is stored.

use super::types::Sender;
use crate::{
    chain::{SignError, UnsignedTransaction},
    pipeline::error::signer_blocker,
    registration::diagnosis::Blocker,
};
use alloy::primitives::{B256, Bytes};
use tokio::time::Instant;

impl Sender {
    /// Returns hash and bytes.
    pub(super) async fn sign(&mut self, unsigned: UnsignedTransaction) -> Result<(B256, Bytes), SignError> {
        let result = self.signer.sign(&unsigned).await;
        match &result {
            Ok(_) => self.on_signer_ready(),
            Err(error) => {
                self.unsigned = Some(unsigned);
                self.timers.on_unsigned(Instant::now());
                // From now on the other senders get the work.
                self.parts.blockers.set(self.address(), signer_blocker(error));
            }
        }
        result
    }

    pub(super) fn is_blocked_by_signer(&self) -> bool {
        self.parts.blockers.get(self.address()).is_some_and(|blocker| is_of_signer(&blocker))
    }

    /// Tries to sign what it did not sign last. Other work is not held up by it, as it would be by a claim.
    pub(super) async fn is_signer_ready(&mut self) -> bool {
        let Some(unsigned) = &self.unsigned else { return true };
        let result = self.signer.check_signs(unsigned).await;
        match &result {
            Ok(()) => self.on_signer_ready(),
            Err(error) => self.parts.blockers.set(self.address(), signer_blocker(error)),
        }
        result.is_ok()
    }

    fn on_signer_ready(&mut self) {
        self.unsigned = None;
        if self.is_blocked_by_signer() {
            self.parts.blockers.clear(self.address());
        }
    }
}

fn is_of_signer(blocker: &Blocker) -> bool {
    match blocker {
        Blocker::SignerUnavailable(_) | Blocker::SignerThrottled(_) => true,
        Blocker::InsufficientFunds { .. }
        | Blocker::SignerNotAllowed(_)
        | Blocker::FeeCap(_)
        | Blocker::DailyBudget(_)
        | Blocker::TooLarge(_)
        | Blocker::NoEndpoint(_)
        | Blocker::NoContract { .. }
        | Blocker::Rejected(_)
        | Blocker::Other(_) => false,
    }
}
