//! What can happen, in words: a story is generated, told, shortened when it ends badly, and printed so that it can be kept.

use crate::chain::simulated::NodeFault;
use proptest::{collection::vec, prelude::*};
use std::fmt;

/// What there is before anything happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Setup {
    /// Processes of the service on one database.
    pub(super) replicas: u8,
    pub(super) endpoints: u8,
    pub(super) signers: u8,
    pub(super) confirmations: u8,
}

/// What a block asks per gas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fee {
    Usual,
    /// Above what a transaction signed before offers, and below the cap.
    High,
    AboveCap,
}

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A caller registers this document.
    Accept(u8),
    /// A block takes what pends.
    Mine,
    /// A block takes nothing.
    MineEmpty,
    /// So many blocks, a second apart, each with what pends.
    Blocks(u8),
    /// So many tenths of a second without a block.
    Wait(u8),
    /// A pending transaction is forgotten by the pool.
    DropPending(u8),
    /// Bytes that a node has seen before arrive again.
    Rebroadcast(u8),
    /// The newest blocks are replaced by empty ones; what was in them goes back to the pool if `keep`.
    Reorg { depth: u8, length: u8, keep: bool },
    /// No node shows the block so far below the head any more, if it is empty.
    MissingBlock(u8),
    /// What blocks ask from now on.
    BaseFee(Fee),
    /// A block has a transaction of this signer that we know nothing of.
    ExternalTransaction(u8),
    /// A block has somebody else's registration of this document.
    ForeignRegistration(u8),
    /// The contract refuses this document from now on.
    RejectDocument(u8),
    /// A transaction with this document reverts from now on, although a call says that it would not.
    RevertOnExecution(u8),
    /// Something is wrong with this endpoint from now on.
    InjectFault(u8, NodeFault),
    /// Nothing is wrong with this endpoint any more.
    ClearFault(u8),
    /// This replica dies after it has gone on so many times, and is started again.
    Crash(u8, u16),
    /// This replica freezes after it has gone on so many times, with all that it is doing.
    Freeze(u8, u16),
    /// This replica goes on where it froze.
    Wake(u8),
    /// This replica freezes after it has gone on so many times, blocks go on until its leases have expired, and then it does too.
    FreezePastLease(u8, u16),
    /// The database is copied, in place of an earlier copy.
    TakeBackup,
    /// Everything is stopped, the database is put back to the copy, or to how it began, and everything is started again.
    RestoreBackup,
    /// How many registrations fit into a block from now on.
    BlockCapacity(u8),
    /// Whether the signers have money.
    Funds(bool),
}

/// What happens, in order. At its end all that is wrong is mended, and blocks are mined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Scenario {
    pub(super) setup: Setup,
    pub(super) events: Vec<Event>,
}

/// So many blocks, a second apart, are longer than a lease and the time until another replica has taken it.
pub(super) const BLOCKS_PAST_LEASE: u8 = 10;
/// Documents are few, so that they meet again.
const DOCUMENT_COUNT: u8 = 24;
/// A reorg is no deeper than this.
const MAX_REORG_DEPTH: u8 = 6;

/// Any story of at most so many events: of one replica, of two of which one freezes now and then, or of a database that is put back.
pub(super) fn any_scenario(longest: usize) -> impl Strategy<Value = Scenario> {
    prop_oneof![
        3 => scenario(Just(1_u8), vec(any_event(), 1..longest)),
        2 => scenario(Just(2_u8), vec(prop_oneof![3 => any_event(), 1 => any_freeze()], 1..longest)),
        1 => scenario(1..=2_u8, vec(prop_oneof![12 => any_event(), 1 => Just(Event::TakeBackup), 2 => Just(Event::RestoreBackup)], 1..longest)),
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
        1 => any::<bool>().prop_map(Event::Funds),
    ]
}

/// Soon, so that it falls into what comes next, or later.
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
        Just(NodeFault::DropsTransactions),
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
            Self::Mine => "a block takes what pends".to_owned(),
            Self::MineEmpty => "an empty block".to_owned(),
            Self::Blocks(count) => format!("{count} blocks, a second apart"),
            Self::Wait(tenths) => format!("{}.{} s pass", tenths / 10, tenths % 10),
            Self::DropPending(nth) => format!("the pool forgets its transaction {nth}"),
            Self::Rebroadcast(nth) => format!("the bytes seen as number {nth} arrive again"),
            Self::Reorg { depth, length, keep } => {
                let fate = if keep { "go back to the pool" } else { "are forgotten" };
                format!("{depth} blocks are replaced by {length}, and their transactions {fate}")
            }
            Self::MissingBlock(depth) => {
                format!("nobody shows the block {depth} below the head any more, if it is empty")
            }
            Self::BaseFee(fee) => format!("the base fee is {fee:?} from now on"),
            Self::ExternalTransaction(signer) => format!("signer {signer} sends something that we know nothing of"),
            Self::ForeignRegistration(document) => format!("somebody else registers document {document}"),
            Self::RejectDocument(document) => format!("the contract refuses document {document} from now on"),
            Self::RevertOnExecution(document) => {
                format!("document {document} reverts in a block from now on, and in no call")
            }
            Self::InjectFault(endpoint, fault) => format!("endpoint {endpoint} suffers from {fault:?}"),
            Self::ClearFault(endpoint) => format!("endpoint {endpoint} is well again"),
            Self::Crash(replica, polls) => format!("replica {replica} dies {polls} steps from now"),
            Self::Freeze(replica, polls) => format!("replica {replica} freezes {polls} steps from now"),
            Self::Wake(replica) => format!("replica {replica} goes on where it froze"),
            Self::FreezePastLease(replica, polls) => {
                format!("replica {replica} freezes {polls} steps from now, for {BLOCKS_PAST_LEASE} blocks")
            }
            Self::TakeBackup => "the database is copied".to_owned(),
            Self::RestoreBackup => "the database is put back to the copy".to_owned(),
            Self::BlockCapacity(registrations) => format!("a block has room for about {registrations} registrations"),
            Self::Funds(true) => "the signers have money".to_owned(),
            Self::Funds(false) => "the signers have no money".to_owned(),
        }
    }
}

/// As a test that can be pasted, with words beside the code.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    let setup = {:?};", self.setup)?;
        writeln!(f, "    told(setup, [")?;
        for event in &self.events {
            let (code, words) = (event.code(), event.describe());
            writeln!(f, "        {code:<44} // {words}")?;
        }
        write!(f, "    ]);")
    }
}
