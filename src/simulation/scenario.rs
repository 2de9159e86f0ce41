//! The events of a scenario: generated at random, shrunk when an invariant breaks, and printed as a test that can be
//! pasted.

use crate::chain::simulated::NodeFault;
use proptest::{collection::vec, prelude::*};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Setup {
    /// Processes of the service on one database.
    pub(super) replicas: u8,
    pub(super) endpoints: u8,
    pub(super) signers: u8,
    pub(super) confirmations: u8,
}

/// The base fee of the next blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fee {
    Usual,
    /// Above the max fee of a transaction signed at the usual one, and below the cap.
    High,
    AboveCap,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A caller registers this document.
    Accept(u8),
    /// A caller registers this document and as many that follow it, in one call.
    AcceptMany(u8, u8),
    /// A block includes the pending transactions.
    Mine,
    /// An empty block.
    MineEmpty,
    /// This many blocks, a second apart, each with the pending transactions.
    Blocks(u8),
    /// Tenths of a second without a block.
    Wait(u8),
    /// The mempool drops a pending transaction.
    DropPending(u8),
    /// A node receives bytes again that it received before.
    Rebroadcast(u8),
    /// Empty blocks replace the newest ones; their transactions return to the mempool if `keep`.
    Reorg {
        depth: u8,
        length: u8,
        keep: bool,
    },
    /// No node serves the block this far below the head any more, if it is empty.
    MissingBlock(u8),
    BaseFee(Fee),
    /// A block includes a transaction of this signer that another program signed.
    ExternalTransaction(u8),
    /// A block includes another sender's registration of this document.
    ForeignRegistration(u8),
    /// The contract rejects this document from now on.
    RejectDocument(u8),
    /// A transaction with this document reverts from now on, although its simulation succeeds.
    RevertOnExecution(u8),
    InjectFault(u8, NodeFault),
    ClearFault(u8),
    /// This replica crashes after this many polls, and is restarted.
    Crash(u8, u16),
    /// This replica freezes after this many polls.
    Freeze(u8, u16),
    /// This replica resumes where it froze.
    Wake(u8),
    /// This replica freezes after this many polls, and resumes after enough blocks for its leases to expire.
    FreezePastLease(u8, u16),
    TakeBackup,
    /// All replicas stop, the last backup (or the empty database) is restored, and they start again.
    RestoreBackup,
    /// This many registrations fit into a block from now on.
    BlockCapacity(u8),
    /// No block includes a transaction with more registrations than this from now on, although nodes accept it.
    LargestTransaction(u8),
    /// Whether the signers have funds.
    Funds(bool),
    /// This document has to be confirmed by now. Only in scenarios written by hand.
    Confirmed(u8),
    /// The queue timeout of this document has to be reported by now. Only in scenarios written by hand.
    Delayed(u8),
}

/// Events in order. After the last one every fault is cleared, and blocks are mined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Scenario {
    pub(super) setup: Setup,
    pub(super) events: Vec<Event>,
}

/// Longer, a second apart, than a lease and the time until another replica has acquired it.
pub(super) const BLOCKS_PAST_LEASE: u8 = 10;
/// Few, so that the same document is often registered again.
const DOCUMENT_COUNT: u8 = 24;
const MAX_REORG_DEPTH: u8 = 6;

/// With fewer than `max_events` events: of one replica, of two that sometimes freeze, or with a restored backup.
pub(super) fn any_scenario(max_events: usize) -> impl Strategy<Value = Scenario> {
    prop_oneof![
        3 => scenario(Just(1_u8), vec(any_event(), 1..max_events)),
        2 => scenario(Just(2_u8), vec(prop_oneof![3 => any_event(), 1 => any_freeze()], 1..max_events)),
        1 => scenario(1..=2_u8, vec(prop_oneof![12 => any_event(), 1 => Just(Event::TakeBackup), 2 => Just(Event::RestoreBackup)], 1..max_events)),
    ]
}

fn scenario(
    replicas: impl Strategy<Value = u8>,
    events: impl Strategy<Value = Vec<Event>>,
) -> impl Strategy<Value = Scenario> {
    let setup = (replicas, 1..=3_u8, 1..=2_u8, 1..=3_u8);
    (setup, events).prop_map(|((replicas, endpoints, signers, confirmations), events)| Scenario {
        setup: Setup { replicas, endpoints, signers, confirmations },
        events,
    })
}

fn any_freeze() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..2_u8, any_polls()).prop_map(|(replica, polls)| Event::Freeze(replica, polls)),
        2 => (0..2_u8).prop_map(Event::Wake),
        4 => (0..2_u8, any_polls()).prop_map(|(replica, polls)| Event::FreezePastLease(replica, polls)),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let reorg = (1..=MAX_REORG_DEPTH, 0..=MAX_REORG_DEPTH + 1, any::<bool>());
    prop_oneof![
        12 => (0..DOCUMENT_COUNT).prop_map(Event::Accept),
        3 => (0..DOCUMENT_COUNT, 0..8_u8).prop_map(|(first, others)| Event::AcceptMany(first, others)),
        8 => Just(Event::Mine),
        2 => Just(Event::MineEmpty),
        6 => (1..6_u8).prop_map(Event::Blocks),
        5 => (1..60_u8).prop_map(Event::Wait),
        2 => (0..8_u8).prop_map(Event::DropPending),
        2 => (0..16_u8).prop_map(Event::Rebroadcast),
        4 => reorg.prop_map(|(depth, length, keep)| Event::Reorg { depth, length, keep }),
        2 => (1..=MAX_REORG_DEPTH).prop_map(Event::MissingBlock),
        2 => prop_oneof![Just(Fee::Usual), Just(Fee::High), Just(Fee::AboveCap)].prop_map(Event::BaseFee),
        2 => (0..2_u8).prop_map(Event::ExternalTransaction),
        2 => (0..DOCUMENT_COUNT).prop_map(Event::ForeignRegistration),
        1 => (0..DOCUMENT_COUNT).prop_map(Event::RejectDocument),
        1 => (0..DOCUMENT_COUNT).prop_map(Event::RevertOnExecution),
        4 => (0..3_u8, any_fault()).prop_map(|(endpoint, fault)| Event::InjectFault(endpoint, fault)),
        3 => (0..3_u8).prop_map(Event::ClearFault),
        5 => (0..2_u8, any_polls()).prop_map(|(replica, polls)| Event::Crash(replica, polls)),
        1 => prop_oneof![Just(1_u8), Just(3), Just(200)].prop_map(Event::BlockCapacity),
        1 => prop_oneof![Just(1_u8), Just(4), Just(200)].prop_map(Event::LargestTransaction),
        1 => any::<bool>().prop_map(Event::Funds),
    ]
}

