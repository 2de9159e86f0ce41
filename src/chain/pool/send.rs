//! Sends: to the first endpoint; the same bytes to every other one when its answer leaves open whether it has them.

use super::{Pool, read::leave};
use crate::chain::{CallError, EndpointState, Fault, Refusal};
use alloy::primitives::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

/// Signed bytes that a node has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The endpoint that took them.
    pub endpoint: String,
}

/// What an endpoint's answer to a send means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// It has the bytes.
    Taken,
    /// A word that would be the same everywhere.
    Final,
    /// It does not take them, or may have them or not: the others get them too.
    Elsewhere,
}

fn outcome(result: &Result<(), CallError>) -> Outcome {
    let Err(error) = result else { return Outcome::Taken };
    match error.refusal() {
        Some(Refusal::AlreadyKnown) => Outcome::Taken,
        // What nobody taught us may be this node's own: one that only reads, or a plan that is not paid.
        Some(Refusal::FeeAboveNodeCap | Refusal::OtherChain | Refusal::Other) | None => Outcome::Elsewhere,
        Some(
            Refusal::NonceTooLow
            | Refusal::NonceGap
            | Refusal::ReplacementUnderpriced
            | Refusal::FeeTooLow
            | Refusal::TipAboveFee
            | Refusal::InsufficientFunds
            | Refusal::SenderLimit
            | Refusal::Gas
            | Refusal::Reverted(_)
            | Refusal::UnknownBlock,
        ) => Outcome::Final,
    }
}

type Sending = BoxFuture<'static, (usize, Result<(), CallError>)>;

impl Pool {
    /// Sends signed bytes. A node that has them already counts as success.
    ///
    /// # Errors
    /// When no node took them, or it is not clear whether one did.
    pub async fn send(&self, raw: &Bytes) -> Result<Sent, CallError> {
        let route = self.route();
        let Some((&first, others)) = route.split_first() else { return Err(self.nobody(SEND)) };
        let mut sending = self.sending(first, raw, 1);
        let result = tokio::select! {
            (_, result) = &mut sending => result,
            () = self.falls_ill(first), if !others.is_empty() => {
                // Another call found out that it is not well: whether it has the bytes may not be known in time.
                leave(FuturesUnordered::from_iter([sending]));
                Err(CallError::unavailable(self.name(first), SEND, Fault::Timeout))
            }
        };
        match outcome(&result) {
            Outcome::Taken => Ok(self.sent(first)),
            Outcome::Final => Err(result.err().unwrap_or_else(|| self.nobody(SEND))),
            Outcome::Elsewhere => {
                let reason = result.as_ref().err().map_or("unclear", CallError::outcome);
                // Who may be asked can have changed meanwhile.
                let mut others = self.route();
                others.retain(|other| *other != first);
                others.iter().for_each(|other| self.moved_on(first, *other, reason));
                self.send_to(&others, raw, result).await
            }
        }
    }

    /// Sends bytes that may be known already to every usable endpoint.
    ///
    /// # Errors
    /// When no node took them, or it is not clear whether one did.
    pub async fn send_everywhere(&self, raw: &Bytes) -> Result<Sent, CallError> {
        self.send_to(&self.route(), raw, Err(self.nobody(SEND))).await
    }

    /// Sends to all of these at once: the first that takes them counts, else a word that is final, else how it began.
    async fn send_to(&self, route: &[usize], raw: &Bytes, begun: Result<(), CallError>) -> Result<Sent, CallError> {
        let mut sending: FuturesUnordered<Sending> =
            route.iter().map(|position| self.sending(*position, raw, 2)).collect();
        let mut error = begun.err().unwrap_or_else(|| self.nobody(SEND));
        while let Some((position, result)) = sending.next().await {
            match (outcome(&result), result) {
                (Outcome::Taken, _) => {
                    leave(sending);
                    return Ok(self.sent(position));
                }
                (Outcome::Final, Err(refused)) => error = refused,
                (Outcome::Elsewhere, Err(other)) if error.refusal().is_none() => error = other,
                (Outcome::Final | Outcome::Elsewhere, _) => {}
            }
        }
        Err(error)
    }

    fn sending(&self, position: usize, raw: &Bytes, attempt: u32) -> Sending {
        let (pool, raw) = (self.clone(), raw.clone());
        async move {
            let begun = Instant::now();
            let result = pool.0.members[position].endpoint.broadcast(&raw, attempt).await;
            pool.account(position, result.as_ref().err(), begun.elapsed());
            if result.as_ref().err().and_then(CallError::refusal) == Some(&Refusal::OtherChain) {
                // The bytes are signed for the right chain, so it is the node that is on another one.
                pool.check_chain(position).await;
            }
            (position, result)
        }
        .boxed()
    }

    fn sent(&self, position: usize) -> Sent {
        Sent { endpoint: self.name(position).to_owned() }
    }

    /// Resolves when an endpoint that was healthy is so no more.
    async fn falls_ill(&self, position: usize) {
        let mut state = self.0.members[position].state.subscribe();
        let was_healthy = *state.borrow() == EndpointState::Healthy;
        let ill = async { state.wait_for(|state| *state != EndpointState::Healthy).await.is_ok() };
        // One that is not well anyway gets its full time.
        if !was_healthy || !ill.await {
            std::future::pending::<()>().await;
        }
    }
}

const SEND: &str = "eth_sendRawTransaction";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_go_elsewhere_when_it_is_unclear_or_only_this_node_minds() {
        let refused = |refusal| {
            Err(CallError::Refused { endpoint: String::new(), method: SEND, refusal, code: 0, message: String::new() })
        };
        let silent = |fault| Err(CallError::unavailable("", SEND, fault));
        for (result, expected) in [
            (Ok(()), Outcome::Taken),
            (refused(Refusal::AlreadyKnown), Outcome::Taken),
            (silent(Fault::Timeout), Outcome::Elsewhere),
            (silent(Fault::Connect), Outcome::Elsewhere),
            (silent(Fault::Status(502)), Outcome::Elsewhere),
            (silent(Fault::Backend), Outcome::Elsewhere),
            (silent(Fault::Throttled { retry_after: None }), Outcome::Elsewhere),
            (refused(Refusal::FeeAboveNodeCap), Outcome::Elsewhere),
            (refused(Refusal::OtherChain), Outcome::Elsewhere),
            (refused(Refusal::SenderLimit), Outcome::Final),
            (refused(Refusal::NonceTooLow), Outcome::Final),
            (refused(Refusal::InsufficientFunds), Outcome::Final),
            (refused(Refusal::Other), Outcome::Elsewhere),
        ] {
            assert_eq!(outcome(&result), expected, "{result:?}");
        }
    }
}
