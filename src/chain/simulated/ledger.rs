//! Blocks, what they hold, and how the newest of them are replaced.

use super::{
    contract,
    mempool::{Mempool, SimulatedTransaction},
};
use crate::clock;
use alloy::primitives::{Address, B256, U256, keccak256};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Base Sepolia's.
pub(super) const CHAIN_ID: u64 = 84532;
/// The registry; it is there from block 0 on.
pub(crate) const CONTRACT_ADDRESS: Address = Address::repeat_byte(0xc0);
/// Blocks that are there when a story begins; no reorg goes below them.
const INITIAL_BLOCKS: u64 = 4;
/// How far the safe head and the finalized head are behind, in blocks; no reorg goes below the finalized head.
const SAFE_DEPTH: u64 = 12;
const FINALIZED_DEPTH: u64 = 24;
/// What a block may hold of gas, and what it asks per gas, in wei, unless the story says otherwise.
pub(crate) const GAS_LIMIT: u64 = 30_000_000;
pub(crate) const BASE_FEE: u128 = 5_000_000;
/// The priority fee that nodes suggest, in wei per gas.
pub(super) const TIP: u128 = 1_000_000;

/// A pair, as the contract knows it.
pub(crate) type PairKey = (B256, String);

/// A transaction in a block.
#[derive(Clone, Debug)]
pub(super) struct MinedTransaction {
    pub(super) block: usize,
    pub(super) from: Address,
    pub(super) succeeded: bool,
    pub(super) gas_used: u64,
    pub(super) price: u128,
    /// The pairs that it has registered, each with an event.
    pub(super) registered_pairs: Vec<PairKey>,
}

/// What the chain knows after a block.
#[derive(Clone, Default, Debug)]
pub(super) struct ChainState {
    pub(super) nonces: HashMap<Address, u64>,
    /// Who registered a pair, in which transaction, and in which block.
    pub(super) records: HashMap<PairKey, (Address, B256, u64)>,
    pub(super) mined: HashMap<B256, MinedTransaction>,
}

impl ChainState {
    pub(super) fn nonce(&self, account: Address) -> u64 {
        self.nonces.get(&account).copied().unwrap_or_default()
    }
}

#[derive(Clone, Debug)]
pub(super) struct SimulatedBlock {
    pub(super) number: u64,
    pub(super) hash: B256,
    pub(super) parent: usize,
    /// In seconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) base_fee: u128,
    pub(super) gas_limit: u64,
    pub(super) transactions: Vec<SimulatedTransaction>,
    pub(super) state: Arc<ChainState>,
}

/// The chain: every block there ever was, and which of them is the head now.
pub(crate) struct Ledger {
    pub(super) blocks: Vec<SimulatedBlock>,
    pub(super) head: usize,
    pub(super) finalized: u64,
    pub(super) mempool: Mempool,
    /// Pairs that the contract refuses.
    pub(super) rejected_pairs: HashSet<PairKey>,
    /// Pairs that it refuses in a block, although a call says that it would not.
    reverting_pairs: HashSet<PairKey>,
    confirmations: u64,
    /// What blocks ask per gas from now on, in wei.
    pub(crate) base_fee: u128,
    /// How much gas blocks hold from now on.
    pub(crate) gas_limit: u64,
    /// Whether our signers have money.
    pub(crate) funded: bool,
    /// Blocks that no node shows, although there are blocks above them.
    pub(super) missing_blocks: HashSet<B256>,
    /// Blocks that were once at confirmation depth.
    ever_confirmed: HashSet<B256>,
    /// The highest nonces that were once at confirmation depth: everything below is consumed.
    confirmed_nonces: HashMap<Address, u64>,
    /// Every transaction that a node was ever given, in order.
    pub(crate) broadcasts: Vec<SimulatedTransaction>,
}

