//! Sends to the preferred endpoint, and the same bytes to all others when its answer leaves open whether it has them.

use super::{EndpointPool, read::finish_in_background};
use crate::chain::{CallError, EndpointFault, EndpointState, RejectReason};
use alloy::primitives::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

/// The endpoint that accepted the transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BroadcastResult {
    pub endpoint: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SendOutcome {
    Accepted,
    /// Every endpoint would answer the same, or nothing depends on the answer.
    Rejected,
    /// Not accepted by this endpoint, or unclear.
    TryOthers,
}

fn classify_send(result: &Result<(), CallError>) -> SendOutcome {
    let Err(error) = result else { return SendOutcome::Accepted };
    match error.reject_reason() {
        Some(RejectReason::AlreadyKnown) => SendOutcome::Accepted,
        // The receipts decide about a consumed nonce. A limit of the sequencer applies at every endpoint, and more calls
        // prolong it.
        Some(RejectReason::NonceTooLow | RejectReason::SenderLimit) => SendOutcome::Rejected,
        // One endpoint alone neither stops work nor raises its price: it may be read-only, unpaid, behind, or wrong.
        Some(
            RejectReason::FeeAboveNodeCap
            | RejectReason::WrongChainId
            | RejectReason::UnknownBlock
            | RejectReason::Pruned
            | RejectReason::UnknownTransaction
            | RejectReason::LogRange
            | RejectReason::UnknownMethod
            | RejectReason::NonceGap
            | RejectReason::ReplacementUnderpriced
            | RejectReason::FeeTooLow
            | RejectReason::TipAboveFee
            | RejectReason::InsufficientFunds
            | RejectReason::GasLimit
            | RejectReason::Reverted(_)
            | RejectReason::Other,
        )
        | None => SendOutcome::TryOthers,
    }
}

type PendingSend = BoxFuture<'static, (usize, Result<(), CallError>)>;

impl EndpointPool {
    /// A node that already has the transaction counts as success.
    pub async fn send(&self, raw: &Bytes) -> Result<BroadcastResult, CallError> {
        let route = self.route();
        let Some((&first, others)) = route.split_first() else { return Err(self.no_endpoint_error(SEND_METHOD)) };
        let mut sending = self.start_send(first, raw, 1);
        let result = tokio::select! {
            (_, result) = &mut sending => result,
            () = self.becomes_unhealthy(first), if !others.is_empty() => {
                // Another call found the endpoint unhealthy; its answer may not come in time.
                finish_in_background(FuturesUnordered::from_iter([sending]));
                Err(CallError::unavailable(self.endpoint_name(first), SEND_METHOD, EndpointFault::Timeout))
            }
        };
        match classify_send(&result) {
            SendOutcome::Accepted => Ok(self.accepted_by(first)),
            SendOutcome::Rejected => Err(result.err().unwrap_or_else(|| self.no_endpoint_error(SEND_METHOD))),
            SendOutcome::TryOthers => {
                let reason = result.as_ref().err().map_or("unclear", CallError::outcome_label);
                // The route may have changed meanwhile.
                let mut others = self.route();
                others.retain(|other| *other != first);
                others.iter().for_each(|other| self.record_failover(first, *other, reason));
                self.send_to(&others, raw, result).await
            }
        }
    }

    pub async fn send_to_all(&self, raw: &Bytes) -> Result<BroadcastResult, CallError> {
        self.send_to(&self.route(), raw, Err(self.no_endpoint_error(SEND_METHOD))).await
    }

