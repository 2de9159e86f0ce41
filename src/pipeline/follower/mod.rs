//! Follows the chain for all senders: inclusion, confirmations, reorgs, timeouts and finality.
//!
//! A poll reads the head and, for each signer with pending transactions, its nonce. Receipts are read only for
//! transactions whose nonce the chain has consumed, and headers only for blocks at confirmation depth, so that the
//! number of calls does not grow with the number of pending transactions. Receipts contain the contract's events;
//! no `eth_getLogs` over a range is needed.
//!
//! # Reorgs
//!
//! - `detect_reorg` compares each head with the last verified one: same hash, or parent, or still canonical at its
//!   height.
//! - An *included* transaction is kept in memory. After a reorg, `confirm_or_revert` marks it as submitted again if
//!   its block is not canonical, and the next `rebroadcast_unseen` sends its bytes.
//! - A *confirmed* transaction has left memory; `unfinalized` keeps its block until it is finalized. After a reorg,
//!   `revert_reorged` checks these blocks, the newest first, down to the first that is still canonical.
//!   `revert_confirmed_block` marks a lost transaction of ours as submitted in the store and tracks it again; a
//!   registration that was confirmed by a foreign transaction is queued again.
//! - A block counts as lost only if no endpoint of the quorum has it (`CanonicalView::is_canonical`). Until that is
//!   known, nothing is confirmed and no finality is raised.

mod finality;
mod missing_blocks;
mod receipts;
mod timeouts;
mod tracking_depth;

use super::{
    Context, error::PollError, in_flight::PendingTx, observations::persist_observations, rebroadcast::rebroadcast,
    tx_state::TxPhase,
};
use crate::{
    chain::{Backoff, BlockTag, CallError, Chain, Header},
    registration::Block,
    store::UnfinalizedBlock,
    telemetry::OngoingCondition,
};
use alloy::primitives::{Address, B256};
use futures_util::future::try_join_all;
use missing_blocks::MissingBlocks;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use timeouts::TimeoutWatcher;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
pub(super) use tracking_depth::MAX_TRACKED_DEPTH;

/// Between polls while work is out: half of Base's block time of 200 ms, and well inside the 250 ms that an answer may take.
const BUSY_POLL: Duration = Duration::from_millis(100);
/// Between polls while nothing is out, which ask nothing but, now and then, how final the last blocks are.
const IDLE_POLL: Duration = Duration::from_secs(2);
/// Bytes that no block has taken go out again this often, for a node may have forgotten them.
const REBROADCAST_INTERVAL: Duration = Duration::from_secs(3);

/// Whether the chain that was followed is canonical no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ChainSwitch {
    Same,
    Switched,
    /// The node is behind where it was: asked again with the next poll.
    Unknown,
}

/// The watcher.
#[derive(Debug)]
pub struct Follower {
    context: Context,
    unfinalized: Vec<UnfinalizedBlock>,
    /// Whether there may be blocks that are not final and too deep to be followed.
    has_untracked_deep: bool,
    /// Those that nobody has looked at here yet.
    unverified: Vec<UnfinalizedBlock>,
    last_finality_poll: Option<Instant>,
    /// The newest head whose chain holds every block that is followed; `None` before the first poll.
    verified_head: Option<Header>,
    /// How often the head had fallen when everything was last looked at.
    head_regressions: u64,
    /// Blocks below the head that nobody shows.
    missing_blocks: MissingBlocks,
    /// The broadcasts of the last poll that had some: a node that does not answer them must not hold up the next polls.
    rebroadcasts: JoinSet<()>,
}

impl Follower {
    /// A watcher; whoever takes a lease hands over what there is to be watched.
    pub fn new(tools: Context) -> Self {
        Self {
            context: tools,
            unfinalized: Vec::new(),
            has_untracked_deep: true,
            unverified: Vec::new(),
            last_finality_poll: None,
            verified_head: None,
            head_regressions: 0,
            missing_blocks: MissingBlocks::default(),
            rebroadcasts: JoinSet::new(),
        }
    }

    /// Watches until `stop`; ends between two polls. The clock runs beside the polls, for neither may hold up the other.
    pub async fn run(self, stop: CancellationToken) {
        let clocks = TimeoutWatcher::new(self.context.clone());
        tokio::join!(clocks.run(&stop), self.poll_loop(&stop));
    }

