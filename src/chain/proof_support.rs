//! Which endpoints do not offer `eth_getProof`.

use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// An endpoint that does not offer proofs is asked again after this: its plan or its node may have changed.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// Shared by all that ask for proofs. Endpoints are known by their positions in the pool.
#[derive(Clone, Debug, Default)]
pub(super) struct ProofSupport(Arc<Mutex<HashMap<usize, Instant>>>);

impl ProofSupport {
    pub(super) fn may_ask(&self, position: usize, now: Instant) -> bool {
        self.0.lock().get(&position).is_none_or(|refused_at| now.duration_since(*refused_at) >= RETRY_AFTER)
    }

    /// Returns whether this is new.
    pub(super) fn record_refusal(&self, position: usize, now: Instant) -> bool {
        self.0.lock().insert(position, now).is_none()
    }

    pub(super) fn record_proof(&self, position: usize) {
        self.0.lock().remove(&position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_proofs_is_asked_again_after_ten_minutes() {
        let (support, start) = (ProofSupport::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(support.may_ask(0, start));
        assert!(support.record_refusal(0, start));
        assert_eq!((support.may_ask(0, after(599)), support.may_ask(1, after(1))), (false, true));
        assert!(support.may_ask(0, after(600)));
        assert!(!support.record_refusal(0, after(600)), "it is reported once");
        assert!(!support.may_ask(0, after(601)));
        support.record_proof(0);
        assert!(support.may_ask(0, after(602)) && support.record_refusal(0, after(602)));
    }
}
