//! Makes a story happen: the chain, the nodes, the service and its end, and the time that passes.

use super::{
    calm,
    ground::Ground,
    invariants::Invariants,
    life::Life,
    replica::Replica,
    service::Plan,
    story::{ABSENCE, Event, Fee, Setup, Story},
};
use crate::{
    chain::{
        Signer,
        simulated::{BASE_FEE, Fault, GAS_LIMIT, Key, Node, Simulated},
    },
    clock,
    pipeline::Settings,
    registration::{DocumentHash, NewRegistration, Timestamp, policy::batching},
    store::Audit,
    telemetry::propagation,
};
use alloy::primitives::Address;
use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

/// The most that is paid per gas, in wei: the default of `REGISTRAR_MAX_FEE_GWEI`.
const CAP: u128 = 5_000_000_000;
/// Above eight times the usual base fee, which is what a transaction offers.
const HIGH_FEE: u128 = 20 * BASE_FEE;
/// When a story begins, in seconds since the Unix epoch.
const BEGIN: u64 = 1_790_000_000;
/// How far time goes on at once after each event, in a wait, and between two blocks.
const STEP: Duration = Duration::from_millis(100);
const WAIT_STEP: Duration = Duration::from_millis(250);
const LONG_STEP: Duration = Duration::from_millis(500);
/// How many seconds everything has to be finished in, once all is mended. An endpoint alone is believed after a minute, and a head
/// that falls after another.
const LAST_SECONDS: u32 = 240;
/// How often everything is looked at meanwhile.
const LOOK_EVERY: u32 = 3;
/// Keys of nobody, which no node of a real chain knows.
const KEYS: [&str; 2] = [
    "0x0101010101010101010101010101010101010101010101010101010101010101",
    "0x0202020202020202020202020202020202020202020202020202020202020202",
];

/// Where a story happens.
struct World {
    chain: Simulated,
    nodes: Vec<Node>,
    signers: Vec<Signer>,
    addresses: Vec<Address>,
    pipeline: Settings,
    ground: Ground,
    replicas: Vec<Replica>,
    /// Callers take turns between the replicas.
    callers: usize,
    invariants: Invariants,
    /// While this is held, time does not go on by itself.
    _stillness: mpsc::Sender<()>,
}

/// Tells a story from its beginning to its end.
///
/// # Errors
/// What does not hold, and after which event.
pub(super) fn tell(story: &Story) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    // One thread, so that everything goes on in turns; some of a start is bound to it.
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut world = World::new(story.setup).await.map_err(|error| format!("no world: {error}"))?;
        for (number, event) in story.events.iter().enumerate() {
            world.happens(*event).await.map_err(|error| format!("after event {} ({event:?}): {error}", number + 1))?;
        }
        world.ends().await.map_err(|error| format!("at the end: {error}"))
    })
}

impl World {
    async fn new(setup: Setup) -> Result<Self, Box<dyn std::error::Error>> {
        let (stillness, stands) = mpsc::channel();
        tokio::task::spawn_blocking(move || stands.recv());
        clock::simulated::follow_tokio(Timestamp::from_seconds(BEGIN));

        let ground = Ground::new(setup.replicas).await?;
        let confirmations = u64::from(setup.confirmations);
        let chain = Simulated::new(confirmations);
        let invariants = Invariants::new(setup.replicas > 1);
        let on_broadcast = on_broadcast(&ground.audit, &invariants);
        let node = |number| Node::new(&format!("node-{number}"), &chain, on_broadcast.clone());
        let nodes: Vec<_> = (0..setup.endpoints).map(node).collect();
        let keys = KEYS.iter().take(setup.signers.into());
        let signers = keys.map(|key| Signer::parse(key)).collect::<Result<Vec<_>, _>>()?;
        let pipeline = Settings {
            confirmations,
            confirmation_timeout: Duration::from_secs(30),
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
            ground,
            replicas: Vec::new(),
            callers: 0,
            invariants,
            _stillness: stillness,
        };
        world.replicas = (0..setup.replicas).map(|_| world.replica()).collect();
        world.settle().await?;
        Ok(world)
    }