    async fn poll_loop(mut self, stop: &CancellationToken) {
        let mut delays = Backoff::new();
        let hindered = OngoingCondition::new();
        let mut changes = self.context.in_flight.subscribe();
        let mut wanted = self.context.blockers.subscribe_fee_waiters();
        while !stop.is_cancelled() {
            let polled = self.poll().await;
            self.context.follower_inbox.on_polled();
            let pause = match polled {
                Ok(()) => {
                    delays.reset();
                    if let Some(lasted) = hindered.clear() {
                        info!(seconds = lasted.as_secs(), "the follower finishes its polls again");
                    }
                    if self.is_idle() { IDLE_POLL } else { BUSY_POLL }
                }
                Err(error) => {
                    if error.is_reported_elsewhere() || !hindered.start() {
                        debug!(error = %error, "the follower could not finish a poll");
                    } else {
                        warn!(error = %error, "the follower could not finish a poll, and goes on trying");
                    }
                    delays.next_delay()
                }
            };
            let next = tokio::time::sleep(pause);
            if self.is_idle() {
                // The first transaction after a quiet time must not wait for the slow poll.
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = next => {}
                    _ = changes.changed() => tokio::time::sleep(BUSY_POLL / 4).await,
                    _ = wanted.changed() => {}
                }
            } else {
                stop.run_until_cancelled(next).await;
            }
            changes.mark_unchanged();
            wanted.mark_unchanged();
        }
    }

    /// Whether nothing is followed, nothing came with a lease, and nobody waits for the head's fees to fall.
    fn is_idle(&self) -> bool {
        let nothing_came = self.unverified.is_empty() && self.context.follower_inbox.is_empty();
        nothing_came
            && self.context.in_flight.is_empty()
            && *self.context.blockers.subscribe_fee_waiters().borrow() == 0
    }

    async fn poll(&mut self) -> Result<(), PollError> {
        let flights = self.context.in_flight.all();
        if self.is_idle() && !self.is_finality_poll_due() {
            // Nothing is followed: the probes' head is fresh enough for whoever wants to know it, once there is one.
            let head = match self.context.chain.last_probed_head() {
                Some(head) => head,
                None => self.context.chain.head().await?,
            };
            self.context.head.update(head);
            return Ok(());
        }
        let falls = self.context.chain.head_regressions();
        let signers: BTreeSet<Address> = flights.iter().map(|flight| flight.signer).collect();
        let nonces = try_join_all(
            signers
                .iter()
                .map(|signer| async { Ok::<_, CallError>((*signer, self.context.chain.nonce(*signer).await?)) }),
        );
        let (head, nonces) = tokio::try_join!(self.context.chain.head(), nonces)?;
        let nonces: BTreeMap<Address, u64> = nonces.into_iter().collect();
        self.context.head.update(head);

        let mut canonical =
            CanonicalView::new(self.context.chain.clone(), head, falls != self.head_regressions, &self.missing_blocks);
        let left = self.detect_reorg(&mut canonical).await?;
        // Before anything new is confirmed or taken over, so that what is confirmed is always on one line.
        let known = left != ChainSwitch::Switched || self.revert_reorged(&mut canonical).await?;
        canonical.is_consistent = left != ChainSwitch::Unknown && known;
        if canonical.is_consistent {
            self.start_tracking(&mut canonical).await?;
        }
        let (mut passed, mut unseen) = (Vec::new(), Vec::new());
        for flight in flights {
            let consumed = nonces.get(&flight.signer).is_some_and(|nonce| *nonce > flight.nonce);
            let phase = flight.status().phase();
            match phase {
                TxPhase::Signed | TxPhase::Submitted if consumed => passed.push(flight),
                TxPhase::Submitted => {
                    flight.status().clear_nonce_consumed();
                    persist_observations(&flight, &self.context.store).await;
                    unseen.push(flight);
                }
                TxPhase::Signed => {}
                TxPhase::Included { block, hash } => {
                    let deep = self.depth(block.number, &canonical) >= self.context.settings.confirmations;
                    if deep || left != ChainSwitch::Same {
                        self.confirm_or_revert(&flight, (block, hash), deep, &mut canonical).await?;
                    }
                }
            }
        }
        if canonical.is_consistent {
            self.verified_head = Some(head);
            self.head_regressions = falls;
        }
        self.rebroadcast_unseen(unseen);
        self.resolve_consumed_nonces(passed, &mut canonical).await?;
        match left {
            ChainSwitch::Same | ChainSwitch::Switched => self.check_finality(&mut canonical).await,
            ChainSwitch::Unknown => Ok(()),
        }
    }

    /// Whether the chain of the last head was left for another one, so that what is followed has to be looked at again.
    async fn detect_reorg(&self, canonical: &mut CanonicalView) -> Result<ChainSwitch, CallError> {
        let Some(last) = self.verified_head.filter(|_| !canonical.head_regressed) else {
            return Ok(ChainSwitch::Switched);
        };
        if [canonical.head.block.hash, canonical.head.parent_hash].contains(&last.block.hash) {
            return Ok(ChainSwitch::Same);
        }
        Ok(match canonical.header(last.block.number).await? {
            Some(header) if header.block.hash == last.block.hash => ChainSwitch::Same,
            Some(_) => ChainSwitch::Switched,
            None if canonical.is_block_gone(last.block.number, last.block.hash).await => ChainSwitch::Switched,
            None => ChainSwitch::Unknown,
        })
    }

    /// The same bytes again, in case the node forgot them. What it answers changes nothing: the chain decides.
    fn rebroadcast_unseen(&mut self, unseen: Vec<SharedPendingTx>) {
        while self.rebroadcasts.try_join_next().is_some() {}
        if !self.rebroadcasts.is_empty() {
            return;
        }
        for flight in unseen {
            let due = flight.status().start_rebroadcast(Instant::now(), REBROADCAST_INTERVAL);
            if due {
                let (chain, store) = (self.context.chain.clone(), self.context.store.clone());
                self.rebroadcasts.spawn(async move { rebroadcast(&flight, &chain, &store).await });
            }
        }
    }
}

