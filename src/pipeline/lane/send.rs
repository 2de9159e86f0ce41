//! Broadcasting what is on disk, until a node has it. The bytes never change here.

use super::Lane;
use crate::{
    chain::{CallError, Refusal, Sent},
    pipeline::{
        flights::{Flight, Phase},
        now,
    },
    registration::Blocked,
    telemetry::{events, hindered, spans},
};
use tokio::time::Instant;

/// What the answer to a broadcast means for us.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A node has the bytes, or had them: the follower takes over.
    Taken,
    /// Nobody has them for certain; the same bytes again, later.
    Again(Blocked),
}

fn verdict(result: &Result<Sent, CallError>) -> Verdict {
    match result {
        Ok(_) => Verdict::Taken,
        Err(CallError::Unavailable { .. } | CallError::NoEndpoint { .. }) => Verdict::Again(Blocked::NoEndpoint),
        Err(CallError::Refused { refusal, .. }) => match refusal {
            // The nonce is consumed: by an attempt of ours, or by a stranger. The follower finds out which.
            Refusal::AlreadyKnown | Refusal::NonceTooLow => Verdict::Taken,
            Refusal::InsufficientFunds => Verdict::Again(Blocked::InsufficientFunds),
            Refusal::FeeTooLow => Verdict::Again(Blocked::FeeCap),
            Refusal::ReplacementUnderpriced
            | Refusal::NonceGap
            | Refusal::TipAboveFee
            | Refusal::FeeAboveNodeCap
            | Refusal::SenderLimit
            | Refusal::Gas
            | Refusal::Reverted(_)
            | Refusal::UnknownBlock
            | Refusal::OtherChain
            | Refusal::Other => Verdict::Again(Blocked::NodeRefuses),
        },
    }
}

impl Lane {
    /// Sends the latest version once. Returns whether a node has it, or the chain has settled it without us knowing; if not, the
    /// same bytes go out again, later.
    pub(super) async fn send(&mut self, flight: &Flight) -> bool {
        let versions = flight.versions();
        let Some(attempt) = versions.attempts.last() else { return true };
        let result = self.tools.chain.send(&attempt.raw).await;
        self.went_out(flight);
        let before = flight.progress().memory.refusal.clone();
        flight.heard(&result, now());
        match verdict(&result) {
            Verdict::Taken => {
                self.taken(flight).await;
                self.window.taken();
                self.delays.reset();
                let sent = result.map_or_else(|_| self.tools.chain.primary().to_owned(), |sent| sent.endpoint);
                let took = now().since(flight.signed);
                events::transaction_sent(flight.id, flight.signer, flight.nonce, attempt.hash, &sent, took);
                true
            }
            Verdict::Again(blocked) => {
                self.send_at = Instant::now() + self.delays.next_delay();
                if result.as_ref().err().and_then(CallError::refusal) == Some(&Refusal::SenderLimit) {
                    self.window.limited(self.tools.in_flight_of(self.address()));
                }
                let detail = result.err().map(|error| error.to_string()).unwrap_or_default();
                flight.remember_refusal(&self.tools.store, before).await;
                self.not_taken(flight, blocked, &detail).await;
                // A node may have taken the bytes although its answer was lost, and a block may hold them already.
                !self.tools.flights.contains(flight) || flight.progress().phase != Phase::Signed
            }
        }
    }

    /// Says of all that a transaction carries why no node took it.
    async fn not_taken(&mut self, flight: &Flight, blocked: Blocked, detail: &str) {
        match self.tools.store.not_taken(flight.id, blocked, now()).await {
            Ok(0) => {}
            Ok(_) => self.tell_blocked(&flight.members, blocked, detail).await,
            Err(error) => hindered!(error, "a blocked reason could not be written"),
        }
    }

    /// The latest version's bytes have just gone out.
    pub(super) fn went_out(&self, flight: &Flight) {
        let head = self.tools.head().map_or(0, |head| head.block.number);
        let mut progress = flight.progress();
        progress.broadcast = Some(Instant::now());
        progress.out.get_or_insert((Instant::now(), head));
        progress.priced_out = false;
    }

    async fn taken(&self, flight: &Flight) {
        let at = now();
        let taken = {
            let memory = &mut flight.progress().memory;
            memory.taken.head = self.tools.head().map(|head| head.block.number);
            memory.taken.clone()
        };
        if let Err(error) = spans::db("sent", self.tools.store.sent(flight.id, &taken, at)).await {
            // The bytes are out and on disk; inclusion will say so too.
            hindered!(error, transaction_id = %flight.id, "a sent transaction could not be marked as sent");
        }
        let felt = spans::felt_failover();
        for journey in flight.journeys().iter_mut() {
            journey.sent(at);
            if felt {
                journey.felt_failover();
            }
        }
        {
            let mut progress = flight.progress();
            if progress.phase == Phase::Signed {
                progress.phase = Phase::Submitted;
            }
            progress.sent.get_or_insert(at);
        }
        self.tools.waiters.changed(&self.tools.store, &flight.members).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Fault;

    #[test]
    fn only_a_nonce_that_is_taken_ends_sending() {
        let refused = |refusal| {
            Err(CallError::Refused { endpoint: String::new(), method: "", refusal, code: 0, message: String::new() })
        };
        let silent = |fault| Err(CallError::Unavailable { endpoint: String::new(), method: "", fault });
        for (result, expected) in [
            (Ok(Sent { endpoint: String::new() }), Verdict::Taken),
            (refused(Refusal::AlreadyKnown), Verdict::Taken),
            (refused(Refusal::NonceTooLow), Verdict::Taken),
            (refused(Refusal::InsufficientFunds), Verdict::Again(Blocked::InsufficientFunds)),
            (refused(Refusal::FeeTooLow), Verdict::Again(Blocked::FeeCap)),
            (refused(Refusal::SenderLimit), Verdict::Again(Blocked::NodeRefuses)),
            (Err(CallError::NoEndpoint { method: "", why: String::new() }), Verdict::Again(Blocked::NoEndpoint)),
            (silent(Fault::Timeout), Verdict::Again(Blocked::NoEndpoint)),
            (silent(Fault::Status(502)), Verdict::Again(Blocked::NoEndpoint)),
        ] {
            assert_eq!(verdict(&result), expected, "{result:?}");
        }
    }
}
