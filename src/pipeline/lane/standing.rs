//! What stands in a lane's way, and whether another lane could do its work. A lane that cannot pay, or may not register, leaves the
//! queue to those that can; only when none can is the work told what it waits for.

use super::{Lane, Step};
use crate::{
    pipeline::flights::lock,
    registration::{RegistrationId, diagnosis::Hindrance, policy::batching},
};
use alloy::primitives::{Address, U256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A lane that something keeps from working tries in earnest this often: what it would need may be less by now, for what is out has
/// landed, or fees have fallen.
const IN_EARNEST: Duration = Duration::from_secs(5);

/// How the lanes of this process stand.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    /// What stood in the way of each lane that works when it last tried.
    lanes: Arc<Mutex<HashMap<Address, Option<Hindrance>>>>,
    /// How many wait for the head's fees to fall.
    waiting: Arc<watch::Sender<usize>>,
}

/// A lane that works, as long as this is held.
#[derive(Debug)]
pub struct OnDuty(Standings, Address);

/// A lane that waits for fees to fall, as long as this is held.
#[derive(Debug)]
pub struct Wanted(Arc<watch::Sender<usize>>);

impl Standings {
    /// This signer's lane works from now on.
    pub fn on_duty(&self, signer: Address) -> OnDuty {
        lock(&self.lanes).insert(signer, None);
        OnDuty(self.clone(), signer)
    }

    /// What stands in this signer's way.
    pub fn hindrance(&self, signer: Address) -> Option<Hindrance> {
        lock(&self.lanes).get(&signer).cloned().flatten()
    }

    /// What stands in the way of any that this is true of.
    pub fn find(&self, is_it: impl Fn(&Hindrance) -> bool) -> Option<Hindrance> {
        lock(&self.lanes).values().flatten().find(|hindrance| is_it(hindrance)).cloned()
    }

    /// Nothing stands in this signer's way.
    pub fn moves(&self, signer: Address) {
        self.set(signer, None);
    }

    /// Told whenever the number of those changes who want to know at once when fees fall.
    pub fn wanted(&self) -> watch::Receiver<usize> {
        self.waiting.subscribe()
    }

    fn set(&self, signer: Address, hindrance: Option<Hindrance>) {
        if let Some(standing) = lock(&self.lanes).get_mut(&signer) {
            *standing = hindrance;
        }
    }

    /// Whether a lane of another signer has nothing in its way, as far as it knows.
    fn another_can(&self, signer: Address) -> bool {
        lock(&self.lanes).iter().any(|(other, hindrance)| *other != signer && hindrance.is_none())
    }

    fn want(&self) -> Wanted {
        self.waiting.send_modify(|count| *count += 1);
        Wanted(self.waiting.clone())
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        lock(&self.0.lanes).remove(&self.1);
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Lane {
    /// Something keeps these from being sent, which are claimed. Returns whether another lane should hear that they are left to it.
    pub(super) async fn hindered(&mut self, ids: &[RegistrationId], hindrance: Hindrance) -> bool {
        let standings = self.tools.standings.clone();
        standings.set(self.address(), Some(hindrance.clone()));
        self.earnest_at = Instant::now() + IN_EARNEST;
        match hindrance {
            Hindrance::FeeCap(_) if self.wanted.is_none() => self.wanted = Some(standings.want()),
            Hindrance::FeeCap(_) => {}
            Hindrance::Funds { .. }
            | Hindrance::NotAllowed(_)
            | Hindrance::DailyBudget(_)
            | Hindrance::TooLarge(_)
            | Hindrance::NoEndpoint(_)
            | Hindrance::NoContract { .. }
            | Hindrance::Refused(_)
            | Hindrance::Other(_) => self.wanted = None,
        }
        if standings.another_can(self.address()) {
            return true;
        }
        self.block(ids, hindrance.blocked(), &hindrance.to_string()).await;
        false
    }

    /// Says to what is queued what it waits for, unless another lane takes it.
    pub(super) async fn wait(&mut self, hindrance: &Hindrance) -> Step {
        if self.tools.standings.another_can(self.address()) {
            return Step::Paused;
        }
        match self.tools.queue.claim_any(self.address(), super::MAX_CLAIM).await {
            Ok(claim) => self.block(&claim.ids(), hindrance.blocked(), &hindrance.to_string()).await,
            Err(error) => return self.store_failed(&error),
        }
        Step::Paused
    }

    /// Whether what stood in the way still does, as far as that can be told without trying.
    pub(super) async fn still_hinders(&self, hindrance: &Hindrance) -> bool {
        let chain = &self.tools.chain;
        match hindrance {
            Hindrance::Funds { needed, .. } => {
                chain.balance(self.address()).await.is_ok_and(|balance| balance < *needed)
            }
            Hindrance::NotAllowed(account) => chain.is_registrar(*account).await.is_ok_and(|allowed| !allowed),
            Hindrance::FeeCap(_) => !self.is_affordable_again(),
            Hindrance::DailyBudget(over) => self.is_over_budget(over.next).await,
            Hindrance::TooLarge(large) => {
                self.tools.head().is_some_and(|head| batching::most_gas(head.gas_limit) < large.gas)
            }
            Hindrance::NoEndpoint(_) | Hindrance::NoContract { .. } | Hindrance::Refused(_) | Hindrance::Other(_) => {
                false
            }
        }
    }

    /// Whether the lane waits for fees to fall, and they have.
    pub(super) fn is_affordable_again(&self) -> bool {
        let cap = self.tools.chain.max_fee_per_gas();
        self.wanted.is_some() && self.tools.head().is_some_and(|head| head.base_fee <= cap)
    }
}

/// How many of `count` registrations may still be paid for where all of them cannot; `None` when it is no matter of how many.
pub(super) fn affordable(hindrance: &Hindrance, count: usize) -> Option<usize> {
    let (there, needed) = match hindrance {
        Hindrance::Funds { balance, needed, .. } => (*balance, *needed),
        Hindrance::DailyBudget(over) => (U256::from(over.budget.saturating_sub(over.taken)), U256::from(over.next)),
        Hindrance::NotAllowed(_)
        | Hindrance::FeeCap(_)
        | Hindrance::TooLarge(_)
        | Hindrance::NoEndpoint(_)
        | Hindrance::NoContract { .. }
        | Hindrance::Refused(_)
        | Hindrance::Other(_) => return None,
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
        let funds = |balance: u64, needed: u64| Hindrance::Funds {
            signer: Address::ZERO,
            balance: U256::from(balance),
            needed: U256::from(needed),
        };
        let budget = |taken, next| Hindrance::DailyBudget(OverBudget { taken, next, budget: 100 });
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
            (Hindrance::NotAllowed(Address::ZERO), 600, None),
        ] {
            assert_eq!(affordable(&hindrance, count), expected, "{hindrance:?}, {count}");
        }
    }
}
