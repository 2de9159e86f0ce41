//! What was seen of a registration that is not confirmed. What is absent was not seen: not asked, or not
//! answered in time; nothing is concluded from it.

use super::Blocker;
use crate::registration::{BlockedReason, RegistrationId, Timestamp, policy::fees::Fees};
use alloy::primitives::{Address, B256, Bytes, U256};
use std::time::Duration;

/// Everything that a diagnosis is made from.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Now.
    pub now: Timestamp,
    /// When a node took the transaction.
    pub submitted_at: Option<Timestamp>,
    /// How deep a block must be; the block itself counts as 1.
    pub confirmations_required: u64,
    /// The endpoints and the head.
    pub chain: ChainSnapshot,
    /// The registration, as far as it has come.
    pub subject: Subject,
}

/// The endpoints and the head, from memory.
#[derive(Clone, Debug, Default)]
pub struct ChainSnapshot {
    /// The endpoints that may be asked, in order of preference.
    pub usable: Vec<EndpointSnapshot>,
    /// Those that are down, or on another chain.
    pub unusable: Vec<EndpointSnapshot>,
    /// Set while no endpoint's head moves.
    pub stalled: Option<StallSnapshot>,
    /// The newest block.
    pub head: Option<HeadSnapshot>,
    /// Whether the chain may mine a block only when there is a transaction, as plain anvil does: then a head that stands still
    /// is no fault.
    pub mines_on_demand: bool,
}

/// An endpoint, as last seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSnapshot {
    /// Its host, with a number where hosts repeat; never its URL.
    pub name: String,
    /// How much it is trusted, in a word.
    pub state: &'static str,
    /// The newest block it showed.
    pub head: Option<u64>,
    /// How far its head is behind the others'.
    pub lag: Option<Duration>,
    /// How long it takes to answer, on average.
    pub latency: Option<Duration>,
    /// Why it is not healthy.
    pub error: Option<String>,
}

/// A chain whose head does not move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StallSnapshot {
    /// The block that stays the newest.
    pub head: u64,
    /// For how long.
    pub duration: Duration,
}

/// The newest block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadSnapshot {
    /// Its number.
    pub number: u64,
    /// How much gas a block holds.
    pub gas_limit: u64,
    /// Wei per gas.
    pub base_fee: u128,
    /// For how long it has been the newest.
    pub age: Duration,
}

/// A registration on its way.
#[derive(Clone, Debug)]
pub enum Subject {
    /// No node has a transaction for it.
    Unsent(Unsent),
    /// A node took its transaction, and no block is known to hold it.
    Submitted(Box<SubmittedTx>),
    /// In this canonical block.
    Included {
        /// The block's number.
        block: u64,
        /// Whether each endpoint shows that very block; asked once it is deep enough and not confirmed all the same.
        block_votes: Vec<EndpointAnswer<bool>>,
    },
}

/// What no node has yet.
#[derive(Clone, Debug, Default)]
pub struct Unsent {
    /// What it waits for that an operator can mend.
    pub blocked_reason: Option<BlockedReason>,
    /// What stood in the way when it was last tried, with the numbers.
    pub blocker: Option<Blocker>,
    /// The block in which somebody else registered the pair.
    pub foreign_block: Option<u64>,
    /// The transaction that has to be included before another one may go out.
    pub earlier_tx: Option<EarlierTx>,
}

/// A transaction that a node took.
#[derive(Clone, Debug)]
pub struct SubmittedTx {
    /// Who signed it.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// The hash of its latest version.
    pub hash: B256,
    /// Its gas limit.
    pub gas_limit: u64,
    /// What it offers.
    pub fees: Fees,
    /// The endpoint that took it, if one said so.
    pub accepted_by: Option<String>,
    /// A transaction of the same signer with a lower nonce, which no block holds.
    pub earlier_tx: Option<EarlierTx>,
    /// The block that held it until a reorg.
    pub reorged_out_of_block: Option<u64>,
    /// What a node said when it refused the bytes the last time they went out; gone when a node takes them.
    pub last_rejection: Option<NodeRejection>,
    /// For how long its nonce has been consumed without a receipt for any version of it.
    pub nonce_consumed_for: Option<Duration>,
    /// The signer's next nonce as it was last taken for true: an endpoint that shows a lower one is behind.
    pub last_seen_nonce: Option<u64>,
    /// How many transactions of the signer no block holds, this one included.
    pub in_flight: usize,
    /// What the endpoints answered.
    pub answers: RpcAnswers,
}