impl Ledger {
    pub(super) fn new(confirmations: u64) -> Self {
        let now = now_seconds();
        let genesis = SimulatedBlock {
            number: 0,
            hash: keccak256("genesis"),
            parent: 0,
            time: now - INITIAL_BLOCKS,
            base_fee: BASE_FEE,
            gas_limit: GAS_LIMIT,
            transactions: Vec::new(),
            state: Arc::default(),
        };
        let mut ledger = Self {
            blocks: vec![genesis],
            head: 0,
            finalized: 0,
            mempool: Mempool::default(),
            rejected_pairs: HashSet::new(),
            reverting_pairs: HashSet::new(),
            confirmations,
            base_fee: BASE_FEE,
            gas_limit: GAS_LIMIT,
            funded: true,
            missing_blocks: HashSet::new(),
            ever_confirmed: HashSet::new(),
            confirmed_nonces: HashMap::new(),
            broadcasts: Vec::new(),
        };
        for _ in 0..INITIAL_BLOCKS {
            ledger.append(Vec::new());
        }
        ledger
    }

    pub(super) fn state(&self) -> &Arc<ChainState> {
        &self.blocks[self.head].state
    }

    /// The block of this number, seen from a head; `None` above it.
    pub(super) fn at(&self, head: usize, number: u64) -> Option<&SimulatedBlock> {
        let mut block = &self.blocks[head];
        if number > block.number {
            return None;
        }
        while block.number > number {
            block = &self.blocks[block.parent];
        }
        Some(block)
    }

    /// Its position in the arena.
    pub(super) fn block_index(&self, head: usize, number: u64) -> usize {
        let mut at = head;
        while self.blocks[at].number > number {
            at = self.blocks[at].parent;
        }
        at
    }

    pub(super) fn safe(&self) -> u64 {
        self.blocks[self.head].number.saturating_sub(SAFE_DEPTH).max(self.finalized)
    }

    /// Mines a block with what the pool has, or an empty one.
    pub(crate) fn mine(&mut self, full: bool) {
        let state = self.state().clone();
        let taken = match full {
            true => self.mempool.select_for_block(&state, self.base_fee, self.gas_limit, self.funded),
            false => Vec::new(),
        };
        self.append(taken);
    }

    /// Mines a block with a transaction of our signer that is not ours; whatever pends with that nonce is displaced.
    pub(crate) fn mine_foreign(&mut self, from: Address) {
        let foreign = SimulatedTransaction::new_foreign(from, self.state().nonce(from), self.blocks.len() as u64);
        self.append(vec![foreign]);
    }

    /// Mines a block in which somebody else registers a pair.
    pub(crate) fn mine_foreign_registration(&mut self, key: PairKey) {
        let rival = Address::repeat_byte(0x77);
        let mut transaction =
            SimulatedTransaction::new_foreign(rival, self.state().nonce(rival), self.blocks.len() as u64);
        transaction.to = Some(CONTRACT_ADDRESS);
        transaction.pairs = vec![key];
        self.append(vec![transaction]);
    }

    /// Replaces the newest `depth` blocks by `length` empty ones. What was in them goes back to the pool, or is forgotten.
    pub(crate) fn reorg(&mut self, depth: u64, length: u64, keep: bool) {
        let head = self.blocks[self.head].number;
        let lowest = self.finalized.max(INITIAL_BLOCKS);
        let ancestor = self.block_index(self.head, head.saturating_sub(depth).max(lowest));
        let mut dropped = Vec::new();
        while self.head != ancestor {
            dropped.extend(self.blocks[self.head].transactions.iter().cloned());
            self.head = self.blocks[self.head].parent;
        }
        if keep {
            dropped.into_iter().filter(|one| !one.raw.is_empty()).for_each(|one| self.mempool.put_back(one));
        }
        for _ in 0..length {
            self.append(Vec::new());
        }
    }

    /// No node shows the block so far below the head any more, if it is empty and not final: as anvil does where a block was mined beside
    /// `anvil_reorg`.
    pub(crate) fn hide_block(&mut self, depth: u64) {
        let number = self.blocks[self.head].number.saturating_sub(depth);
        let block = &self.blocks[self.block_index(self.head, number)];
        if number > self.finalized.max(INITIAL_BLOCKS) && block.transactions.is_empty() {
            self.missing_blocks.insert(block.hash);
        }
    }

    /// The contract refuses this pair from now on, unless it has it.
    pub(crate) fn reject_pair(&mut self, key: PairKey) {
        self.rejected_pairs.insert(key);
    }

    /// A transaction with this pair reverts from now on, although a call says that it would not.
    pub(crate) fn revert_on_execution(&mut self, key: PairKey) {
        self.reverting_pairs.insert(key);
    }

