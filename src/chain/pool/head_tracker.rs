//! Where an endpoint is on the chain: the head it showed, and how that stands to the others' heads.

use super::{head_consensus::ObservedHead, health_policy::HeadStatus};
use crate::chain::Header;
use std::time::Duration;
use tokio::time::Instant;

/// A head is out of step when so many of the endpoint's own probes in a row say so: two endpoints are never asked at the same instant.
const LAG_PROBES: u32 = 2;
/// A head that is older than this, two probes and a slow answer, is not compared with others.
const MAX_HEAD_AGE: Duration = Duration::from_secs(3);
/// Heads without a parent in a row that make it doubted.
const MAX_PARENTLESS_HEADS: u32 = 3;

/// What one endpoint showed of the chain.
#[derive(Debug)]
pub struct HeadTracker {
    head: Option<ObservedHead>,
    /// When a probe was last answered.
    last_probe: Option<Instant>,
    /// The highest number it has shown.
    highest_number: u64,
    status: HeadStatus,
    /// How many probes in a row showed a head out of step.
    out_of_sync_probes: u32,
    /// How often in a row it could not show the block before its head.
    parentless_heads: u32,
}

impl HeadTracker {
    /// Nothing was shown yet.
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

    /// A probe was answered with this head, plausible or not.
    pub fn record_probe(&mut self, header: Header, plausible: bool, now: Instant) {
        let since = self.head.filter(|seen| seen.header.block.hash == header.block.hash).map_or(now, |seen| seen.since);
        self.head = Some(ObservedHead { header, since, plausible });
        self.last_probe = Some(now);
        self.record_block(header.block.number);
    }

    /// It showed a block of this number.
    pub fn record_block(&mut self, number: u64) {
        self.highest_number = self.highest_number.max(number);
    }

    /// The chain's head fell: what it showed before counts no more.
    pub fn reset_highest_number(&mut self) {
        self.highest_number = self.head.map_or(0, |seen| seen.header.block.number);
    }

    /// Its last head, however long ago.
    pub fn last_head(&self) -> Option<Header> {
        self.head.map(|seen| seen.header)
    }

    /// Its head, if it has shown one just now.
    pub fn fresh_head(&self, now: Instant) -> Option<ObservedHead> {
        let fresh = self.last_probe.is_some_and(|probed| now.saturating_duration_since(probed) < MAX_HEAD_AGE);
        self.head.filter(|_| fresh)
    }

    /// The highest number it has shown since the chain's head last fell.
    pub fn highest_number(&self) -> u64 {
        self.highest_number
    }

    /// How its head stands to the others', as far as it is known for sure.
    pub fn status(&self) -> HeadStatus {
        self.status
    }

    /// Somebody asked for the block before its head: whether it could show it. A load balancer may ask another node for it, so
    /// that only the third time in a row counts. Returns whether its head cannot be.
    pub fn record_parent_check(&mut self, shown: bool) -> bool {
        self.parentless_heads = if shown { 0 } else { self.parentless_heads + 1 };
        let orphaned = self.parentless_heads >= MAX_PARENTLESS_HEADS;
        if orphaned {
            self.out_of_sync_probes = LAG_PROBES;
        }
        orphaned
    }

    /// How its head stands to the others'. `own` says that the word is about a head that it has just shown. Returns whether it
    /// is out of step for sure.
    pub fn update_status(&mut self, standing: HeadStatus, own: bool) -> bool {
        if standing == HeadStatus::InSync {
            self.out_of_sync_probes = 0;
            self.status = HeadStatus::InSync;
            return false;
        }
        self.out_of_sync_probes += u32::from(own);
        let sure = self.out_of_sync_probes >= LAG_PROBES || self.status != HeadStatus::InSync;
        if sure {
            self.status = standing;
        }
        sure
    }
}
