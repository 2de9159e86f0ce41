//! Follows the chain for all senders: inclusion, confirmations, reorgs and finality.
//!
//! A poll reads the head and, for each signer with pending transactions, its nonce. Receipts are read only for
//! transactions whose nonce the chain has consumed, and headers only for blocks at confirmation depth, so that the
//! number of calls does not grow with the number of pending transactions. Receipts contain the contract's events;
//! no `eth_getLogs` over a range is needed.
//!
//! Each poll has three phases: `observe` reads; `detect_reorg` and [`classify`] decide about the chain and each pending
//! transaction; `act` writes, sends and notifies.
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

mod canonical_view;
mod classify;
mod comparison;
mod contradiction;
mod finality;
mod missing_blocks;
mod receipts;
pub(super) mod tracking_depth;

use super::{
    blockers::SenderBlockers,
    error::PollError,
    follower_inbox::FollowerInbox,
    head::HeadWatch,
    import_unknown::Importer,
    in_flight::{PendingTx, PendingTxs},
    observations::persist_observations,
    queue::Queue,
    rebroadcast::rebroadcast,
    resume::Tracker,
    settings::Settings,
    waiters::Waiters,
};
use crate::{
    chain::{Backoff, CallError, Chain, Header},
    registration::Block,
    store::{Store, UnfinalizedBlock},
    telemetry::OngoingCondition,
};
use alloy::primitives::Address;
use canonical_view::CanonicalView;
use classify::{ChainSwitch, TxAction, classify};
use contradiction::{AskTimer, Disagreement};
use futures_util::future::try_join_all;
use missing_blocks::MissingBlocks;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// While transactions are pending: half of Base's block time of 200 ms, and well below the 250 ms that an answer may
/// take.
const BUSY_POLL: Duration = Duration::from_millis(100);
/// While none is pending. Such a poll makes no call, except when the finality of the last blocks is due.
const IDLE_POLL: Duration = Duration::from_secs(2);
/// A node may have dropped a transaction that no block includes.
const REBROADCAST_INTERVAL: Duration = Duration::from_secs(3);

/// What the follower uses.
#[derive(Debug)]
pub(super) struct FollowerParts {
    pub(super) chain: Chain,
    pub(super) store: Store,
    pub(super) settings: Arc<Settings>,
    pub(super) in_flight: Arc<PendingTxs>,
    pub(super) waiters: Waiters,
    pub(super) queue: Queue,
    pub(super) head: HeadWatch,
    pub(super) blockers: SenderBlockers,
    pub(super) follower_inbox: FollowerInbox,
    pub(super) tracker: Tracker,
    pub(super) importer: Importer,
}

#[derive(Debug)]
pub(super) struct Follower {
    parts: FollowerParts,
    /// Blocks of confirmed transactions, verified as canonical.
    unfinalized: Vec<UnfinalizedBlock>,
    /// Whether the store may have unfinalized blocks below `MAX_TRACKED_DEPTH`.
    has_untracked_deep: bool,
    /// Blocks that came with a lease or were found by a sender, before this process has verified them.
    unverified: Vec<UnfinalizedBlock>,
    last_finality_poll: Option<Instant>,
    /// The newest head that is known to descend from every block in `unfinalized`; `None` before the first poll.
    verified_head: Option<Header>,
    /// The chain's count of head regressions at `verified_head`.
    head_regressions: u64,
    missing_blocks: MissingBlocks,
    contradictions: AskTimer,
    taken_nonces: AskTimer,
    disagreement: Disagreement,
    /// The rebroadcasts that the last poll with any has started. They run beside the polls, because a node that does
    /// not answer must not delay a poll.
    rebroadcasts: JoinSet<()>,
}

/// What one poll reads before it decides anything.
struct Observation {
    /// Read before the head, so that a regression in between counts for the next poll.
    head_regressions: u64,
    head: Header,
    nonces: BTreeMap<Address, u64>,
}

type SharedPendingTx = Arc<PendingTx>;

impl Follower {
    pub(super) fn new(parts: FollowerParts) -> Self {
        Self {
            parts,
            unfinalized: Vec::new(),
            has_untracked_deep: true,
            unverified: Vec::new(),
            last_finality_poll: None,
            verified_head: None,
            head_regressions: 0,
            missing_blocks: MissingBlocks::default(),
            contradictions: AskTimer::new(),
            taken_nonces: AskTimer::new(),
            disagreement: Disagreement::none(),
            rebroadcasts: JoinSet::new(),
        }
    }

