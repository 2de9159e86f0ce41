//! Broadcasts the stored bytes of a transaction until an endpoint accepts them.

use super::types::Sender;
use crate::{
    chain::{BroadcastResult, CallError, RejectReason},
    clock::now,
    pipeline::{in_flight::PendingTx, observations::persist_observations, tx_state::TxPhase},
    registration::BlockedReason,
    telemetry::{events, log_retry, spans},
};
use std::time::Duration;
use tokio::time::Instant;

/// A transaction that is rejected so long after its signature is sent to every endpoint.
const ASK_ALL_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Eq)]
enum SendVerdict {
    /// An endpoint has the bytes, or their nonce is consumed: the follower continues.
    Accepted,
    /// No endpoint is known to have the bytes.
    Retry(BlockedReason),
}

fn classify_send_result(result: &Result<BroadcastResult, CallError>) -> SendVerdict {
    match result {
        Ok(_) => SendVerdict::Accepted,
        Err(CallError::Unavailable { .. } | CallError::NoEndpoint { .. }) => {
            SendVerdict::Retry(BlockedReason::NoEndpoint)
        }
        Err(CallError::Rejected { reason, .. }) => match reason {
            // An attempt of ours or an external transaction consumed the nonce; the follower finds out which.
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
            | RejectReason::Pruned
            | RejectReason::UnknownTransaction
            | RejectReason::LogRange
            | RejectReason::UnknownMethod
            | RejectReason::WrongChainId
            | RejectReason::Other => SendVerdict::Retry(BlockedReason::NodeRefuses),
        },
    }
}

impl Sender {
    /// Broadcasts the latest version once. Returns whether an endpoint has it, or the nonce is consumed; otherwise the
    /// same bytes are sent again later.
    pub(super) async fn broadcast(&mut self, tx: &PendingTx) -> bool {
        let versions = tx.versions();
        let Some(attempt) = versions.attempts.last() else { return true };
        // An endpoint that reports a sender's limit for long is not the only one asked.
        let is_refused_for_long = tx.status().last_rejection().is_some() && now().since(tx.signed_at) >= ASK_ALL_AFTER;
        let result = match is_refused_for_long {
            true => self.parts.chain.send_to_all(&attempt.raw).await,
            false => self.parts.chain.send(&attempt.raw).await,
        };
        self.record_broadcast(tx);
        tx.record_send_result(&result, now());
        match classify_send_result(&result) {
            SendVerdict::Accepted => {
                self.on_accepted(tx).await;
                self.in_flight_limit.on_accepted();
                self.backoff.reset();
                let endpoint = result.map_or_else(|_| self.parts.chain.primary().to_owned(), |sent| sent.endpoint);
                let since_signed = now().since(tx.signed_at);
                events::transaction_sent(tx.id, tx.signer, tx.nonce, attempt.hash, &endpoint, since_signed);
                true
            }
            SendVerdict::Retry(reason) => {
                self.timers.resend_after(Instant::now(), self.backoff.next_delay());
                if result.as_ref().err().and_then(CallError::reject_reason) == Some(&RejectReason::SenderLimit) {
                    self.in_flight_limit.on_sender_limit(self.parts.in_flight.count_of_signer(self.address()));
                }
                let detail = result.err().map(|error| error.to_string()).unwrap_or_default();
                persist_observations(tx, &self.parts.store).await;
                self.on_rejected(tx, reason, &detail).await;
                // An endpoint may have accepted the bytes although its answer was lost, and the follower may have seen
                // them.
                !self.parts.in_flight.contains(tx) || tx.status().phase() != TxPhase::Signed
            }
        }
    }

    async fn on_rejected(&mut self, tx: &PendingTx, reason: BlockedReason, detail: &str) {
        match self.parts.store.set_blocked_unsent(tx.id, reason, now()).await {
            Ok(0) => {}
            Ok(_) => self.report_blocked(&tx.members, reason, detail).await,
            Err(error) => log_retry!(error, transaction_id = %tx.id, "failed to write blocked reason"),
        }
    }

    pub(super) fn record_broadcast(&self, tx: &PendingTx) {
        let head = self.parts.head.header().map_or(0, |head| head.block.number);
        tx.status().record_broadcast(Instant::now(), head);
    }

    async fn on_accepted(&self, tx: &PendingTx) {
        let at = now();
        let head = self.parts.head.header().map(|head| head.block.number);
        let accepted_by = tx.status().record_accepted_at(head);
        match self.parts.store.mark_submitted(tx.id, &accepted_by, at).await {
            Ok(()) => tx.status().mark_rejection_cleared(),
            // The bytes are stored and broadcast; the inclusion will be written as well.
            Err(error) => log_retry!(error, transaction_id = %tx.id, "failed to mark transaction as submitted"),
        }
        let saw_failover = spans::saw_failover();
        for trace in tx.traces().iter_mut() {
            trace.on_submitted(at);
            if saw_failover {
                trace.on_failover();
            }
        }
        tx.status().mark_submitted(at);
        self.parts.waiters.notify_changed(&tx.members).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::EndpointFault;

    #[test]
    fn an_endpoint_that_has_the_bytes_or_a_consumed_nonce_ends_broadcasting() {
        let rejected = |reason| {
            Err(CallError::Rejected { endpoint: String::new(), method: "", reason, code: 0, message: String::new() })
        };
        let unavailable = |fault| Err(CallError::Unavailable { endpoint: String::new(), method: "", fault });
        for (result, expected) in [
            (Ok(BroadcastResult { endpoint: String::new() }), SendVerdict::Accepted),
            (rejected(RejectReason::AlreadyKnown), SendVerdict::Accepted),
            (rejected(RejectReason::NonceTooLow), SendVerdict::Accepted),
            (rejected(RejectReason::InsufficientFunds), SendVerdict::Retry(BlockedReason::InsufficientFunds)),
            (rejected(RejectReason::FeeTooLow), SendVerdict::Retry(BlockedReason::FeeCap)),
            (rejected(RejectReason::SenderLimit), SendVerdict::Retry(BlockedReason::NodeRefuses)),
            (
                Err(CallError::NoEndpoint { method: "", details: String::new() }),
                SendVerdict::Retry(BlockedReason::NoEndpoint),
            ),
            (unavailable(EndpointFault::Timeout), SendVerdict::Retry(BlockedReason::NoEndpoint)),
            (unavailable(EndpointFault::Status(502)), SendVerdict::Retry(BlockedReason::NoEndpoint)),
        ] {
            assert_eq!(classify_send_result(&result), expected, "{result:?}");
        }
    }
}
