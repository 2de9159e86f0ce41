//! Why each sender of this process cannot send, shared with the diagnosis and the follower.

use crate::registration::diagnosis::Blocker;
use alloy::primitives::Address;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio::sync::watch;

#[derive(Clone, Debug, Default)]
pub(crate) struct SenderBlockers {
    /// The running senders, each with the blocker of its last attempt.
    by_signer: Arc<Mutex<HashMap<Address, Option<Blocker>>>>,
    /// Signers with the maximum number of transactions in flight.
    at_limit: Arc<Mutex<HashSet<Address>>>,
    /// Number of senders waiting for the base fee to fall.
    fee_waiters: Arc<watch::Sender<usize>>,
}

/// Keeps a sender registered until it is dropped.
#[derive(Debug)]
pub(crate) struct ActiveGuard(SenderBlockers, Address);

/// Counts a sender as waiting for lower fees until it is dropped.
#[derive(Debug)]
pub(crate) struct FeeWaitGuard(Arc<watch::Sender<usize>>);

impl SenderBlockers {
    pub(crate) fn register(&self, signer: Address) -> ActiveGuard {
        self.by_signer.lock().insert(signer, None);
        ActiveGuard(self.clone(), signer)
    }

    pub(crate) fn get(&self, signer: Address) -> Option<Blocker> {
        self.by_signer.lock().get(&signer).cloned().flatten()
    }

    /// A blocker of any sender that satisfies the predicate.
    pub(crate) fn find(&self, predicate: impl Fn(&Blocker) -> bool) -> Option<Blocker> {
        self.by_signer.lock().values().flatten().find(|blocker| predicate(blocker)).cloned()
    }

    pub(crate) fn set(&self, signer: Address, blocker: Blocker) {
        self.replace(signer, Some(blocker));
    }

    pub(crate) fn clear(&self, signer: Address) {
        self.replace(signer, None);
    }

    /// Ignores a signer without a running sender.
    fn replace(&self, signer: Address, blocker: Option<Blocker>) {
        if let Some(current) = self.by_signer.lock().get_mut(&signer) {
            *current = blocker;
        }
    }

    pub(crate) fn other_sender_available(&self, signer: Address) -> bool {
        self.by_signer.lock().iter().any(|(other, blocker)| *other != signer && blocker.is_none())
    }

    pub(crate) fn set_at_limit(&self, signer: Address, is_at_limit: bool) {
        let mut signers = self.at_limit.lock();
        if is_at_limit {
            signers.insert(signer);
        } else {
            signers.remove(&signer);
        }
    }

    pub(crate) fn signers_at_limit(&self) -> HashSet<Address> {
        self.at_limit.lock().clone()
    }

    pub(crate) fn start_fee_wait(&self) -> FeeWaitGuard {
        self.fee_waiters.send_modify(|count| *count += 1);
        FeeWaitGuard(self.fee_waiters.clone())
    }

    /// The number of senders waiting for lower fees. The follower polls faster while it is not zero.
    pub(crate) fn subscribe_fee_waiters(&self) -> watch::Receiver<usize> {
        self.fee_waiters.subscribe()
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
