//! One watcher of the chain for everybody: inclusion, confirmations, reorgs, timeouts, finality.
//!
//! A poll asks for the head and, for each signer with work out, its nonce; everything else is asked only when a nonce has
//! passed or a block has become deep enough. So the calls do not grow with what is in flight. The receipts hold the events of
//! our contract, so that no `eth_getLogs` over a range is needed.

mod clock;
mod finality;
mod horizon;
mod settle;
mod unshown;

use super::{
    Tools,
    flights::{Flight, Phase, lock},
};
use crate::{
    chain::{BlockTag, CallError, Chain, Delays, Header},
    registration::Block,
    store::{StoreError, UnfinalizedBlock},
};
use alloy::primitives::{Address, B256};
use clock::Clocks;
use futures_util::future::try_join_all;
pub(super) use horizon::DEEPEST;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use unshown::Unshown;

/// Between polls while work is out: half of Base's block time of 200 ms, and well inside the 250 ms that an answer may take.
const BUSY_POLL: Duration = Duration::from_millis(100);
/// Between polls while nothing is out, which ask nothing but, now and then, how final the last blocks are.
const IDLE_POLL: Duration = Duration::from_secs(2);
/// The longest time between polls while nobody answers.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Bytes that no block has taken go out again this often, for a node may have forgotten them.
const REBROADCAST: Duration = Duration::from_secs(3);

/// Whether the chain that was followed is canonical no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    No,
    Yes,
    /// The node is behind where it was: asked again with the next poll.
    Unknown,
}

/// Why a poll did not finish; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// Nobody answers.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The watcher.
#[derive(Debug)]
pub struct Follower {
    tools: Tools,
    unfinalized: Vec<UnfinalizedBlock>,
    /// Whether there may be blocks that are not final and too deep to be followed.
    left_behind: bool,
    /// Those that nobody has looked at here yet.
    arrived: Vec<UnfinalizedBlock>,
    finality_looked: Option<Instant>,
    /// The newest head whose chain holds every block that is followed; `None` before the first poll.
    followed: Option<Header>,
    /// How often the head had fallen when everything was last looked at.
    falls: u64,
    /// Blocks below the head that nobody shows.
    unshown: Unshown,
    /// The broadcasts of the last poll that had some: a node that does not answer them must not hold up the next polls.
    rebroadcasts: JoinSet<()>,
}

impl Follower {
    /// A watcher; whoever takes a lease hands over what there is to be watched.
    pub fn new(tools: Tools) -> Self {
        Self {
            tools,
            unfinalized: Vec::new(),
            left_behind: true,
            arrived: Vec::new(),
            finality_looked: None,
            followed: None,
            falls: 0,
            unshown: Unshown::default(),
            rebroadcasts: JoinSet::new(),
        }
    }

    /// Watches until `stop`; ends between two polls. The clock runs beside the polls, for neither may hold up the other.
    pub async fn run(self, stop: CancellationToken) {
        let clocks = Clocks::new(self.tools.clone());
        tokio::join!(clocks.run(&stop), self.watch(&stop));
    }