/// Often few, so that the interruption falls into the work that the event before caused.
fn any_polls() -> impl Strategy<Value = u16> {
    prop_oneof![0..20_u16, 0..400_u16]
}

fn any_fault() -> impl Strategy<Value = NodeFault> {
    prop_oneof![
        Just(NodeFault::BadGateway),
        Just(NodeFault::Unresponsive),
        Just(NodeFault::LosesResponses),
        Just(NodeFault::Throttled),
        (1..6_u8).prop_map(NodeFault::Lagging),
        Just(NodeFault::FrozenHead),
        Just(NodeFault::NoReceipts),
        Just(NodeFault::NonceTooHigh),
        Just(NodeFault::NonceTooLow),
        Just(NodeFault::NonceAbsurd),
        Just(NodeFault::DropsTransactions),
        Just(NodeFault::RefusesBlocks),
        Just(NodeFault::NoSafeTag),
        Just(NodeFault::AbsurdTip),
        Just(NodeFault::NoFeeMethods),
        Just(NodeFault::ForeignIds),
        Just(NodeFault::RefusesSends),
        Just(NodeFault::InventsReverts),
    ]
}

impl Event {
    fn code(self) -> String {
        if let Self::InjectFault(endpoint, fault) = self {
            format!("InjectFault({endpoint}, NodeFault::{fault:?}),")
        } else if let Self::BaseFee(fee) = self {
            format!("BaseFee(Fee::{fee:?}),")
        } else {
            format!("{self:?},")
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Accept(document) => format!("document {document} is accepted"),
            Self::AcceptMany(first, others) => format!("{others} documents after {first} are accepted with it"),
            Self::Mine => "a block with the pending transactions".to_owned(),
            Self::MineEmpty => "an empty block".to_owned(),
            Self::Blocks(count) => format!("{count} blocks, a second apart"),
            Self::Wait(tenths) => format!("{}.{} s pass", tenths / 10, tenths % 10),
            Self::DropPending(nth) => format!("the mempool drops its transaction {nth}"),
            Self::Rebroadcast(nth) => format!("broadcast number {nth} arrives again"),
            Self::Reorg { depth, length, keep } => {
                let fate = if keep { "return to the mempool" } else { "are dropped" };
                format!("{depth} blocks are replaced by {length}, and their transactions {fate}")
            }
            Self::MissingBlock(depth) => {
                format!("no node serves the block {depth} below the head any more, if it is empty")
            }
            Self::BaseFee(fee) => format!("the base fee is {fee:?} from now on"),
            Self::ExternalTransaction(signer) => format!("another program sends a transaction of signer {signer}"),
            Self::ForeignRegistration(document) => format!("another sender registers document {document}"),
            Self::RejectDocument(document) => format!("the contract rejects document {document} from now on"),
            Self::RevertOnExecution(document) => {
                format!("document {document} reverts in a block from now on, and in no simulation")
            }
            Self::InjectFault(endpoint, fault) => format!("endpoint {endpoint} has the fault {fault:?}"),
            Self::ClearFault(endpoint) => format!("endpoint {endpoint} works again"),
            Self::Crash(replica, polls) => format!("replica {replica} crashes after {polls} polls"),
            Self::Freeze(replica, polls) => format!("replica {replica} freezes after {polls} polls"),
            Self::Wake(replica) => format!("replica {replica} resumes"),
            Self::FreezePastLease(replica, polls) => {
                format!("replica {replica} freezes after {polls} polls, for {BLOCKS_PAST_LEASE} blocks")
            }
            Self::TakeBackup => "the database is backed up".to_owned(),
            Self::RestoreBackup => "the backup is restored".to_owned(),
            Self::BlockCapacity(registrations) => format!("about {registrations} registrations fit into a block"),
            Self::LargestTransaction(registrations) => {
                format!("no block includes a transaction with more than {registrations} registrations")
            }
            Self::Confirmed(document) => format!("document {document} is confirmed by now"),
            Self::Delayed(document) => format!("document {document} is reported as delayed by now"),
            Self::Funds(true) => "the signers have funds".to_owned(),
            Self::Funds(false) => "the signers have no funds".to_owned(),
        }
    }
}

/// Prints the body of a test, with a description beside each event.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    let setup = {:?};", self.setup)?;
        writeln!(f, "    assert_holds(setup, [")?;
        for event in &self.events {
            let (code, words) = (event.code(), event.describe());
            writeln!(f, "        {code:<44} // {words}")?;
        }
        write!(f, "    ]);")
    }
}
