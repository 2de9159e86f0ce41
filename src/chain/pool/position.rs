//! Where an endpoint is on the chain: the head it showed, and how that stands to the others' heads.

use super::{heads::Seen, judge::Standing};
use crate::chain::Header;
use std::time::Duration;
use tokio::time::Instant;

/// A head is out of step when so many of the endpoint's own probes in a row say so: two endpoints are never asked at the same instant.
const OUT_OF_STEP: u32 = 2;
/// A head that is older than this, two probes and a slow answer, is not compared with others.
const FRESH: Duration = Duration::from_secs(3);
/// Heads without a parent in a row that make it doubted.
const ORPHANS: u32 = 3;

/// What one endpoint showed of the chain.
#[derive(Debug)]
pub struct Position {
    head: Option<Seen>,
    /// When a probe was last answered.
    probed: Option<Instant>,
    /// The highest number it has shown.
    highest: u64,
    standing: Standing,
    /// How many probes in a row showed a head out of step.
    out_of_step: u32,
    /// How often in a row it could not show the block before its head.
    orphans: u32,
}

impl Position {
    /// Nothing was shown yet.
    pub fn new() -> Self {
        Self { head: None, probed: None, highest: 0, standing: Standing::Level, out_of_step: 0, orphans: 0 }
    }

    /// A probe was answered with this head, plausible or not.
    pub fn probed(&mut self, header: Header, plausible: bool, now: Instant) {
        let since = self.head.filter(|seen| seen.header.block.hash == header.block.hash).map_or(now, |seen| seen.since);
        self.head = Some(Seen { header, since, plausible });
        self.probed = Some(now);
        self.showed(header.block.number);
    }

    /// It showed a block of this number.
    pub fn showed(&mut self, number: u64) {
        self.highest = self.highest.max(number);
    }

    /// The chain's head fell: what it showed before counts no more.
    pub fn fell(&mut self) {
        self.highest = self.head.map_or(0, |seen| seen.header.block.number);
    }

    /// Its last head, however long ago.
    pub fn last(&self) -> Option<Header> {
        self.head.map(|seen| seen.header)
    }

    /// Its head, if it has shown one just now.
    pub fn fresh(&self, now: Instant) -> Option<Seen> {
        let fresh = self.probed.is_some_and(|probed| now.saturating_duration_since(probed) < FRESH);
        self.head.filter(|_| fresh)
    }

    /// The highest number it has shown since the chain's head last fell.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How its head stands to the others', as far as it is known for sure.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Somebody asked for the block before its head: whether it could show it. A load balancer may ask another node for it, so
    /// that only the third time in a row counts. Returns whether its head cannot be.
    pub fn showed_parent(&mut self, shown: bool) -> bool {
        self.orphans = if shown { 0 } else { self.orphans + 1 };
        let orphaned = self.orphans >= ORPHANS;
        if orphaned {
            self.out_of_step = OUT_OF_STEP;
        }
        orphaned
    }

    /// How its head stands to the others'. `own` says that the word is about a head that it has just shown. Returns whether it
    /// is out of step for sure.
    pub fn stands(&mut self, standing: Standing, own: bool) -> bool {
        if standing == Standing::Level {
            self.out_of_step = 0;
            self.standing = Standing::Level;
            return false;
        }
        self.out_of_step += u32::from(own);
        let sure = self.out_of_step >= OUT_OF_STEP || self.standing != Standing::Level;
        if sure {
            self.standing = standing;
        }
        sure
    }
}