    /// Whether the contract refuses this pair.
    pub(crate) fn is_rejected_pair(&self, key: &PairKey) -> bool {
        self.rejected_pairs.contains(key) || self.reverting_pairs.contains(key)
    }

    /// Forgets a pending transaction.
    pub(crate) fn drop_pending(&mut self, nth: usize) {
        self.mempool.drop_nth(nth);
    }

    /// Bytes that were seen before arrive once more.
    pub(crate) fn rebroadcast(&mut self, nth: usize) {
        if !self.broadcasts.is_empty() {
            let again = self.broadcasts[nth % self.broadcasts.len()].clone();
            // Refused or not: nobody listens.
            let _ = self.submit(again);
        }
    }

    /// A transaction arrives at the pool.
    pub(super) fn submit(&mut self, transaction: SimulatedTransaction) -> Result<B256, super::mempool::Rejection> {
        self.mempool.check(&transaction, self.state(), self.gas_limit, self.funded)?;
        Ok(self.mempool.put(transaction))
    }

    fn append(&mut self, transactions: Vec<SimulatedTransaction>) {
        let (position, parent) = (self.blocks.len(), self.head);
        let number = self.blocks[parent].number + 1;
        let mut state = self.blocks[parent].state.clone();
        let refused: HashSet<PairKey> = self.rejected_pairs.union(&self.reverting_pairs).cloned().collect();
        for transaction in &transactions {
            let state = Arc::make_mut(&mut state);
            contract::run(state, transaction, (position, number, self.base_fee), &refused);
        }
        self.blocks.push(SimulatedBlock {
            number,
            hash: keccak256(position.to_be_bytes()),
            parent,
            time: now_seconds().max(self.blocks[parent].time),
            base_fee: self.base_fee,
            gas_limit: self.gas_limit,
            transactions,
            state,
        });
        self.head = position;
        self.mempool.forget_consumed(&self.blocks[position].state);
        self.finalized = self.finalized.max(number.saturating_sub(FINALIZED_DEPTH));
        if let Some(deep) = (number + 1).checked_sub(self.confirmations) {
            let deep = self.block_index(self.head, deep);
            self.ever_confirmed.insert(self.blocks[deep].hash);
            for (account, nonce) in &self.blocks[deep].state.nonces {
                let consumed = self.confirmed_nonces.entry(*account).or_default();
                *consumed = (*consumed).max(*nonce);
            }
        }
    }

    /// Whether a block has ever been at confirmation depth.
    pub(crate) fn was_confirmed(&self, hash: &B256) -> bool {
        self.ever_confirmed.contains(hash)
    }

    /// Whether a nonce has ever been consumed at confirmation depth.
    pub(crate) fn was_consumed(&self, account: Address, nonce: u64) -> bool {
        self.confirmed_nonces.get(&account).is_some_and(|consumed| nonce < *consumed)
    }

    /// Whether the canonical chain has this block at confirmation depth.
    pub(crate) fn is_confirmed(&self, number: u64, hash: &B256) -> bool {
        let deep = number + self.confirmations <= self.blocks[self.head].number + 1;
        deep && self.at(self.head, number).is_some_and(|block| block.hash == *hash)
    }

    /// How many events on the canonical chain register this pair.
    pub(crate) fn registration_event_count(&self, key: &PairKey) -> usize {
        self.state().mined.values().flat_map(|mined| &mined.registered_pairs).filter(|one| *one == key).count()
    }

    /// Whether a transaction on the canonical chain has registered this pair.
    pub(crate) fn has_registered(&self, hash: &B256, key: &PairKey) -> bool {
        self.state().mined.get(hash).is_some_and(|mined| mined.registered_pairs.contains(key))
    }

    /// A sentence about where the chain stands, for whoever reads a failed story.
    pub(crate) fn describe(&self) -> String {
        let head = &self.blocks[self.head];
        format!("head {} nonces {:?} pending {:?}", head.number, head.state.nonces, self.mempool)
    }
}

/// Ether that is more than any story spends.
pub(super) const FUNDS: U256 = U256::from_limbs([0, 1 << 10, 0, 0]);

fn now_seconds() -> u64 {
    clock::now().micros().cast_unsigned() / 1_000_000
}