    /// Polls until `stop`, and ends between two polls.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        let failing = OngoingCondition::new();
        let mut pending_changes = self.parts.in_flight.subscribe();
        let mut fee_waiters = self.parts.blockers.subscribe_fee_waiters();
        while !stop.is_cancelled() {
            let result = self.poll().await;
            self.parts.follower_inbox.on_polled();
            let pause = match result {
                Ok(()) => {
                    backoff.reset();
                    if let Some(lasted) = failing.clear() {
                        info!(seconds = lasted.as_secs(), "chain polling recovered");
                    }
                    if self.is_idle() { IDLE_POLL } else { BUSY_POLL }
                }
                Err(error) => {
                    if error.is_reported_elsewhere() || !failing.start() {
                        debug!(error = %error, "poll failed");
                    } else {
                        warn!(error = %error, "poll failed, retrying");
                    }
                    backoff.next_delay()
                }
            };
            let sleep = tokio::time::sleep(pause);
            if self.is_idle() {
                // The first transaction after an idle period must not wait for the idle interval.
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep => {}
                    _ = pending_changes.changed() => tokio::time::sleep(BUSY_POLL / 4).await,
                    _ = fee_waiters.changed() => {}
                }
            } else {
                stop.run_until_cancelled(sleep).await;
            }
            pending_changes.mark_unchanged();
            fee_waiters.mark_unchanged();
        }
    }

    /// Whether no transaction is pending, no block has to be verified, and no sender waits for lower fees.
    fn is_idle(&self) -> bool {
        self.unverified.is_empty()
            && self.parts.follower_inbox.is_empty()
            && self.parts.in_flight.is_empty()
            && *self.parts.blockers.subscribe_fee_waiters().borrow() == 0
    }

    async fn poll(&mut self) -> Result<(), PollError> {
        let pending = self.parts.in_flight.all();
        if self.is_idle() && !self.is_finality_poll_due() {
            return Ok(self.update_idle_head().await?);
        }
        let observed = self.observe(&pending).await?;
        let head_regressed = observed.head_regressions != self.head_regressions;
        let (chain, missing_blocks) = (self.parts.chain.clone(), self.missing_blocks.clone());
        let mut canonical = CanonicalView::new(chain, observed.head, head_regressed, missing_blocks);

        let chain_switch = self.detect_reorg(&mut canonical).await?;
        let confirmations = self.parts.settings.confirmations;
        let decide = |tx: SharedPendingTx| {
            let is_nonce_consumed = observed.nonces.get(&tx.signer).is_some_and(|nonce| *nonce > tx.nonce);
            let phase = tx.status().phase();
            let at_confirmation_depth = |block: &Block| canonical.depth(block.number) >= confirmations;
            (classify(phase, is_nonce_consumed, chain_switch, at_confirmation_depth), tx)
        };
        let actions = pending.into_iter().map(decide).collect();

        self.act(chain_switch, actions, &observed, &mut canonical).await
    }

    /// The head of the last health probe is recent enough while nothing is tracked.
    async fn update_idle_head(&self) -> Result<(), CallError> {
        let head = match self.parts.chain.last_probed_head() {
            Some(head) => head,
            None => self.parts.chain.head().await?,
        };
        self.parts.head.update(head);
        Ok(())
    }

    async fn observe(&self, pending: &[SharedPendingTx]) -> Result<Observation, CallError> {
        let chain = &self.parts.chain;
        let head_regressions = chain.head_regressions();
        let signers: BTreeSet<Address> = pending.iter().map(|tx| tx.signer).collect();
        let nonces = try_join_all(
            signers.into_iter().map(|signer| async move { Ok::<_, CallError>((signer, chain.nonce(signer).await?)) }),
        );
        let (head, nonces) = tokio::try_join!(chain.head(), nonces)?;
        self.parts.head.update(head);
        Ok(Observation { head_regressions, head, nonces: nonces.into_iter().collect() })
    }

    /// Whether the last verified head is still canonical.
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

    async fn act(
        &mut self,
        chain_switch: ChainSwitch,
        actions: Vec<(TxAction, SharedPendingTx)>,
        observed: &Observation,
        canonical: &mut CanonicalView,
    ) -> Result<(), PollError> {
        // Before anything is confirmed, so that all confirmed blocks are on one branch.
        let undecided = match chain_switch {
            ChainSwitch::Switched => self.revert_reorged(canonical).await?,
            ChainSwitch::Same | ChainSwitch::Unknown => 0,
        };
        canonical.is_consistent = chain_switch != ChainSwitch::Unknown && undecided == 0;
        if canonical.is_consistent {
            self.start_tracking(canonical).await?;
        }
        let (mut consumed, mut unseen) = (Vec::new(), Vec::new());
        for (action, tx) in actions {
            match action {
                TxAction::Wait => {}
                TxAction::FindReceipt => consumed.push(tx),
                TxAction::Rebroadcast => {
                    tx.status().clear_nonce_consumed();
                    persist_observations(&tx, &self.parts.store).await;
                    unseen.push(tx);
                }
                TxAction::CheckBlock { block, hash, at_confirmation_depth } => {
                    self.confirm_or_revert(&tx, (block, hash), at_confirmation_depth, canonical).await?;
                }
            }
        }
        // Not before every included transaction was checked: after an error the next poll finds the same reorg again.
        if canonical.is_consistent {
            self.verified_head = Some(observed.head);
            self.head_regressions = observed.head_regressions;
        }
        self.rebroadcast_unseen(unseen);
        self.resolve_consumed_nonces(consumed, canonical).await?;
        match chain_switch {
            ChainSwitch::Same | ChainSwitch::Switched => self.check_finality(canonical).await,
            ChainSwitch::Unknown => Ok(()),
        }
    }

    /// The answers are only recorded: whether a block includes the transaction decides.
    fn rebroadcast_unseen(&mut self, unseen: Vec<SharedPendingTx>) {
        while self.rebroadcasts.try_join_next().is_some() {}
        if !self.rebroadcasts.is_empty() {
            return;
        }
        for tx in unseen {
            let due = tx.status().start_rebroadcast(Instant::now(), REBROADCAST_INTERVAL);
            if due {
                self.spawn_rebroadcast(tx);
            }
        }
    }

    fn spawn_rebroadcast(&mut self, tx: SharedPendingTx) {
        let (chain, store) = (self.parts.chain.clone(), self.parts.store.clone());
        self.rebroadcasts.spawn(async move { rebroadcast(&tx, &chain, &store).await });
    }
}