    async fn watch(mut self, stop: &CancellationToken) {
        let mut delays = Delays::up_to(LONGEST_PAUSE);
        let mut changes = self.tools.flights.changes();
        let mut wanted = self.tools.standings.wanted();
        while !stop.is_cancelled() {
            let polled = self.poll().await;
            self.tools.polls.send_modify(|count| *count += 1);
            let pause = match polled {
                Ok(()) => {
                    delays.reset();
                    if self.is_idle() { IDLE_POLL } else { BUSY_POLL }
                }
                Err(error) => {
                    warn!(error = %error, "the follower could not finish a poll");
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
        let nothing_came = self.arrived.is_empty() && lock(&self.tools.found).is_empty();
        nothing_came && self.tools.flights.is_empty() && *self.tools.standings.wanted().borrow() == 0
    }

    async fn poll(&mut self) -> Result<(), PollError> {
        let flights = self.tools.flights.all();
        if self.is_idle() && !self.finality_is_due() {
            // Nothing is followed: the probes' head is fresh enough for whoever wants to know it, once there is one.
            let head = match self.tools.chain.probed_head() {
                Some(head) => head,
                None => self.tools.chain.head().await?,
            };
            self.tools.see_head(head);
            return Ok(());
        }
        let falls = self.tools.chain.falls();
        let signers: BTreeSet<Address> = flights.iter().map(|flight| flight.signer).collect();
        let nonces = try_join_all(
            signers
                .iter()
                .map(|signer| async { Ok::<_, CallError>((*signer, self.tools.chain.nonce(*signer).await?)) }),
        );
        let (head, nonces) = tokio::try_join!(self.tools.chain.head(), nonces)?;
        let nonces: BTreeMap<Address, u64> = nonces.into_iter().collect();
        self.tools.see_head(head);

        let mut canonical = Canonical::new(self.tools.chain.clone(), head, falls != self.falls, &self.unshown);
        let left = self.chain_was_left(&mut canonical).await?;
        // Before anything new is confirmed or taken over, so that what is confirmed is always on one line.
        let known = left != Left::Yes || self.demote_unfinalized(&mut canonical).await?;
        canonical.is_one_line = left != Left::Unknown && known;
        if canonical.is_one_line {
            self.take_over(&mut canonical).await?;
        }
        let (mut passed, mut unseen) = (Vec::new(), Vec::new());
        for flight in flights {
            let consumed = nonces.get(&flight.signer).is_some_and(|nonce| *nonce > flight.nonce);
            let phase = flight.progress().phase;
            match phase {
                Phase::Signed | Phase::Submitted if consumed => passed.push(flight),
                Phase::Submitted => {
                    flight.progress().is_not_missing();
                    unseen.push(flight);
                }
                Phase::Signed => {}
                Phase::Included { block, hash } => {
                    let deep = self.depth(block.number, &canonical) >= self.tools.settings.confirmations;
                    if deep || left != Left::No {
                        self.confirm_or_demote(&flight, (block, hash), deep, &mut canonical).await?;
                    }
                }
            }
        }
        if canonical.is_one_line {
            self.followed = Some(head);
            self.falls = falls;
        }
        self.rebroadcast(unseen);
        self.look_for(passed, &mut canonical).await?;
        match left {
            Left::No | Left::Yes => self.check_finality(&mut canonical).await,
            Left::Unknown => Ok(()),
        }
    }

    /// Whether the chain of the last head was left for another one, so that what is followed has to be looked at again.
    async fn chain_was_left(&self, canonical: &mut Canonical) -> Result<Left, CallError> {
        let Some(last) = self.followed.filter(|_| !canonical.fallen) else { return Ok(Left::Yes) };
        if [canonical.head.block.hash, canonical.head.parent_hash].contains(&last.block.hash) {
            return Ok(Left::No);
        }
        Ok(match canonical.header(last.block.number).await? {
            Some(header) if header.block.hash == last.block.hash => Left::No,
            Some(_) => Left::Yes,
            None if canonical.is_gone(last.block.number, last.block.hash).await => Left::Yes,
            None => Left::Unknown,
        })
    }

    /// The same bytes again, in case the node forgot them. What it answers changes nothing: the chain decides.
    fn rebroadcast(&mut self, unseen: Vec<SharedFlight>) {
        while self.rebroadcasts.try_join_next().is_some() {}
        if !self.rebroadcasts.is_empty() {
            return;
        }
        for flight in unseen {
            let due = flight.progress().broadcast.is_none_or(|at| at.elapsed() >= REBROADCAST);
            if due {
                flight.progress().broadcast = Some(Instant::now());
                let tools = self.tools.clone();
                self.rebroadcasts.spawn(async move { flight.rebroadcast(&tools).await });
            }
        }
    }
}

/// The canonical headers that one poll has asked for, each once.
pub(super) struct Canonical {
    chain: Chain,
    head: Header,
    /// Whether the head fell since the last look: then a block that nobody has is gone.
    fallen: bool,
    headers: HashMap<u64, Option<Header>>,
    /// Whether the endpoints agree about a block and its depth.
    agreed: HashMap<B256, bool>,
    /// Whether blocks are gone that are not shown.
    gone: HashMap<B256, bool>,
    unshown: Unshown,
    /// Whether the head is shown as canonical; `None` until that is asked.
    head_stands: Option<bool>,
    /// Whether everything confirmed that is followed is known to be on the head's line. As long as it is not, nothing more is confirmed:
    /// what is newer and on another line would speak for it.
    is_one_line: bool,
}

impl Canonical {
    fn new(chain: Chain, head: Header, fallen: bool, unshown: &Unshown) -> Self {
        let headers = HashMap::from([(head.block.number, Some(head))]);
        let (agreed, gone) = (HashMap::new(), HashMap::new());
        Self {
            chain,
            head,
            fallen,
            headers,
            agreed,
            gone,
            unshown: unshown.clone(),
            head_stands: None,
            is_one_line: false,
        }
    }

    /// Whether the head is canonical now. The one that was believed last counts until it has fallen for certain, and meanwhile depth
    /// must not be counted from it, nor may anything be settled that stands on another line. It is asked for again after every
    /// header that was, so that a reorg between two questions is seen.
    async fn head_stands(&mut self) -> Result<bool, CallError> {
        if let Some(stands) = self.head_stands {
            return Ok(stands);
        }
        let shown = self.chain.header(BlockTag::Number(self.head.block.number)).await?;
        let stands = shown.is_some_and(|shown| shown.block.hash == self.head.block.hash);
        self.head_stands = Some(stands);
        Ok(stands)
    }

    /// Asks for these headers at once, so that [`Self::header`] has them.
    async fn fetch(&mut self, numbers: impl IntoIterator<Item = u64>) -> Result<(), CallError> {
        let unknown: BTreeSet<u64> = numbers.into_iter().filter(|number| !self.headers.contains_key(number)).collect();
        let chain = &self.chain;
        let asked = unknown
            .into_iter()
            .map(|number| async move { Ok::<_, CallError>((number, chain.header(BlockTag::Number(number)).await?)) });
        for (number, header) in try_join_all(asked).await? {
            self.learn(number, header);
        }
        self.head_stands = None;
        Ok(())
    }

    /// Whether the endpoints agree that a block is `confirmations` deep: one of them alone may be mistaken, or lie.
    async fn is_agreed(&mut self, block: &Block, confirmations: u64) -> bool {
        if !self.is_one_line {
            return false;
        }
        if let Some(agreed) = self.agreed.get(&block.hash) {
            return *agreed;
        }
        let agreed = self.chain.is_agreed(block, confirmations, self.head.block.number).await;
        self.agreed.insert(block.hash, agreed);
        agreed
    }

    /// Whether a block is canonical; `None` when that cannot be said just now. As long as one healthy endpoint still shows it, it is
    /// not taken back on another one's word; one that nobody shows is, when that stays so.
    async fn holds(&mut self, number: u64, hash: B256) -> Result<Option<bool>, CallError> {
        match self.header(number).await? {
            Some(header) if header.block.hash == hash => Ok(Some(true)),
            None if !self.fallen => Ok(self.is_gone(number, hash).await.then_some(false)),
            Some(_) | None => Ok((!self.chain.is_shown(number, hash).await).then_some(false)),
        }
    }

    /// The canonical header of this number; `None` when the node has none.
    async fn header(&mut self, number: u64) -> Result<Option<Header>, CallError> {
        if let Some(header) = self.headers.get(&number) {
            return Ok(*header);
        }
        let header = self.chain.header(BlockTag::Number(number)).await?;
        self.learn(number, header);
        self.head_stands = None;
        Ok(header)
    }

    fn learn(&mut self, number: u64, header: Option<Header>) {
        self.headers.insert(number, header);
        if header.is_some() {
            self.unshown.is_shown(number);
        }
    }
}

type SharedFlight = Arc<Flight>;