    /// Returns the first acceptance, else a rejection, else the error of `first`.
    async fn send_to(
        &self,
        route: &[usize],
        raw: &Bytes,
        first: Result<(), CallError>,
    ) -> Result<BroadcastResult, CallError> {
        let mut sending: FuturesUnordered<PendingSend> =
            route.iter().map(|position| self.start_send(*position, raw, 2)).collect();
        let mut error = first.err().unwrap_or_else(|| self.no_endpoint_error(SEND_METHOD));
        while let Some((position, result)) = sending.next().await {
            match (classify_send(&result), result) {
                (SendOutcome::Accepted, _) => {
                    finish_in_background(sending);
                    return Ok(self.accepted_by(position));
                }
                (SendOutcome::Rejected, Err(rejection)) => error = rejection,
                (SendOutcome::TryOthers, Err(other)) if error.reject_reason().is_none() => error = other,
                (SendOutcome::Rejected | SendOutcome::TryOthers, _) => {}
            }
        }
        Err(error)
    }

    fn start_send(&self, position: usize, raw: &Bytes, attempt: u32) -> PendingSend {
        let (pool, raw) = (self.clone(), raw.clone());
        async move {
            let started = Instant::now();
            let result = pool.0.members[position].endpoint.broadcast(&raw, attempt).await;
            pool.record_call(position, result.as_ref().err(), started.elapsed());
            if result.as_ref().err().and_then(CallError::reject_reason) == Some(&RejectReason::WrongChainId) {
                // The transaction is signed for the right chain, so the node is on another one.
                pool.check_chain_id(position).await;
            }
            (position, result)
        }
        .boxed()
    }

    fn accepted_by(&self, position: usize) -> BroadcastResult {
        BroadcastResult { endpoint: self.endpoint_name(position).to_owned() }
    }

    async fn becomes_unhealthy(&self, position: usize) {
        let mut state = self.0.members[position].state.subscribe();
        let was_healthy = *state.borrow() == EndpointState::Healthy;
        let becomes_unhealthy = async { state.wait_for(|state| *state != EndpointState::Healthy).await.is_ok() };
        // An endpoint that is unhealthy already gets its full timeout.
        if !was_healthy || !becomes_unhealthy.await {
            std::future::pending::<()>().await;
        }
    }
}

const SEND_METHOD: &str = "eth_sendRawTransaction";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_endpoints_are_tried_before_a_rejection_has_consequences() {
        let rejected = |reason| {
            Err(CallError::Rejected {
                endpoint: String::new(),
                method: SEND_METHOD,
                reason,
                code: 0,
                message: String::new(),
            })
        };
        let unavailable = |fault| Err(CallError::unavailable("", SEND_METHOD, fault));
        for (result, expected) in [
            (Ok(()), SendOutcome::Accepted),
            (rejected(RejectReason::AlreadyKnown), SendOutcome::Accepted),
            (unavailable(EndpointFault::Timeout), SendOutcome::TryOthers),
            (unavailable(EndpointFault::Connect), SendOutcome::TryOthers),
            (unavailable(EndpointFault::Status(502)), SendOutcome::TryOthers),
            (unavailable(EndpointFault::Backend), SendOutcome::TryOthers),
            (unavailable(EndpointFault::Throttled { retry_after: None }), SendOutcome::TryOthers),
            (rejected(RejectReason::FeeAboveNodeCap), SendOutcome::TryOthers),
            (rejected(RejectReason::WrongChainId), SendOutcome::TryOthers),
            (rejected(RejectReason::SenderLimit), SendOutcome::Rejected),
            (rejected(RejectReason::NonceTooLow), SendOutcome::Rejected),
            (rejected(RejectReason::InsufficientFunds), SendOutcome::TryOthers),
            (rejected(RejectReason::FeeTooLow), SendOutcome::TryOthers),
            (rejected(RejectReason::ReplacementUnderpriced), SendOutcome::TryOthers),
            (rejected(RejectReason::GasLimit), SendOutcome::TryOthers),
            (rejected(RejectReason::NonceGap), SendOutcome::TryOthers),
            (rejected(RejectReason::Other), SendOutcome::TryOthers),
        ] {
            assert_eq!(classify_send(&result), expected, "{result:?}");
        }
    }
}
