//! The heads that one endpoint returned, and how they compare to the other endpoints'.

use super::{head_consensus::ObservedHead, health_policy::HeadStatus};
use crate::chain::Header;
use std::time::Duration;
use tokio::time::Instant;

/// Consecutive probes of the endpoint itself that make it out of sync: two endpoints are never probed at the same
/// instant.
const LAG_PROBES: u32 = 2;
/// Two probes and a slow response; an older head is not compared with others.
const MAX_HEAD_AGE: Duration = Duration::from_secs(3);
/// A load balancer may send the request for the parent to another node, so one miss does not count.
const MAX_PARENTLESS_HEADS: u32 = 3;

#[derive(Debug)]
pub struct HeadTracker {
    head: Option<ObservedHead>,
    last_probe: Option<Instant>,
    /// Since the chain's head last regressed.
    highest_number: u64,
    status: HeadStatus,
    /// Consecutive.
    out_of_sync_probes: u32,
    /// Consecutive.
    parentless_heads: u32,
}

impl HeadTracker {
    pub fn new() -> Self {
        Self {
            head: None,
            last_probe: None,
            highest_number: 0,
            status: HeadStatus::InSync,
            out_of_sync_probes: 0,
            parentless_heads: 0,
        }
    }

    pub fn record_probe(&mut self, header: Header, plausible: bool, now: Instant) {
        let since = self.head.filter(|head| head.header.block.hash == header.block.hash).map_or(now, |head| head.since);
        self.head = Some(ObservedHead { header, since, plausible });
        self.last_probe = Some(now);
        self.record_block(header.block.number);
    }

    pub fn record_block(&mut self, number: u64) {
        self.highest_number = self.highest_number.max(number);
    }

    pub fn reset_highest_number(&mut self) {
        self.highest_number = self.head.map_or(0, |head| head.header.block.number);
    }

    /// However old.
    pub fn last_head(&self) -> Option<Header> {
        self.head.map(|head| head.header)
    }

    pub fn fresh_head(&self, now: Instant) -> Option<ObservedHead> {
        let fresh = self.last_probe.is_some_and(|probed| now.saturating_duration_since(probed) < MAX_HEAD_AGE);
        self.head.filter(|_| fresh)
    }

    pub fn highest_number(&self) -> u64 {
        self.highest_number
    }

    /// Once confirmed by [`LAG_PROBES`].
    pub fn status(&self) -> HeadStatus {
        self.status
    }

    /// Returns whether the head is now implausible.
    pub fn record_parent_check(&mut self, has_parent: bool) -> bool {
        self.parentless_heads = if has_parent { 0 } else { self.parentless_heads + 1 };
        let implausible = self.parentless_heads >= MAX_PARENTLESS_HEADS;
        if implausible {
            self.out_of_sync_probes = LAG_PROBES;
        }
        implausible
    }

    /// `own`: the status is about a head that this endpoint has just returned. Returns whether it is confirmed out of
    /// sync.
    pub fn update_status(&mut self, status: HeadStatus, own: bool) -> bool {
        if status == HeadStatus::InSync {
            self.out_of_sync_probes = 0;
            self.status = HeadStatus::InSync;
            return false;
        }
        self.out_of_sync_probes += u32::from(own);
        let confirmed = self.out_of_sync_probes >= LAG_PROBES || self.status != HeadStatus::InSync;
        if confirmed {
            self.status = status;
        }
        confirmed
    }
}
