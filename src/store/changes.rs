//! What replicas notify each other of, and how a notification encodes it.

use crate::registration::{RegistrationId, TransactionId};
use alloy::primitives::hex;
use parking_lot::Mutex;
use std::collections::HashSet;
use tokio::sync::Notify;
use uuid::Uuid;

/// A notification has at most 8,000 bytes (<https://www.postgresql.org/docs/current/sql-notify.html>), and an id takes
/// 34.
const MAX_IDS_PER_NOTIFICATION: usize = 200;
/// Further ids are dropped; whoever waits for them on another replica finds the change by polling.
const MAX_PENDING_IDS: usize = 50_000;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Whether something was queued.
    pub queued: bool,
    pub registrations: HashSet<RegistrationId>,
    /// Transactions of which every member has changed.
    pub transactions: HashSet<TransactionId>,
}

/// Changes that the other replicas are still to be notified of.
#[derive(Debug)]
pub(super) struct NotificationOutbox {
    /// By which a replica recognizes its own notifications.
    pub(super) replica_id: Uuid,
    pending: Mutex<Changes>,
    wake: Notify,
}

impl Changes {
    fn merge(&mut self, changes: Self) {
        self.queued |= changes.queued;
        if self.registrations.len() + self.transactions.len() < MAX_PENDING_IDS {
            self.registrations.extend(changes.registrations);
            self.transactions.extend(changes.transactions);
        }
    }

    /// The sender's id, `q` if something was queued, and ids, each preceded by `r` or `t`.
    pub(super) fn encode(&self, sender: Uuid) -> Vec<String> {
        let registrations = self.registrations.iter().map(|id| format!(" r{}", hex::encode(id.as_bytes())));
        let transactions = self.transactions.iter().map(|id| format!(" t{}", hex::encode(id.as_bytes())));
        let mut words: Vec<_> = registrations.chain(transactions).collect();
        if self.queued {
            words.insert(0, " q".to_owned());
        }
        words.chunks(MAX_IDS_PER_NOTIFICATION).map(|words| format!("{}{}", sender.simple(), words.concat())).collect()
    }

    /// `None` for a notification of this replica itself. Words that this version does not know are skipped.
    pub(super) fn decode(text: &str, replica_id: Uuid) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? == replica_id.simple().to_string() {
            return None;
        }
        let mut changes = Self::default();
        for word in words {
            match word.split_at_checked(1) {
                Some(("q", "")) => changes.queued = true,
                Some(("r", id)) => changes.registrations.extend(decode_id(id).map(RegistrationId::from_bytes)),
                Some(("t", id)) => changes.transactions.extend(decode_id(id).map(TransactionId::from_bytes)),
                Some(_) | None => {}
            }
        }
        Some(changes)
    }
}

fn decode_id(text: &str) -> Option<[u8; 16]> {
    hex::decode(text).ok()?.try_into().ok()
}

impl NotificationOutbox {
    pub(super) fn new() -> Self {
        Self { replica_id: Uuid::now_v7(), pending: Mutex::default(), wake: Notify::new() }
    }

    pub(super) fn push(&self, changes: Changes) {
        self.pending.lock().merge(changes);
        self.wake.notify_one();
    }

    /// Waits until something was pushed. May return no changes, when an earlier call has taken them.
    pub(super) async fn take(&self) -> Changes {
        self.wake.notified().await;
        std::mem::take(&mut self.pending.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_decoded_as_they_were_encoded_except_by_their_sender() {
        let (receiver, sender) = (Uuid::now_v7(), Uuid::now_v7());
        let sent = Changes {
            queued: true,
            registrations: (0..250).map(|number| RegistrationId::from_bytes([number; 16])).collect(),
            transactions: (0..250).map(|number| TransactionId::from_bytes([number; 16])).collect(),
        };
        let texts = sent.encode(sender);
        assert!(texts.len() == 3 && texts.iter().all(|text| text.len() < 8_000));
        let mut received = Changes::default();
        texts.iter().for_each(|text| received.merge(Changes::decode(text, receiver).unwrap()));
        assert_eq!(received, sent);
        assert!(texts.iter().all(|text| Changes::decode(text, sender).is_none()));
        let newer = format!("{} q x rzz t12 {}", sender.simple(), "r".repeat(9));
        assert_eq!(Changes::decode(&newer, receiver), Some(Changes { queued: true, ..Changes::default() }));
    }
}
