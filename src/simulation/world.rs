//! Runs a scenario: applies its events to the chain, the nodes and the service, and advances the clock.

use super::{
    crash_injection::ProcessLife,
    database::ScenarioDatabase,
    feed::FeedClient,
    invariants::Invariants,
    quiescence,
    replica::Replica,
    scenario::{BLOCKS_PAST_LEASE, Event, Fee, Scenario, Setup},
    service::ServiceConfig,
};
use crate::{
    chain::{
        Signer,
        simulated::{BASE_FEE, GAS_LIMIT, Node, NodeFault, PairKey, SimulatedChain},
    },
    clock,
    pipeline::Settings,
    registration::{DocumentHash, NewRegistration, Pair, Registration, State, Timestamp, policy::batching},
    store::Audit,
    telemetry::propagation,
};
use alloy::primitives::Address;
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};
use tokio::time::Instant;

/// Wei per gas: the default of `REGISTRAR_MAX_FEE_GWEI`.
const MAX_FEE_PER_GAS: u128 = 5_000_000_000;
/// Above the max fee of a transaction signed at the usual base fee, which is eight times that.
const HIGH_BASE_FEE: u128 = 20 * BASE_FEE;
/// In seconds since the Unix epoch.
const START_TIME: u64 = 1_790_000_000;
/// By how much the clock advances at once: after an event, in a wait, and between two blocks.
const EVENT_STEP: Duration = Duration::from_millis(100);
const WAIT_STEP: Duration = Duration::from_millis(250);
const BLOCK_STEP: Duration = Duration::from_millis(500);
/// Within this many seconds after the last fault is cleared, every registration is settled. A single endpoint is
/// believed after one minute, and a regressed head after another.
const FINISH_SECONDS: u32 = 240;
/// Between two checks of the invariants meanwhile.
const CHECK_EVERY_SECONDS: u32 = 3;
/// One endpoint that reports a slightly higher nonce for this long is believed, less the coarseness of the events.
const BELIEVABLE_AFTER: Duration = Duration::from_secs(13);
/// Short, so that it passes in many scenarios.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Keys that no real chain knows.
const SCENARIO_SIGNER_KEYS: [&str; 2] = [
    "0x0101010101010101010101010101010101010101010101010101010101010101",
    "0x0202020202020202020202020202020202020202020202020202020202020202",
];

struct World {
    chain: SimulatedChain,
    nodes: Vec<Node>,
    signers: Vec<Signer>,
    addresses: Vec<Address>,
    pipeline: Settings,
    database: ScenarioDatabase,
    replicas: Vec<Replica>,
    /// Calls alternate between the replicas.
    next_caller: usize,
    invariants: Invariants,
    feed: FeedClient,
    /// Since when an endpoint reports a nonce that is too high.
    lying_since: Option<Instant>,
    /// While this is held, the paused clock does not advance by itself.
    _clock_guard: mpsc::Sender<()>,
}

/// # Errors
/// The violated invariant, and after which event.
pub(super) fn run_scenario(scenario: &Scenario) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    // One thread, so that the tasks run in turns; parts of startup are bound to it.
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut world = World::new(scenario.setup).await.map_err(|error| format!("no world: {error}"))?;
        for (number, event) in scenario.events.iter().enumerate() {
            world
                .apply_event(*event)
                .await
                .map_err(|error| format!("after event {} ({event:?}): {error}", number + 1))?;
        }
        world.finish().await.map_err(|error| format!("at the end: {error}"))
    })
}