/// The canonical headers that one poll has asked for, each once.
pub(super) struct CanonicalView {
    chain: Chain,
    head: Header,
    /// Whether the head fell since the last look: then a block that nobody has is gone.
    head_regressed: bool,
    headers: HashMap<u64, Option<Header>>,
    /// Whether the endpoints agree about a block and its depth.
    quorum_cache: HashMap<B256, bool>,
    /// Whether blocks are gone that are not shown.
    gone_cache: HashMap<B256, bool>,
    missing_blocks: MissingBlocks,
    /// Whether the head is shown as canonical; `None` until that is asked.
    head_canonical: Option<bool>,
    /// Whether everything confirmed that is followed is known to be on the head's line. As long as it is not, nothing more is confirmed:
    /// what is newer and on another line would speak for it.
    is_consistent: bool,
}

impl CanonicalView {
    fn new(chain: Chain, head: Header, fallen: bool, unshown: &MissingBlocks) -> Self {
        let headers = HashMap::from([(head.block.number, Some(head))]);
        let (agreed, gone) = (HashMap::new(), HashMap::new());
        Self {
            chain,
            head,
            head_regressed: fallen,
            headers,
            quorum_cache: agreed,
            gone_cache: gone,
            missing_blocks: unshown.clone(),
            head_canonical: None,
            is_consistent: false,
        }
    }

    /// Whether the head is canonical now. The one that was believed last counts until it has fallen for certain, and meanwhile depth
    /// must not be counted from it, nor may anything be settled that stands on another line. It is asked for again after every
    /// header that was, so that a reorg between two questions is seen.
    async fn is_head_canonical(&mut self) -> Result<bool, CallError> {
        if let Some(stands) = self.head_canonical {
            return Ok(stands);
        }
        let shown = self.chain.header(BlockTag::Number(self.head.block.number)).await?;
        let stands = shown.is_some_and(|shown| shown.block.hash == self.head.block.hash);
        self.head_canonical = Some(stands);
        Ok(stands)
    }

    /// Asks for these headers at once, so that [`Self::header`] has them.
    async fn prefetch_headers(&mut self, numbers: impl IntoIterator<Item = u64>) -> Result<(), CallError> {
        let unknown: BTreeSet<u64> = numbers.into_iter().filter(|number| !self.headers.contains_key(number)).collect();
        let chain = &self.chain;
        let asked = unknown
            .into_iter()
            .map(|number| async move { Ok::<_, CallError>((number, chain.header(BlockTag::Number(number)).await?)) });
        for (number, header) in try_join_all(asked).await? {
            self.insert_header(number, header);
        }
        self.head_canonical = None;
        Ok(())
    }

    /// Whether the endpoints agree that a block is `confirmations` deep: one of them alone may be mistaken, or lie.
    async fn has_quorum(&mut self, block: &Block, confirmations: u64) -> bool {
        if !self.is_consistent {
            return false;
        }
        if let Some(agreed) = self.quorum_cache.get(&block.hash) {
            return *agreed;
        }
        let agreed = self.chain.has_quorum(block, confirmations, self.head.block.number).await;
        self.quorum_cache.insert(block.hash, agreed);
        agreed
    }

    /// Whether a block is canonical; `None` when that cannot be said just now. As long as one healthy endpoint still shows it, it is
    /// not taken back on another one's word; one that nobody shows is, when that stays so.
    async fn is_canonical(&mut self, number: u64, hash: B256) -> Result<Option<bool>, CallError> {
        match self.header(number).await? {
            Some(header) if header.block.hash == hash => Ok(Some(true)),
            None if !self.head_regressed => Ok(self.is_block_gone(number, hash).await.then_some(false)),
            Some(_) | None => Ok((!self.chain.any_endpoint_has_block(number, hash).await).then_some(false)),
        }
    }

    /// The canonical header of this number; `None` when the node has none.
    async fn header(&mut self, number: u64) -> Result<Option<Header>, CallError> {
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

type SharedPendingTx = Arc<PendingTx>;