    /// A replica of the service on what is on disk; nothing else is left of the one before.
    fn replica(&self) -> Replica {
        Replica::new(|life, door| Plan {
            chain: self.chain.chain(&self.nodes, CAP),
            signers: self.signers.clone(),
            pipeline: self.pipeline.clone(),
            store: self.ground.store.clone(),
            life,
            door,
        })
    }

    /// Lets everything go on that can without time, and starts the replicas again that have died.
    async fn settle(&mut self) -> Result<(), String> {
        loop {
            calm::settle(&self.replicas, &self.ground.audit).await?;
            let mut have_died = false;
            for number in 0..self.replicas.len() {
                for (id, key) in self.replicas[number].promises() {
                    self.invariants.promise(id, key);
                }
                if self.replicas[number].has_died().await? {
                    self.replicas[number] = self.replica();
                    have_died = true;
                }
            }
            if !have_died {
                return Ok(());
            }
        }
    }

    /// Whoever runs the service stops it, puts the database back, and starts the service again; and who was promised something that is
    /// lost with it asks again.
    async fn put_back(&mut self) -> Result<(), String> {
        for replica in &mut self.replicas {
            replica.kill().await;
        }
        self.ground.put_back().await.map_err(|error| error.to_string())?;
        let lost = self.invariants.put_back(&self.ground.audit, &self.chain).await?;
        self.replicas = self.replicas.iter().map(|_| self.replica()).collect();
        self.passes(STEP, STEP).await?;
        lost.iter().for_each(|(hash, _)| self.accept(hash[0]));
        Ok(())
    }

    async fn passes(&mut self, time: Duration, step: Duration) -> Result<(), String> {
        let mut left = time;
        while !left.is_zero() {
            let now = left.min(step);
            tokio::time::advance(now).await;
            self.settle().await?;
            left -= now;
        }
        Ok(())
    }

    async fn blocks(&mut self, count: u8) -> Result<(), String> {
        for _ in 0..count {
            self.passes(Duration::from_secs(1), LONG_STEP).await?;
            self.chain.ledger().mine(true);
        }
        Ok(())
    }