impl World {
    async fn new(setup: Setup) -> Result<Self, Box<dyn std::error::Error>> {
        let (clock_guard, dropped) = mpsc::channel();
        tokio::task::spawn_blocking(move || dropped.recv());
        clock::simulated::follow_tokio(Timestamp::from_seconds(START_TIME));

        let database = ScenarioDatabase::new(setup.replicas).await?;
        let confirmations = u64::from(setup.confirmations);
        let chain = SimulatedChain::new(confirmations);
        let invariants = Invariants::new(setup.replicas > 1, QUEUE_TIMEOUT);
        let on_broadcast = on_broadcast(&database.audit, &invariants);
        let node = |number| Node::new(&format!("node-{number}"), &chain, on_broadcast.clone());
        let nodes: Vec<_> = (0..setup.endpoints).map(node).collect();
        let keys = SCENARIO_SIGNER_KEYS.iter().take(setup.signers.into());
        let signers = keys.map(|key| Signer::parse(key)).collect::<Result<Vec<_>, _>>()?;
        let pipeline = Settings {
            confirmations,
            confirmation_timeout: Duration::from_secs(30),
            queue_timeout: QUEUE_TIMEOUT,
            queue_limit: 1_000,
            keep_signed_bytes: Duration::from_secs(86_400),
            daily_budget: None,
        };
        let mut world = Self {
            addresses: signers.iter().map(Signer::address).collect(),
            signers,
            nodes,
            chain,
            pipeline,
            database,
            replicas: Vec::new(),
            next_caller: 0,
            invariants,
            feed: FeedClient::default(),
            lying_since: None,
            _clock_guard: clock_guard,
        };
        world.replicas = (0..setup.replicas).map(|_| world.replica()).collect();
        world.run_until_quiescent().await?;
        Ok(world)
    }

    /// Starts a replica on the database; nothing else remains of the one before.
    fn replica(&self) -> Replica {
        Replica::new(|life, handle| ServiceConfig {
            chain: self.chain.chain(&self.nodes, MAX_FEE_PER_GAS),
            signers: self.signers.clone(),
            pipeline: self.pipeline.clone(),
            store: self.database.store.clone(),
            life,
            handle,
        })
    }

    /// Runs every task that can proceed without advancing the clock, and restarts replicas that have crashed.
    async fn run_until_quiescent(&mut self) -> Result<(), String> {
        loop {
            quiescence::run_until_quiescent(&self.replicas, &self.database.audit).await?;
            let mut restarted = false;
            for number in 0..self.replicas.len() {
                for (id, key) in self.replicas[number].take_promises() {
                    self.invariants.promise(id, key);
                }
                if self.replicas[number].has_crashed().await? {
                    self.replicas[number] = self.replica();
                    restarted = true;
                }
            }
            if !restarted {
                return Ok(());
            }
        }
    }

    /// An operator stops all replicas, restores the backup and starts them again. Callers whose accepted registration
    /// is lost with it register again.
    async fn restore_backup(&mut self) -> Result<(), String> {
        for replica in &mut self.replicas {
            replica.kill().await;
        }
        self.database.restore_backup().await.map_err(|error| error.to_string())?;
        self.feed.record_restore();
        let lost = self.invariants.record_restore(&self.database.audit, &self.chain).await?;
        self.replicas = self.replicas.iter().map(|_| self.replica()).collect();
        self.advance_time(EVENT_STEP, EVENT_STEP).await?;
        lost.iter().for_each(|(hash, _)| self.accept([hash[0]]));
        Ok(())
    }

    async fn advance_time(&mut self, time: Duration, step: Duration) -> Result<(), String> {
        let mut left = time;
        while !left.is_zero() {
            let now = left.min(step);
            tokio::time::advance(now).await;
            self.run_until_quiescent().await?;
            left -= now;
        }
        Ok(())
    }

    async fn mine_blocks(&mut self, count: u8) -> Result<(), String> {
        for _ in 0..count {
            self.advance_time(Duration::from_secs(1), BLOCK_STEP).await?;
            self.chain.ledger().mine(true);
        }
        Ok(())
    }

    fn set_base_fee(&mut self, fee: Fee) {
        self.chain.ledger().base_fee = match fee {
            Fee::Usual => BASE_FEE,
            Fee::High => HIGH_BASE_FEE,
            Fee::AboveCap => MAX_FEE_PER_GAS + 1,
        };
    }

