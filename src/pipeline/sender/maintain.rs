//! Looking after what is out, in the order of its nonces: what is unsent is sent, and what no block takes is helped along.

use super::types::{ChainConditions, Sender, Urgency};
use crate::{
    clock::now,
    pipeline::{
        cost::fee_market_view,
        in_flight::{BlockedState, PendingTx, TxPhase},
    },
    registration::{
        diagnosis::{Blocker, RejectKind},
        policy::replacement::{PendingTxView, ReplacementAction, next_action},
    },
    telemetry::log_retry,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What has waited for so many blocks and so long is not just on its way: what blocks ask is looked at.
const STUCK_AFTER_BLOCKS: u64 = 3;
const STUCK_AFTER: Duration = Duration::from_secs(1);

impl Sender {
    /// Looks after everything that is out, or as far as it comes before `stop`. Returns whether all of it is sent, so that another
    /// transaction may be signed.
    pub(super) async fn maintain_pending(&mut self, stop: &CancellationToken) -> bool {
        let flights = self.context.in_flight.of_signer(self.address());
        if flights.is_empty() {
            return true;
        }
        let sight = self.chain_conditions();
        let mut is_first = true;
        for flight in flights {
            if stop.is_cancelled() {
                return false;
            }
            let phase = flight.status().phase;
            let sent = match phase {
                TxPhase::Included { .. } => continue,
                TxPhase::Signed => self.send_or_replace(&flight, is_first, sight).await,
                TxPhase::Submitted => {
                    self.maintain_submitted(&flight, is_first, sight).await;
                    true
                }
            };
            if is_first {
                self.fill_nonce_gap(&flight, sight).await;
            }
            if !sent {
                return false;
            }
            is_first = false;
        }
        true
    }

    fn chain_conditions(&self) -> Option<ChainConditions> {
        let chain = &self.context.chain;
        // A development node mines on demand: its standing still keeps nothing out.
        let stalled = chain.pool_status().stall.is_some() && !chain.network().is_local();
        self.context.head().map(|head| ChainConditions { head, stalled })
    }

    /// No node is known to have it. Returns whether one has now.
    async fn send_or_replace(
        &mut self,
        flight: &Arc<PendingTx>,
        is_first: bool,
        sight: Option<ChainConditions>,
    ) -> bool {
        let is_new = flight.status().last_broadcast.is_none();
        let due = is_new || self.timers.may_resend(Instant::now());
        let mended = match self.replacement_action(flight, is_first, sight).await {
            _ if is_new => false,
            ReplacementAction::Wait | ReplacementAction::CapReached(_) => false,
            ReplacementAction::Rebroadcast => true,
            ReplacementAction::Replace(fees) => {
                self.bump_fees(flight, fees, urgency(is_first, sight)).await.is_replaced()
            }
            ReplacementAction::ScheduledBump(fees) => {
                self.bump_fees(flight, fees, Urgency::Routine).await.is_replaced()
            }
            ReplacementAction::SplitBatch => due && self.split_batch(flight, sight).await.is_replaced(),
            ReplacementAction::TooLarge(large) => {
                // A node would refuse it. It is looked at again, but not at once.
                self.timers.resend_after(Instant::now(), self.backoff.next_delay());
                self.mark_tx_blocked(flight, &Blocker::TooLarge(large)).await;
                return false;
            }
        };
        if due || mended { self.broadcast(flight).await } else { false }
    }

    /// A node has it, or had it, and no block is known to.
    async fn maintain_submitted(&mut self, flight: &Arc<PendingTx>, is_first: bool, sight: Option<ChainConditions>) {
        match self.replacement_action(flight, is_first, sight).await {
            ReplacementAction::Wait => match insufficient_funds_blocker(flight) {
                Some(hindrance) => self.mark_tx_blocked(flight, &hindrance).await,
                None => self.clear_tx_blocked(flight).await,
            },
            ReplacementAction::CapReached(above) => self.mark_tx_blocked(flight, &Blocker::FeeCap(above)).await,
            ReplacementAction::TooLarge(large) => self.mark_tx_blocked(flight, &Blocker::TooLarge(large)).await,
            ReplacementAction::Rebroadcast => {
                self.clear_tx_blocked(flight).await;
                self.rebroadcast(flight).await;
            }
            ReplacementAction::Replace(fees) => {
                if self.bump_fees(flight, fees, urgency(is_first, sight)).await.is_replaced() {
                    self.rebroadcast(flight).await;
                }
            }
            ReplacementAction::ScheduledBump(fees) => {
                self.clear_tx_blocked(flight).await;
                if self.bump_fees(flight, fees, Urgency::Routine).await.is_replaced() {
                    self.rebroadcast(flight).await;
                }
            }
            ReplacementAction::SplitBatch => {
                if self.split_batch(flight, sight).await.is_replaced() {
                    self.rebroadcast(flight).await;
                }
            }
        }
    }

    /// The latest version again, to everybody. What is answered decides nothing but what is done next: the chain decides the rest.
    async fn rebroadcast(&self, flight: &PendingTx) {
        flight.rebroadcast(&self.context).await;
        self.record_broadcast(flight);
    }

    /// What is to be done about a transaction by what is seen now. Asks for the fees of the newest blocks when it matters.
    async fn replacement_action(
        &self,
        flight: &PendingTx,
        is_first: bool,
        sight: Option<ChainConditions>,
    ) -> ReplacementAction {
        let Some(ChainConditions { head, stalled }) = sight else { return ReplacementAction::Wait };
        let (versions, (_, offer)) = (flight.versions(), flight.latest());
        let is_priced_out = head.base_fee > offer.max_fee_per_gas;
        let (waited, blocks, was_priced_out, refused) = {
            let mut progress = flight.status();
            let was_priced_out = progress.underpriced;
            progress.underpriced |= is_priced_out;
            let (since, at_head) = *progress.pending_since.get_or_insert((Instant::now(), head.block.number));
            let refused = progress.observations.last_rejection.as_ref().map(|refusal| refusal.kind);
            (since.elapsed(), head.block.number.saturating_sub(at_head), was_priced_out, refused)
        };
        let is_late = blocks >= STUCK_AFTER_BLOCKS && waited >= STUCK_AFTER;
        let market = if !stalled && (is_late || is_priced_out || refused.is_some()) {
            self.context.chain.fee_market().await.ok()
        } else {
            None
        };
        let asked = fee_market_view(market, (&head, stalled), versions.gas_limit, self.context.chain.max_fee_per_gas());
        next_action(&PendingTxView {
            fees: offer,
            gas_limit: versions.gas_limit,
            batch_size: versions.batch_size,
            attempts: u32::try_from(versions.attempts.len()).unwrap_or(u32::MAX),
            pending_for: waited,
            blocks_since: blocks,
            is_lowest_nonce: is_first,
            was_below_base_fee: was_priced_out,
            last_rejection: refused,
            fee_market: asked,
        })
    }

    /// Says of all that a transaction carries what it waits for, once.
    pub(super) async fn mark_tx_blocked(&mut self, flight: &PendingTx, hindrance: &Blocker) {
        let blocked = hindrance.blocked_reason();
        if flight.status().blocked == BlockedState::Blocked(blocked) {
            return;
        }
        match self.context.store.set_blocked_tx(flight.id, Some(blocked), now()).await {
            Ok(_) => {
                flight.status().blocked = BlockedState::Blocked(blocked);
                flight.add_history(format!("held up: {hindrance}"), now());
                self.report_blocked(&flight.members, blocked, &hindrance.to_string()).await;
            }
            Err(error) => log_retry!(error, "a blocked reason could not be written"),
        }
    }

    /// Nothing holds it up any more.
    async fn clear_tx_blocked(&mut self, flight: &PendingTx) {
        if flight.status().blocked == BlockedState::Clear {
            return;
        }
        match self.context.store.set_blocked_tx(flight.id, None, now()).await {
            Ok(_) => {
                flight.status().blocked = BlockedState::Clear;
                self.report_unblocked();
                self.context.waiters.notify_changed(&self.context.store, &flight.members).await;
            }
            Err(error) => log_retry!(error, "a blocked reason could not be taken back"),
        }
    }
}

/// How much what offers too little needs a higher offer.
fn urgency(is_first: bool, sight: Option<ChainConditions>) -> Urgency {
    match sight {
        Some(ChainConditions { head, .. }) if is_first => Urgency::BlocksQueue { base_fee: head.base_fee },
        Some(_) | None => Urgency::Stuck,
    }
}

/// A node said so when the bytes last went out.
fn insufficient_funds_blocker(flight: &PendingTx) -> Option<Blocker> {
    let refusal = flight.status().observations.last_rejection.clone();
    refusal.filter(|refusal| refusal.kind == RejectKind::InsufficientFunds).map(Blocker::Rejected)
}
