//! What stands in a lane's way, and whether another lane could do its work. A lane that cannot pay, or may not register, leaves the
//! queue to those that can; only when none can is the work told what it waits for.

use super::{Sender, StepOutcome};
use crate::registration::{RegistrationId, diagnosis::Blocker, policy::batching};
use alloy::primitives::{Address, U256};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// A lane that something keeps from working tries in earnest this often: what it would need may be less by now, for what is out has
/// landed, or fees have fallen.
const FULL_ATTEMPT_INTERVAL: Duration = Duration::from_secs(5);

/// How the lanes of this process stand.
#[derive(Clone, Debug, Default)]
pub struct SenderBlockers {
    /// What stood in the way of each lane that works when it last tried.
    by_signer: Arc<Mutex<HashMap<Address, Option<Blocker>>>>,
    /// How many wait for the head's fees to fall.
    fee_waiters: Arc<watch::Sender<usize>>,
}

/// A lane that works, as long as this is held.
#[derive(Debug)]
pub struct ActiveGuard(SenderBlockers, Address);

/// A lane that waits for fees to fall, as long as this is held.
#[derive(Debug)]
pub struct FeeWaitGuard(Arc<watch::Sender<usize>>);

impl SenderBlockers {
    /// This signer's lane works from now on.
    pub fn register(&self, signer: Address) -> ActiveGuard {
        self.by_signer.lock().insert(signer, None);
        ActiveGuard(self.clone(), signer)
    }

    /// What stands in this signer's way.
    pub fn get(&self, signer: Address) -> Option<Blocker> {
        self.by_signer.lock().get(&signer).cloned().flatten()
    }

    /// What stands in the way of any that this is true of.
    pub fn find(&self, is_it: impl Fn(&Blocker) -> bool) -> Option<Blocker> {
        self.by_signer.lock().values().flatten().find(|hindrance| is_it(hindrance)).cloned()
    }

    /// Nothing stands in this signer's way.
    pub fn clear(&self, signer: Address) {
        self.set(signer, None);
    }

    /// Told whenever the number of those changes who want to know at once when fees fall.
    pub fn subscribe_fee_waiters(&self) -> watch::Receiver<usize> {
        self.fee_waiters.subscribe()
    }

    fn set(&self, signer: Address, hindrance: Option<Blocker>) {
        if let Some(standing) = self.by_signer.lock().get_mut(&signer) {
            *standing = hindrance;
        }
    }

    /// Whether a lane of another signer has nothing in its way, as far as it knows.
    fn other_sender_available(&self, signer: Address) -> bool {
        self.by_signer.lock().iter().any(|(other, hindrance)| *other != signer && hindrance.is_none())
    }

    fn start_fee_wait(&self) -> FeeWaitGuard {
        self.fee_waiters.send_modify(|count| *count += 1);
        FeeWaitGuard(self.fee_waiters.clone())
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.by_signer.lock().remove(&self.1);
    }
}

impl Drop for FeeWaitGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Sender {
    /// Something keeps these from being sent, which are claimed. Returns whether another lane should hear that they are left to it.
    pub(super) async fn on_blocked(&mut self, ids: &[RegistrationId], hindrance: Blocker) -> bool {
        let standings = self.context.blockers.clone();
        standings.set(self.address(), Some(hindrance.clone()));
        self.next_full_attempt = Instant::now() + FULL_ATTEMPT_INTERVAL;
        match hindrance {
            Blocker::FeeCap(_) if self.fee_wait.is_none() => self.fee_wait = Some(standings.start_fee_wait()),
            Blocker::FeeCap(_) => {}
            Blocker::InsufficientFunds { .. }
            | Blocker::SignerNotAllowed(_)
            | Blocker::DailyBudget(_)
            | Blocker::TooLarge(_)
            | Blocker::NoEndpoint(_)
            | Blocker::NoContract { .. }
            | Blocker::Rejected(_)
            | Blocker::Other(_) => self.fee_wait = None,
        }
        if standings.other_sender_available(self.address()) {
            return true;
        }
        self.mark_queued_blocked(ids, hindrance.blocked_reason(), &hindrance.to_string()).await;
        false
    }

    /// Says to what is queued what it waits for, unless another lane takes it.
    pub(super) async fn report_queue_blocked(&mut self, hindrance: &Blocker) -> StepOutcome {
        if self.context.blockers.other_sender_available(self.address()) {
            return StepOutcome::RetryLater;
        }
        match self.context.queue.claim_for_blocking(self.address(), super::MAX_CLAIM).await {
            Ok(claim) => {
                self.mark_queued_blocked(&claim.ids(), hindrance.blocked_reason(), &hindrance.to_string()).await
            }
            Err(error) => return self.on_store_error(&error),
        }
        StepOutcome::RetryLater
    }

    /// Whether what stood in the way still does, as far as that can be told without trying.
    pub(super) async fn is_still_blocked(&self, hindrance: &Blocker) -> bool {
        let chain = &self.context.chain;
        match hindrance {
            Blocker::InsufficientFunds { needed, .. } => {
                chain.balance(self.address()).await.is_ok_and(|balance| balance < *needed)
            }
            Blocker::SignerNotAllowed(account) => chain.is_registrar(*account).await.is_ok_and(|allowed| !allowed),
            Blocker::FeeCap(_) => !self.is_fee_wait_over(),
            Blocker::DailyBudget(over) => self.is_over_budget(over.next_cost).await,
            Blocker::TooLarge(large) => {
                self.context.head().is_some_and(|head| batching::max_tx_gas(head.gas_limit) < large.gas_limit)
            }
            Blocker::NoEndpoint(_) | Blocker::NoContract { .. } | Blocker::Rejected(_) | Blocker::Other(_) => false,
        }
    }

    /// Whether the lane waits for fees to fall, and they have.
    pub(super) fn is_fee_wait_over(&self) -> bool {
        let cap = self.context.chain.max_fee_per_gas();
        self.fee_wait.is_some() && self.context.head().is_some_and(|head| head.base_fee <= cap)
    }
}

/// How many of `count` registrations may still be paid for where all of them cannot; `None` when it is no matter of how many.
pub(super) fn max_affordable_batch(hindrance: &Blocker, count: usize) -> Option<usize> {
    let (there, needed) = match hindrance {
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
        | Blocker::Other(_) => return None,
    };
    let most = count.checked_sub(1).filter(|most| *most > 0 && !there.is_zero())?;
    let share = (U256::from(count) * there).checked_div(needed)?;
    Some(usize::try_from(share).unwrap_or(most).clamp(1, most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::policy::budget::OverBudget;

    #[test]
    fn a_batch_that_cannot_be_paid_for_is_made_as_small_as_what_is_there_and_one_is_not_made_smaller() {
        let funds = |balance: u64, needed: u64| Blocker::InsufficientFunds {
            signer: Address::ZERO,
            balance: U256::from(balance),
            needed: U256::from(needed),
        };
        let budget = |taken, next| Blocker::DailyBudget(OverBudget { committed: taken, next_cost: next, budget: 100 });
        for (hindrance, count, expected) in [
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
            assert_eq!(max_affordable_batch(&hindrance, count), expected, "{hindrance:?}, {count}");
        }
    }
}