    async fn apply_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Accept(document) => self.accept([document]),
            Event::AcceptMany(first, others) => self.accept(first..=first.saturating_add(others)),
            Event::Mine => self.chain.ledger().mine(true),
            Event::MineEmpty => self.chain.ledger().mine(false),
            Event::Blocks(count) => self.mine_blocks(count).await?,
            Event::Wait(tenths) => self.advance_time(Duration::from_millis(100) * tenths.into(), WAIT_STEP).await?,
            Event::DropPending(nth) => self.chain.ledger().drop_pending(nth.into()),
            Event::Rebroadcast(nth) => self.chain.ledger().rebroadcast(nth.into()),
            Event::Reorg { depth, length, keep } => {
                self.chain.ledger().reorg(depth.into(), length.into(), keep);
                self.invariants.reorged = true;
            }
            Event::MissingBlock(depth) => self.chain.ledger().hide_block(depth.into()),
            Event::BaseFee(fee) => self.set_base_fee(fee),
            Event::ExternalTransaction(signer) => {
                let account = self.addresses[usize::from(signer) % self.addresses.len()];
                self.chain.ledger().mine_foreign(account);
            }
            Event::ForeignRegistration(document) => {
                self.chain.ledger().mine_foreign_registration(key_of(&request_for(document)))
            }
            Event::RevertOnExecution(document) => {
                self.chain.ledger().revert_on_execution(key_of(&request_for(document)))
            }
            Event::RejectDocument(document) => self.chain.ledger().reject_pair(key_of(&request_for(document))),
            Event::InjectFault(endpoint, fault) => self.inject_fault(endpoint, fault),
            Event::ClearFault(endpoint) => self.node(endpoint).set_fault(None),
            Event::Crash(replica, polls) => self.life(replica).crash_after(polls.into()),
            Event::Freeze(replica, polls) => self.life(replica).freeze_after(polls.into()),
            Event::Wake(replica) => self.life(replica).resume(),
            Event::FreezePastLease(replica, polls) => {
                self.life(replica).freeze_after(polls.into());
                self.mine_blocks(BLOCKS_PAST_LEASE).await?;
                self.life(replica).resume();
            }
            Event::TakeBackup => {
                self.database.take_backup().await.map_err(|error| error.to_string())?;
                self.invariants.record_backup();
            }
            Event::RestoreBackup => self.restore_backup().await?,
            Event::BlockCapacity(registrations) => {
                // Slightly more gas than this many registrations with the shortest case id need.
                let one = batching::gas_limit(&[1; 260], [1]);
                self.chain.ledger().gas_limit = one * 11 / 10 * u64::from(registrations);
            }
            Event::LargestTransaction(registrations) => {
                self.chain.ledger().max_registrations = registrations.into();
            }
            Event::Confirmed(document) => {
                let is_confirmed = |row: &Registration| row.state == State::Confirmed;
                self.check_document(document, "confirmed", is_confirmed).await?;
            }
            Event::Delayed(document) => {
                let is_delayed = |row: &Registration| row.times.delayed.is_some();
                self.check_document(document, "reported as delayed", is_delayed).await?;
            }
            Event::Funds(funded) => self.chain.ledger().funded = funded,
        }
        self.advance_time(EVENT_STEP, EVENT_STEP).await?;
        self.note_believable_lie();
        self.invariants.check(&self.database.audit, &self.chain, &self.addresses).await?;
        self.read_feed().await
    }

    /// From a replica that answers, in turns.
    async fn read_feed(&mut self) -> Result<(), String> {
        let count = self.replicas.len();
        let next = (0..count).map(|number| &self.replicas[(self.next_caller + number) % count]);
        let Some(registrar) = next.filter(|replica| replica.answers()).find_map(|replica| replica.handle.registrar())
        else {
            return Ok(());
        };
        self.feed.read(&registrar).await.map_err(|error| format!("the change feed: {error}"))
    }

    async fn check_document(
        &self,
        document: u8,
        what: &str,
        holds: impl Fn(&Registration) -> bool,
    ) -> Result<(), String> {
        let registrations = self.database.audit.registrations().await.map_err(|error| error.to_string())?;
        let (hash, _) = key_of(&request_for(document));
        match registrations.iter().any(|row| row.request.pair.document_hash.as_b256() == hash && holds(row)) {
            true => Ok(()),
            false => Err(format!("document {document} is not {what}")),
        }
    }

    /// A nonce that is reported too high for long enough is believed where no other endpoint contradicts it.
    fn note_believable_lie(&mut self) {
        let lies = self.nodes.iter().any(|node| node.fault() == Some(NodeFault::NonceTooHigh));
        match (lies, self.lying_since) {
            (false, _) => self.lying_since = None,
            (true, None) => self.lying_since = Some(Instant::now()),
            (true, Some(since)) => self.invariants.lied_for_long |= since.elapsed() >= BELIEVABLE_AFTER,
        }
    }

    /// A lie can only be detected where another endpoint contradicts it, so at most one of several endpoints lies.
    fn inject_fault(&self, endpoint: u8, fault: NodeFault) {
        let node = self.node(endpoint);
        let lies = |other: &Node| other.name() != node.name() && other.fault().is_some_and(NodeFault::is_lie);
        if fault.is_lie() && (self.nodes.len() == 1 || self.nodes.iter().any(lies)) {
            return;
        }
        node.set_fault(Some(fault));
    }

    fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) % self.nodes.len()]
    }

    fn life(&self, replica: u8) -> &ProcessLife {
        &self.replicas[usize::from(replica) % self.replicas.len()].life
    }

    fn accept(&mut self, documents: impl IntoIterator<Item = u8>) {
        let requests = documents.into_iter().map(request_for).map(|request| (key_of(&request), request));
        let (keys, requests): (Vec<_>, Vec<_>) = requests.unzip();
        let count = self.replicas.len();
        self.replicas[self.next_caller % count].accept(requests, keys);
        self.next_caller += 1;
    }

    /// Clears every fault, and mines blocks until every registration is settled.
    async fn finish(&mut self) -> Result<(), String> {
        self.nodes.iter().for_each(|node| node.set_fault(None));
        self.replicas.iter().for_each(|replica| replica.life.resume());
        {
            let mut ledger = self.chain.ledger();
            (ledger.base_fee, ledger.gas_limit, ledger.funded) = (BASE_FEE, GAS_LIMIT, true);
        }
        let mut unfinished = None;
        for second in 1..=FINISH_SECONDS {
            self.chain.ledger().mine(true);
            self.advance_time(Duration::from_secs(1), BLOCK_STEP).await?;
            if second % CHECK_EVERY_SECONDS != 0 {
                continue;
            }
            self.invariants.check(&self.database.audit, &self.chain, &self.addresses).await?;
            unfinished = self.invariants.find_unfinished(&self.database.audit, &self.chain, &self.addresses).await?;
            if unfinished.is_none() {
                self.read_feed().await?;
                unfinished = self.feed.find_unseen(&self.database.audit).await?;
            }
            if unfinished.is_none() {
                return Ok(());
            }
        }
        let ledger = self.chain.ledger().describe();
        Err(format!("I1: {} after {FINISH_SECONDS} s; {ledger}", unfinished.unwrap_or_default()))
    }
}

