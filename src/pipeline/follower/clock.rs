//! The confirmation clock: one diagnosis and one report per transaction, whoever waits.

use super::{Follower, SharedFlight};
use crate::{
    pipeline::{flights::Phase, now},
    registration::{
        State, Timestamp,
        diagnosis::{Evidence, diagnose},
    },
    telemetry::events,
};
use tracing::warn;

impl Follower {
    /// Diagnoses and reports every transaction whose clock has run out, once.
    pub(super) async fn check_clocks(&mut self) {
        let now = now();
        for flight in self.tools.flights.all() {
            let (sent, timed_out) = {
                let progress = flight.progress();
                (progress.sent, progress.timed_out)
            };
            let Some(sent) =
                sent.filter(|sent| !timed_out && now.since(*sent) >= self.tools.settings.confirmation_timeout)
            else {
                continue;
            };
            self.report_timeout(&flight, sent, now).await;
        }
    }

    async fn report_timeout(&self, flight: &SharedFlight, sent: Timestamp, now: Timestamp) {
        let phase = flight.progress().phase;
        let (state, included_block) = match phase {
            Phase::Signed => (State::Signed, None),
            Phase::Submitted => (State::Submitted, None),
            Phase::Included(block) => (State::Included, Some(block.number)),
        };
        let diagnosis = diagnose(&Evidence {
            state,
            blocked: None,
            included_block,
            head_block: self.tools.head().map(|head| head.block.number),
            confirmations_required: self.tools.settings.confirmations,
            mines_on_demand: self.tools.may_mine_on_demand(),
            submitted: Some(sent),
            now,
        });
        if let Err(error) = self.tools.store.timed_out(flight.id, &diagnosis, now).await {
            warn!(transaction_id = %flight.id, error = %error, "a timeout could not be written and is tried again");
            return;
        }
        flight.progress().timed_out = true;
        let hash = flight.attempts.last().map(|attempt| attempt.hash).unwrap_or_default();
        let waited = now.since(sent);
        events::confirmation_timeout(flight.id, flight.nonce, hash, waited, flight.members.len(), &diagnosis);
        flight.journeys().iter().for_each(|journey| journey.late(diagnosis.cause));
        self.tools.waiters.changed(&self.tools.store, &flight.members).await;
    }
}
