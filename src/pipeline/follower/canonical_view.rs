//! The canonical chain as one poll sees it.

use super::missing_blocks::{MissingBlocks, is_gone_at_quorum};
use crate::{
    chain::{BlockTag, CallError, Chain, Header},
    registration::Block,
};
use alloy::primitives::B256;
use futures_util::future::try_join_all;
use std::collections::{BTreeSet, HashMap};

/// Whether a block is on the canonical chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Canonicity {
    Canonical,
    /// No endpoint of the quorum has it.
    NotCanonical,
    /// An endpoint still has it, or it is not missing for long enough. A later poll asks again.
    Unknown,
}

impl Canonicity {
    fn not_canonical_if(is_gone: bool) -> Self {
        if is_gone { Self::NotCanonical } else { Self::Unknown }
    }
}

/// The headers that one poll has read, each once, and what they prove.
pub(super) struct CanonicalView {
    chain: Chain,
    pub(super) head: Header,
    /// Since the last verified poll. Then a block that no endpoint has is gone at once.
    pub(super) head_regressed: bool,
    headers: HashMap<u64, Option<Header>>,
    confirmed_cache: HashMap<B256, bool>,
    gone_cache: HashMap<B256, bool>,
    missing_blocks: MissingBlocks,
    /// `None` until it is read, and after every header that is read later.
    head_canonical: Option<bool>,
    /// Whether every tracked confirmed block is known to be an ancestor of the head. Until then nothing is confirmed: a
    /// newer block on another branch would count as proof for all below it.
    pub(super) is_consistent: bool,
}

impl CanonicalView {
    pub(super) fn new(chain: Chain, head: Header, head_regressed: bool, missing_blocks: MissingBlocks) -> Self {
        Self {
            chain,
            head,
            head_regressed,
            headers: HashMap::from([(head.block.number, Some(head))]),
            confirmed_cache: HashMap::new(),
            gone_cache: HashMap::new(),
            missing_blocks,
            head_canonical: None,
            is_consistent: false,
        }
    }

    /// Confirmations of a block of this number; the block itself counts as 1.
    pub(super) fn depth(&self, number: u64) -> u64 {
        (self.head.block.number + 1).saturating_sub(number).max(1)
    }

    /// Whether the head is canonical now. The chain keeps the last head until a regression is certain; meanwhile no
    /// depth may be counted from it, and nothing on another branch may be settled. It is read again after each other
    /// header, so that a reorg between two calls is seen.
    pub(super) async fn is_head_canonical(&mut self) -> Result<bool, CallError> {
        if let Some(is_canonical) = self.head_canonical {
            return Ok(is_canonical);
        }
        let header = self.chain.header(BlockTag::Number(self.head.block.number)).await?;
        let is_canonical = header.is_some_and(|header| header.block.hash == self.head.block.hash);
        self.head_canonical = Some(is_canonical);
        Ok(is_canonical)
    }

    /// Reads these headers concurrently.
    pub(super) async fn prefetch_headers(&mut self, numbers: impl IntoIterator<Item = u64>) -> Result<(), CallError> {
        let unread: BTreeSet<u64> = numbers.into_iter().filter(|number| !self.headers.contains_key(number)).collect();
        let chain = &self.chain;
        let reads = unread
            .into_iter()
            .map(|number| async move { Ok::<_, CallError>((number, chain.header(BlockTag::Number(number)).await?)) });
        for (number, header) in try_join_all(reads).await? {
            self.insert_header(number, header);
        }
        self.head_canonical = None;
        Ok(())
    }

    /// Whether a quorum confirms that the block is `confirmations` deep: a single endpoint may be wrong, or lie.
    pub(super) async fn is_confirmed_by_quorum(&mut self, block: &Block, confirmations: u64) -> bool {
        if !self.is_consistent {
            return false;
        }
        if let Some(is_confirmed) = self.confirmed_cache.get(&block.hash) {
            return *is_confirmed;
        }
        let is_confirmed = self.chain.is_confirmed_by_quorum(block, confirmations, self.head.block.number).await;
        self.confirmed_cache.insert(block.hash, is_confirmed);
        is_confirmed
    }

    /// A block counts as lost only when a quorum does not have it and no endpoint that answers has it, and, without a
    /// regression of the head or another block at its height, only when that lasts.
    pub(super) async fn is_canonical(&mut self, number: u64, hash: B256) -> Result<Canonicity, CallError> {
        match self.header(number).await? {
            Some(header) if header.block.hash == hash => Ok(Canonicity::Canonical),
            None if !self.head_regressed => Ok(Canonicity::not_canonical_if(self.is_block_gone(number, hash).await)),
            Some(_) | None => Ok(Canonicity::not_canonical_if(self.chain.is_denied_by_quorum(number, hash).await)),
        }
    }

    /// Whether this block, of which the endpoint has no header, is gone for good.
    pub(super) async fn is_block_gone(&mut self, number: u64, hash: B256) -> bool {
        if number >= self.head.block.number {
            return false;
        }
        if let Some(is_gone) = self.gone_cache.get(&hash) {
            return *is_gone;
        }
        let is_gone = match self.missing_blocks.record_missing(number) {
            None => false,
            Some(missing_for) => is_gone_at_quorum(&self.chain, &self.head, (number, hash), missing_for).await,
        };
        self.gone_cache.insert(hash, is_gone);
        is_gone
    }

    /// The canonical header of this number; `None` when the endpoint has none.
    pub(super) async fn header(&mut self, number: u64) -> Result<Option<Header>, CallError> {
        if let Some(header) = self.headers.get(&number) {
            return Ok(*header);
        }
        let header = self.chain.header(BlockTag::Number(number)).await?;
        self.insert_header(number, header);
        self.head_canonical = None;
        Ok(header)
    }

    fn insert_header(&mut self, number: u64, header: Option<Header>) {
        self.headers.insert(number, header);
        if header.is_some() {
            self.missing_blocks.record_present(number);
        }
    }
}