/// Checks before a node receives a broadcast that its bytes are on disk.
fn on_broadcast(audit: &Audit, invariants: &Invariants) -> crate::chain::simulated::BroadcastHook {
    let (audit, violations) = (audit.clone(), invariants.violations.clone());
    Arc::new(move |raw| {
        let (audit, violations) = (audit.clone(), violations.clone());
        // In a task of its own, so that a replica that freezes here does not stop the check.
        let checked = tokio::spawn(async move {
            match audit.has_raw_transaction(&raw).await {
                Ok(true) => {}
                Ok(false) => violations.add(format!("a node saw {} bytes that are not on disk", raw.len())),
                Err(error) => violations.add(format!("the database could not be read: {error}")),
            }
        });
        Box::pin(async move { drop(checked.await) })
    })
}

fn request_for(document: u8) -> NewRegistration {
    let mut hash = [7; 32];
    hash[0] = document;
    NewRegistration {
        pair: Pair {
            document_hash: DocumentHash::new(hash).unwrap_or_else(|_| unreachable!("the hash is not zero")),
            case_id: "case".parse().unwrap_or_else(|_| unreachable!("the case id is good")),
        },
        submitted_as: format!("document {document}"),
        user_id: None,
        caller: None,
        trace: propagation::extract(&http::HeaderMap::new()).into(),
    }
}

fn key_of(request: &NewRegistration) -> PairKey {
    (request.pair.document_hash.as_b256(), request.pair.case_id.as_str().to_owned())
}