/// Another transaction of ours, which has to be included first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlierTx {
    /// Its nonce.
    pub nonce: u64,
    /// The hash of its latest version.
    pub hash: B256,
    /// A registration that it carries.
    pub registration_id: Option<RegistrationId>,
}

/// A node's refusal of the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRejection {
    /// Whose.
    pub endpoint: String,
    /// The JSON-RPC error code.
    pub code: i64,
    /// The node's words.
    pub message: String,
    /// What they mean.
    pub kind: RejectKind,
    /// When.
    pub at: Timestamp,
}

impl NodeRejection {
    /// Whether a node says this as before, whichever it is and whenever it says it.
    pub fn is_same_rejection(&self, other: &Self) -> bool {
        (self.code, &self.message, self.kind) == (other.code, &other.message, other.kind)
    }
}

/// What a node's refusal means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RejectKind {
    /// The signer cannot pay.
    InsufficientFunds,
    /// The offer is below what the node takes.
    FeeTooLow,
    /// The node takes no more from this signer for now.
    SenderLimit,
    /// More gas than a transaction or block may have.
    GasLimit,
    /// The node holds another transaction with this nonce, which offers more.
    ReplacementUnderpriced,
    /// Anything else.
    Other,
}

/// One endpoint's own answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointAnswer<T> {
    /// The endpoint's name.
    pub endpoint: String,
    /// What it says.
    pub value: T,
}

/// What one round of questions brought.
#[derive(Clone, Debug, Default)]
pub struct RpcAnswers {
    /// The receipt of whichever version has one.
    pub receipts: Vec<EndpointAnswer<Option<ReceiptSnapshot>>>,
    /// Whether the transaction is known, waiting or included.
    pub tx_known: Vec<EndpointAnswer<bool>>,
    /// The next nonce that the chain takes from the signer.
    pub nonces: Vec<EndpointAnswer<u64>>,
    /// What the signer holds, in wei.
    pub balance: Option<U256>,
    /// What blocks ask.
    pub fees: Option<FeeSnapshot>,
    /// The hash of the canonical block at the receipt's height.
    pub canonical_block_hash: Option<B256>,
    /// Why it reverted.
    pub revert: Option<RevertReason>,
    /// Who was asked and answered nothing, and why.
    pub unanswered: Vec<EndpointAnswer<String>>,
}

/// A receipt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiptSnapshot {
    /// The including block's number.
    pub block: u64,
    /// The including block's hash.
    pub block_hash: B256,
    /// Whether it did not revert.
    pub succeeded: bool,
    /// Gas used.
    pub gas_used: u64,
}

/// What blocks ask, by the newest of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeeSnapshot {
    /// Wei per gas that the next block asks.
    pub next_base_fee: u128,
    /// The newest blocks, the oldest first.
    pub blocks: Vec<BlockFullness>,
}

/// How full a block was, and of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockFullness {
    /// How much gas was left in it.
    pub free_gas: u64,
    /// The priority fee, in wei per gas, below which a tenth of its gas was bought; zero of an empty block.
    pub p10_tip: u128,
}

/// Why a call reverts, as it does when it is run again on the state around its block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RevertReason {
    /// The contract does not allow this account.
    NotRegistrar(Address),
    /// With this data.
    Data(Bytes),
    /// Not at all, so that what made it revert lay between the states it was run on.
    NotReproduced,
}
