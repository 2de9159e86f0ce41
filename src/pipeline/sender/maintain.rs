//! Maintains the pending transactions in the order of their nonces: broadcasts what no endpoint accepted, and
//! rebroadcasts or replaces what no block includes.

use super::types::{ChainConditions, Sender, Urgency};
use crate::{
    clock::now,
    pipeline::{
        cost::fee_market_view,
        in_flight::PendingTx,
        rebroadcast::rebroadcast,
        tx_state::{BlockWait, BlockedState, TxPhase},
    },
    registration::{
        diagnosis::{Blocker, RejectKind},
        policy::replacement::{PendingTxView, ReplacementAction, SplitReason, next_action},
    },
    telemetry::log_retry,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A transaction pending for this many blocks and this long may be stuck, and is worth a call for the fee market.
const STUCK_AFTER_BLOCKS: u64 = 3;
const STUCK_AFTER: Duration = Duration::from_secs(1);

impl Sender {
    /// Maintains every pending transaction, or as many as it can before `stop`. Returns whether an endpoint has
    /// accepted all of them, so that another one may be signed.
    pub(super) async fn maintain_pending(&mut self, stop: &CancellationToken) -> bool {
        let pending = self.parts.in_flight.of_signer(self.address());
        if pending.is_empty() {
            return true;
        }
        let conditions = self.chain_conditions();
        let mut is_first = true;
        for tx in pending {
            if stop.is_cancelled() {
                return false;
            }
            let phase = tx.status().phase();
            let is_accepted = match phase {
                TxPhase::Included { .. } => continue,
                TxPhase::Signed => self.send_or_replace(&tx, is_first, conditions).await,
                TxPhase::Submitted => {
                    self.maintain_submitted(&tx, is_first, conditions).await;
                    true
                }
            };
            if is_first {
                self.fill_nonce_gap(&tx, conditions).await;
            }
            if !is_accepted {
                return false;
            }
            is_first = false;
        }
        true
    }

    fn chain_conditions(&self) -> Option<ChainConditions> {
        let chain = &self.parts.chain;
        // A development node mines on demand, so that a head that does not move is no stall.
        let stalled = chain.stall().is_some() && !chain.network().is_local();
        let head = self.parts.head.header()?;
        Some(ChainConditions { head: chain.checked_head(head), stalled })
    }

    /// For a transaction that no endpoint is known to have. Returns whether one has it now.
    async fn send_or_replace(
        &mut self,
        tx: &Arc<PendingTx>,
        is_first: bool,
        conditions: Option<ChainConditions>,
    ) -> bool {
        let is_new = !tx.status().was_broadcast();
        let is_due = is_new || self.timers.may_resend(Instant::now());
        let must_broadcast = match self.replacement_action(tx, is_first, conditions).await {
            _ if is_new => true,
            ReplacementAction::Wait | ReplacementAction::CapReached(_) => is_due,
            ReplacementAction::Rebroadcast => true,
            ReplacementAction::Replace(fees) => {
                self.bump_fees(tx, fees, urgency(is_first, conditions)).await.is_replaced() || is_due
            }
            ReplacementAction::ScheduledBump(fees) => {
                self.bump_fees(tx, fees, Urgency::Routine).await.is_replaced() || is_due
            }
            ReplacementAction::SplitBatch(reason) => {
                is_due && {
                    self.split_batch(tx, conditions, reason).await;
                    true
                }
            }
            ReplacementAction::TooLarge(too_large) => {
                // Endpoints would reject it until the block gas limit rises.
                self.timers.resend_after(Instant::now(), self.backoff.next_delay());
                self.mark_tx_blocked(tx, &Blocker::TooLarge(too_large)).await;
                false
            }
        };
        if must_broadcast { self.broadcast(tx).await } else { false }
    }

    /// For a transaction that an endpoint accepted and no block is known to include.
    async fn maintain_submitted(&mut self, tx: &Arc<PendingTx>, is_first: bool, conditions: Option<ChainConditions>) {
        let must_rebroadcast = match self.replacement_action(tx, is_first, conditions).await {
            ReplacementAction::Wait => {
                match insufficient_funds_blocker(tx) {
                    Some(blocker) => self.mark_tx_blocked(tx, &blocker).await,
                    None => self.clear_tx_blocked(tx).await,
                }
                false
            }
            ReplacementAction::CapReached(exceeded) => {
                self.mark_tx_blocked(tx, &Blocker::FeeCap(exceeded)).await;
                false
            }
            ReplacementAction::TooLarge(too_large) => {
                self.mark_tx_blocked(tx, &Blocker::TooLarge(too_large)).await;
                false
            }
            ReplacementAction::Rebroadcast => {
                self.clear_tx_blocked(tx).await;
                true
            }
            ReplacementAction::Replace(fees) => {
                self.bump_fees(tx, fees, urgency(is_first, conditions)).await.is_replaced()
            }
            ReplacementAction::ScheduledBump(fees) => {
                self.clear_tx_blocked(tx).await;
                self.bump_fees(tx, fees, Urgency::Routine).await.is_replaced()
            }
            ReplacementAction::SplitBatch(reason) => {
                if reason == SplitReason::NeverTaken {
                    self.clear_tx_blocked(tx).await;
                }
                self.split_batch(tx, conditions, reason).await.is_replaced()
            }
        };
        if must_rebroadcast {
            rebroadcast(tx, &self.parts.chain, &self.parts.store).await;
            self.record_broadcast(tx);
        }
    }

    /// Calls for the fee market only where it can change the decision.
    async fn replacement_action(
        &self,
        tx: &PendingTx,
        is_first: bool,
        conditions: Option<ChainConditions>,
    ) -> ReplacementAction {
        let Some(ChainConditions { head, stalled }) = conditions else { return ReplacementAction::Wait };
        let (versions, (_, fees)) = (tx.versions(), tx.latest());
        let is_underpriced = head.base_fee > fees.max_fee_per_gas;
        let wait = tx.status().observe_block_wait(Instant::now(), head.block.number, is_underpriced);
        let BlockWait { pending_for, blocks, was_underpriced, last_rejection } = wait;
        let may_be_stuck = blocks >= STUCK_AFTER_BLOCKS && pending_for >= STUCK_AFTER;
        let market = if !stalled && (may_be_stuck || is_underpriced || last_rejection.is_some()) {
            Some(self.parts.chain.fee_market().await)
        } else {
            None
        };
        let cap = self.parts.chain.max_fee_per_gas();
        next_action(&PendingTxView {
            fees,
            gas_limit: versions.gas_limit,
            batch_size: versions.batch_size,
            max_batch_size: self.batch_ceiling.get(Instant::now()),
            attempts: u32::try_from(versions.attempts.len()).unwrap_or(u32::MAX),
            pending_for,
            blocks_since: blocks,
            is_lowest_nonce: is_first,
            was_below_base_fee: was_underpriced,
            last_rejection,
            fee_market: fee_market_view(market, (&head, stalled), versions.gas_limit, cap),
        })
    }

    /// Marks the transaction's registrations as blocked, once per reason.
    pub(super) async fn mark_tx_blocked(&mut self, tx: &PendingTx, blocker: &Blocker) {
        let reason = blocker.blocked_reason();
        if tx.status().is_blocked(BlockedState::Blocked(reason)) {
            return;
        }
        match self.parts.store.set_blocked_tx(tx.id, Some(reason), now()).await {
            Ok(_) => {
                tx.status().set_blocked(BlockedState::Blocked(reason));
                tx.add_history(format!("blocked: {blocker}"), now());
                self.report_blocked(&tx.members, reason, &blocker.to_string()).await;
            }
            Err(error) => log_retry!(error, transaction_id = %tx.id, "failed to write blocked reason"),
        }
    }

    async fn clear_tx_blocked(&mut self, tx: &PendingTx) {
        if tx.status().is_blocked(BlockedState::Clear) {
            return;
        }
        match self.parts.store.set_blocked_tx(tx.id, None, now()).await {
            Ok(_) => {
                tx.status().set_blocked(BlockedState::Clear);
                self.report_unblocked();
                self.parts.waiters.notify_changed(&tx.members).await;
            }
            Err(error) => log_retry!(error, transaction_id = %tx.id, "failed to clear blocked reason"),
        }
    }
}

fn urgency(is_first: bool, conditions: Option<ChainConditions>) -> Urgency {
    match conditions {
        Some(ChainConditions { head, .. }) if is_first => Urgency::BlocksQueue { base_fee: head.base_fee },
        Some(_) | None => Urgency::Stuck,
    }
}

/// From the answer to the last broadcast.
fn insufficient_funds_blocker(tx: &PendingTx) -> Option<Blocker> {
    let rejection = tx.status().last_rejection().cloned();
    rejection.filter(|rejection| rejection.kind == RejectKind::InsufficientFunds).map(Blocker::Rejected)
}