    async fn happens(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Accept(document) => self.accept(document),
            Event::Mine => self.chain.ledger().mine(true),
            Event::MineEmpty => self.chain.ledger().mine(false),
            Event::Blocks(count) => self.blocks(count).await?,
            Event::Wait(tenths) => self.passes(Duration::from_millis(100) * tenths.into(), WAIT_STEP).await?,
            Event::Forget(nth) => self.chain.ledger().drop_pending(nth.into()),
            Event::Echo(nth) => self.chain.ledger().echo(nth.into()),
            Event::Reorg { depth, length, keep } => {
                self.chain.ledger().reorg(depth.into(), length.into(), keep);
                self.invariants.reorged = true;
            }
            Event::Hole(depth) => self.chain.ledger().hide(depth.into()),
            Event::BaseFee(fee) => {
                self.chain.ledger().base_fee = match fee {
                    Fee::Usual => BASE_FEE,
                    Fee::High => HIGH_FEE,
                    Fee::AboveCap => CAP + 1,
                };
            }
            Event::Foreign(signer) => {
                let account = self.addresses[usize::from(signer) % self.addresses.len()];
                self.chain.ledger().mine_foreign(account);
            }
            Event::Rival(document) => self.chain.ledger().mine_rival(key_of(&asked(document))),
            Event::Trap(document) => self.chain.ledger().trap(key_of(&asked(document))),
            Event::Poison(document) => self.chain.ledger().poison(key_of(&asked(document))),
            Event::Suffer(endpoint, fault) => self.suffers(endpoint, fault),
            Event::Mend(endpoint) => self.node(endpoint).suffer(None),
            Event::Crash(replica, polls) => self.life(replica).dies_after(polls.into()),
            Event::Freeze(replica, polls) => self.life(replica).freezes_after(polls.into()),
            Event::Wake(replica) => self.life(replica).goes_on(),
            Event::Absence(replica, polls) => {
                self.life(replica).freezes_after(polls.into());
                self.blocks(ABSENCE).await?;
                self.life(replica).goes_on();
            }
            Event::Copy => {
                self.ground.copy().await.map_err(|error| error.to_string())?;
                self.invariants.copied();
            }
            Event::PutBack => self.put_back().await?,
            Event::Room(registrations) => {
                // A little more than so many of the shortest case ids take.
                let one = batching::gas_limit(&[1; 260], [1]);
                self.chain.ledger().gas_limit = one * 11 / 10 * u64::from(registrations);
            }
            Event::Funds(funded) => self.chain.ledger().funded = funded,
        }
        self.passes(STEP, STEP).await?;
        self.invariants.check(&self.ground.audit, &self.chain, &self.addresses).await
    }

    /// Against a liar whom nobody contradicts there is no help: of several endpoints one at a time says too much of a nonce.
    fn suffers(&self, endpoint: u8, fault: Fault) {
        let node = self.node(endpoint);
        let lies = |other: &Node| other.name() != node.name() && other.fault() == Some(Fault::NonceTooHigh);
        if fault == Fault::NonceTooHigh && (self.nodes.len() == 1 || self.nodes.iter().any(lies)) {
            return;
        }
        node.suffer(Some(fault));
    }

    fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) % self.nodes.len()]
    }

    fn life(&self, replica: u8) -> &Life {
        &self.replicas[usize::from(replica) % self.replicas.len()].life
    }

    fn accept(&mut self, document: u8) {
        let (asked, count) = (asked(document), self.replicas.len());
        let key = key_of(&asked);
        self.replicas[self.callers % count].accept(asked, key);
        self.callers += 1;
    }

    /// All that is wrong is mended, and blocks are mined until everything is finished.
    async fn ends(&mut self) -> Result<(), String> {
        self.nodes.iter().for_each(|node| node.suffer(None));
        self.replicas.iter().for_each(|replica| replica.life.goes_on());
        {
            let mut ledger = self.chain.ledger();
            (ledger.base_fee, ledger.gas_limit, ledger.funded) = (BASE_FEE, GAS_LIMIT, true);
        }
        let mut unfinished = None;
        for second in 1..=LAST_SECONDS {
            self.chain.ledger().mine(true);
            self.passes(Duration::from_secs(1), LONG_STEP).await?;
            if second % LOOK_EVERY != 0 {
                continue;
            }
            self.invariants.check(&self.ground.audit, &self.chain, &self.addresses).await?;
            unfinished = self.invariants.unfinished(&self.ground.audit, &self.chain, &self.addresses).await?;
            if unfinished.is_none() {
                return Ok(());
            }
        }
        let ledger = self.chain.ledger().describe();
        Err(format!("I1: {} after {LAST_SECONDS} s; {ledger}", unfinished.unwrap_or_default()))
    }
}

/// Looks on disk for the bytes of every broadcast before a node has them.
fn on_broadcast(audit: &Audit, invariants: &Invariants) -> crate::chain::simulated::OnBroadcast {
    let (audit, leaks) = (audit.clone(), invariants.leaks.clone());
    Arc::new(move |raw| {
        let (audit, leaks) = (audit.clone(), leaks.clone());
        // Beside the service, so that one that freezes here does not keep the disk from being looked at.
        let looked = tokio::spawn(async move {
            match audit.has_bytes(&raw).await {
                Ok(true) => {}
                Ok(false) => leaks.add(format!("a node saw {} bytes that are not on disk", raw.len())),
                Err(error) => leaks.add(format!("the disk could not be read: {error}")),
            }
        });
        Box::pin(async move { drop(looked.await) })
    })
}

fn asked(document: u8) -> NewRegistration {
    let mut hash = [7; 32];
    hash[0] = document;
    NewRegistration {
        document_hash: DocumentHash::new(hash).unwrap_or_else(|_| unreachable!("the hash is not zero")),
        submitted_as: format!("document {document}"),
        case_id: "case".parse().unwrap_or_else(|_| unreachable!("the case id is good")),
        user_id: None,
        trace: propagation::extract(&http::HeaderMap::new()),
    }
}

fn key_of(asked: &NewRegistration) -> Key {
    (asked.document_hash.as_b256(), asked.case_id.as_str().to_owned())
}
