//! What a blocked sender does. As long as another sender is not blocked it leaves the queue to it; only when every
//! sender is blocked are the queued registrations marked with the reason.

use super::types::{MAX_CLAIM, Sender, StepOutcome};
use crate::{
    chain::Header,
    clock::now,
    pipeline::cost,
    registration::{BlockedReason, RegistrationId, diagnosis::Blocker, policy::batching},
    telemetry::{events, log_retry},
};
use alloy::primitives::U256;
use tokio::time::Instant;

impl Sender {
    /// Records the blocker of a claimed batch. Returns whether the claim is to be released, for another sender.
    pub(super) async fn on_blocked(&mut self, ids: &[RegistrationId], blocker: Blocker) -> bool {
        let blockers = self.parts.blockers.clone();
        blockers.set(self.address(), blocker.clone());
        self.timers.on_blocked(Instant::now());
        match blocker {
            Blocker::FeeCap(_) if self.fee_wait.is_none() => self.fee_wait = Some(blockers.start_fee_wait()),
            Blocker::FeeCap(_) => {}
            Blocker::InsufficientFunds { .. }
            | Blocker::SignerNotAllowed(_)
            | Blocker::DailyBudget(_)
            | Blocker::TooLarge(_)
            | Blocker::NoEndpoint(_)
            | Blocker::NoContract { .. }
            | Blocker::Rejected(_)
            | Blocker::SignerUnavailable(_)
            | Blocker::SignerThrottled(_)
            | Blocker::Other(_) => self.fee_wait = None,
        }
        if blockers.other_sender_available(self.address()) {
            return true;
        }
        self.mark_queued_blocked(ids, &blocker).await;
        false
    }

    /// Marks the queued registrations as blocked unless another sender can take them.
    pub(super) async fn report_queue_blocked(&mut self, blocker: &Blocker) -> StepOutcome {
        if self.parts.blockers.other_sender_available(self.address()) {
            return StepOutcome::RetryLater;
        }
        match self.parts.queue.claim_for_blocking(self.address(), MAX_CLAIM).await {
            Ok(claim) => self.mark_queued_blocked(&claim.ids(), blocker).await,
            Err(error) => return self.on_store_error(&error),
        }
        StepOutcome::RetryLater
    }

    /// Whether the blocker still applies, as far as one cheap call shows; `false` where only a full attempt can show
    /// it.
    pub(super) async fn is_still_blocked(&mut self, blocker: &Blocker) -> bool {
        let chain = &self.parts.chain;
        match blocker {
            Blocker::InsufficientFunds { needed, .. } => {
                chain.highest_balance(self.address()).await.is_some_and(|balance| balance < *needed)
            }
            Blocker::SignerNotAllowed(account) => chain.is_registrar(*account).await.is_ok_and(|allowed| !allowed),
            Blocker::FeeCap(_) => !self.is_fee_wait_over(),
            Blocker::DailyBudget(over) => {
                let limit = self.parts.settings.daily_budget;
                cost::over_budget(&self.parts.store, limit, over.next_cost).await.is_some()
            }
            Blocker::TooLarge(large) => {
                let head = self.parts.head.header().map(|head| chain.checked_head(head));
                head.is_some_and(|head| batching::max_tx_gas(head.gas_limit) < large.gas_limit)
            }
            Blocker::SignerUnavailable(_) | Blocker::SignerThrottled(_) => !self.is_signer_ready().await,
            Blocker::NoEndpoint(_) | Blocker::NoContract { .. } | Blocker::Rejected(_) | Blocker::Other(_) => false,
        }
    }

    pub(super) fn is_fee_wait_over(&self) -> bool {
        let chain = &self.parts.chain;
        let is_low = |head: Header| chain.checked_head(head).base_fee <= chain.max_fee_per_gas();
        self.fee_wait.is_some() && self.parts.head.header().is_some_and(is_low)
    }

    async fn mark_queued_blocked(&mut self, ids: &[RegistrationId], blocker: &Blocker) {
        let (reason, now) = (blocker.blocked_reason(), now());
        match self.parts.store.set_blocked_queued(ids, reason, now, now).await {
            Ok(0) => {}
            Ok(_) => self.report_blocked(ids, reason, &blocker.to_string()).await,
            Err(error) => log_retry!(error, "failed to write blocked reason"),
        }
    }

    pub(super) async fn report_blocked(&mut self, ids: &[RegistrationId], reason: BlockedReason, detail: &str) {
        let is_new = self.reported_blocker.is_none_or(|(reported, _)| reported != reason);
        let since = self.reported_blocker.map_or_else(Instant::now, |(_, since)| since);
        self.reported_blocker = Some((reason, since));
        events::registrations_blocked(self.address(), reason, ids.len(), detail, is_new);
        self.parts.waiters.notify_changed(ids).await;
    }

    pub(super) fn report_unblocked(&mut self) {
        if let Some((reason, since)) = self.reported_blocker.take() {
            events::registrations_unblocked(self.address(), reason, since.elapsed());
        }
    }
}

/// How many of `count` registrations the balance or budget covers if it does not cover all; `None` if a smaller batch
/// does not help.
pub(super) fn max_affordable_batch(blocker: &Blocker, count: usize) -> Option<usize> {
    let (available, needed) = match blocker {
        Blocker::InsufficientFunds { balance, needed, .. } => (*balance, *needed),
        Blocker::DailyBudget(over) => {
            (U256::from(over.budget.saturating_sub(over.committed)), U256::from(over.next_cost))
        }
        Blocker::SignerNotAllowed(_)
        | Blocker::FeeCap(_)
        | Blocker::TooLarge(_)
        | Blocker::NoEndpoint(_)
        | Blocker::NoContract { .. }
        | Blocker::Rejected(_)
        | Blocker::SignerUnavailable(_)
        | Blocker::SignerThrottled(_)
        | Blocker::Other(_) => return None,
    };
    let max = count.checked_sub(1).filter(|max| *max > 0 && !available.is_zero())?;
    let share = (U256::from(count) * available).checked_div(needed)?;
    Some(usize::try_from(share).unwrap_or(max).clamp(1, max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::policy::budget::OverBudget;
    use alloy::primitives::Address;

    #[test]
    fn a_batch_that_costs_too_much_shrinks_to_its_affordable_share_but_never_below_one() {
        let funds = |balance: u64, needed: u64| Blocker::InsufficientFunds {
            signer: Address::ZERO,
            balance: U256::from(balance),
            needed: U256::from(needed),
        };
        let budget = |committed, next_cost| Blocker::DailyBudget(OverBudget { committed, next_cost, budget: 100 });
        for (blocker, count, expected) in [
            (funds(30, 100), 600, Some(180)),
            (funds(99, 100), 2, Some(1)),
            (funds(1, 100), 600, Some(6)),
            (funds(1, 1_000_000), 600, Some(1)),
            (funds(0, 100), 600, None),
            (funds(99, 100), 1, None),
            (budget(0, 400), 600, Some(150)),
            (budget(100, 400), 600, None),
            (budget(120, 400), 600, None),
            (Blocker::SignerNotAllowed(Address::ZERO), 600, None),
        ] {
            assert_eq!(max_affordable_batch(&blocker, count), expected, "{blocker:?}, {count}");
        }
    }
}
