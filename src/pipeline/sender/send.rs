//! Broadcasting what is on disk, until a node has it. The bytes never change here.

use super::types::Sender;
use crate::{
    chain::{BroadcastResult, CallError, RejectReason},
    clock::now,
    pipeline::in_flight::{PendingTx, TxPhase},
    registration::BlockedReason,
    telemetry::{events, log_retry, spans},
};
use tokio::time::Instant;

/// What the answer to a broadcast means for us.
#[derive(Debug, PartialEq, Eq)]
enum SendVerdict {
    /// A node has the bytes, or had them: the follower takes over.
    Accepted,
    /// Nobody has them for certain; the same bytes again, later.
    Retry(BlockedReason),
}

fn classify_send_result(result: &Result<BroadcastResult, CallError>) -> SendVerdict {
    match result {
        Ok(_) => SendVerdict::Accepted,
        Err(CallError::Unavailable { .. } | CallError::NoEndpoint { .. }) => {
            SendVerdict::Retry(BlockedReason::NoEndpoint)
        }
        Err(CallError::Rejected { reason: refusal, .. }) => match refusal {
            // The nonce is consumed: by an attempt of ours, or by a stranger. The follower finds out which.
            RejectReason::AlreadyKnown | RejectReason::NonceTooLow => SendVerdict::Accepted,
            RejectReason::InsufficientFunds => SendVerdict::Retry(BlockedReason::InsufficientFunds),
            RejectReason::FeeTooLow => SendVerdict::Retry(BlockedReason::FeeCap),
            RejectReason::ReplacementUnderpriced
            | RejectReason::NonceGap
            | RejectReason::TipAboveFee
            | RejectReason::FeeAboveNodeCap
            | RejectReason::SenderLimit
            | RejectReason::GasLimit
            | RejectReason::Reverted(_)
            | RejectReason::UnknownBlock
            | RejectReason::WrongChainId
            | RejectReason::Other => SendVerdict::Retry(BlockedReason::NodeRefuses),
        },
    }
}

impl Sender {
    /// Sends the latest version once. Returns whether a node has it, or the chain has settled it without us knowing; if not, the
    /// same bytes go out again, later.
    pub(super) async fn broadcast(&mut self, flight: &PendingTx) -> bool {
        let versions = flight.versions();
        let Some(attempt) = versions.attempts.last() else { return true };
        let result = self.context.chain.send(&attempt.raw).await;
        self.record_broadcast(flight);
        flight.record_send_result(&result, now());
        match classify_send_result(&result) {
            SendVerdict::Accepted => {
                self.on_accepted(flight).await;
                self.in_flight_limit.on_accepted();
                self.backoff.reset();
                let sent = result.map_or_else(|_| self.context.chain.primary().to_owned(), |sent| sent.endpoint);
                let took = now().since(flight.signed_at);
                events::transaction_sent(flight.id, flight.signer, flight.nonce, attempt.hash, &sent, took);
                true
            }
            SendVerdict::Retry(blocked) => {
                self.timers.resend_after(Instant::now(), self.backoff.next_delay());
                if result.as_ref().err().and_then(CallError::reject_reason) == Some(&RejectReason::SenderLimit) {
                    self.in_flight_limit.on_sender_limit(self.context.in_flight_count(self.address()));
                }
                let detail = result.err().map(|error| error.to_string()).unwrap_or_default();
                flight.persist_observations(&self.context.store).await;
                self.on_rejected(flight, blocked, &detail).await;
                // A node may have taken the bytes although its answer was lost, and a block may hold them already.
                !self.context.in_flight.contains(flight) || flight.status().phase != TxPhase::Signed
            }
        }
    }

    /// Says of all that a transaction carries why no node took it.
    async fn on_rejected(&mut self, flight: &PendingTx, blocked: BlockedReason, detail: &str) {
        match self.context.store.set_blocked_unsent(flight.id, blocked, now()).await {
            Ok(0) => {}
            Ok(_) => self.report_blocked(&flight.members, blocked, detail).await,
            Err(error) => log_retry!(error, "a blocked reason could not be written"),
        }
    }

    /// The latest version's bytes have just gone out.
    pub(super) fn record_broadcast(&self, flight: &PendingTx) {
        let head = self.context.head().map_or(0, |head| head.block.number);
        let mut progress = flight.status();
        progress.last_broadcast = Some(Instant::now());
        progress.pending_since.get_or_insert((Instant::now(), head));
        progress.underpriced = false;
    }

    async fn on_accepted(&self, flight: &PendingTx) {
        let at = now();
        let taken = {
            let memory = &mut flight.status().observations;
            memory.accepted_by.head = self.context.head().map(|head| head.block.number);
            memory.accepted_by.clone()
        };
        match self.context.store.mark_submitted(flight.id, &taken, at).await {
            Ok(()) => flight.status().observations.persisted.last_rejection = None,
            // The bytes are out and on disk; inclusion will say so too.
            Err(error) => {
                log_retry!(error, transaction_id = %flight.id, "a sent transaction could not be marked as sent")
            }
        }
        let felt = spans::saw_failover();
        for journey in flight.traces().iter_mut() {
            journey.on_submitted(at);
            if felt {
                journey.on_failover();
            }
        }
        {
            let mut progress = flight.status();
            if progress.phase == TxPhase::Signed {
                progress.phase = TxPhase::Submitted;
            }
            progress.submitted_at.get_or_insert(at);
        }
        self.context.waiters.notify_changed(&self.context.store, &flight.members).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::EndpointFault;

    #[test]
    fn only_a_nonce_that_is_taken_ends_sending() {
        let refused = |refusal| {
            Err(CallError::Rejected {
                endpoint: String::new(),
                method: "",
                reason: refusal,
                code: 0,
                message: String::new(),
            })
        };
        let silent = |fault| Err(CallError::Unavailable { endpoint: String::new(), method: "", fault });
        for (result, expected) in [
            (Ok(BroadcastResult { endpoint: String::new() }), SendVerdict::Accepted),
            (refused(RejectReason::AlreadyKnown), SendVerdict::Accepted),
            (refused(RejectReason::NonceTooLow), SendVerdict::Accepted),
            (refused(RejectReason::InsufficientFunds), SendVerdict::Retry(BlockedReason::InsufficientFunds)),
            (refused(RejectReason::FeeTooLow), SendVerdict::Retry(BlockedReason::FeeCap)),
            (refused(RejectReason::SenderLimit), SendVerdict::Retry(BlockedReason::NodeRefuses)),
            (
                Err(CallError::NoEndpoint { method: "", details: String::new() }),
                SendVerdict::Retry(BlockedReason::NoEndpoint),
            ),
            (silent(EndpointFault::Timeout), SendVerdict::Retry(BlockedReason::NoEndpoint)),
            (silent(EndpointFault::Status(502)), SendVerdict::Retry(BlockedReason::NoEndpoint)),
        ] {
            assert_eq!(classify_send_result(&result), expected, "{result:?}");
        }
    }
}
