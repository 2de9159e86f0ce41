//! Blocks, their state, and reorgs.

use super::{
    contract,
    mempool::{BlockLimits, Mempool, SimulatedTransaction},
};
use crate::clock;
use alloy::primitives::{Address, B256, U256, keccak256};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Base Sepolia's.
pub(super) const CHAIN_ID: u64 = 84532;
/// The registry, deployed in block 0.
pub(crate) const CONTRACT_ADDRESS: Address = Address::repeat_byte(0xc0);
/// Blocks at the start of a scenario; no reorg removes them.
const INITIAL_BLOCKS: u64 = 4;
/// Distance of the safe head from the head, in blocks.
const SAFE_DEPTH: u64 = 12;
/// Distance of the finalized head, in blocks; no reorg goes below it.
const FINALIZED_DEPTH: u64 = 24;
/// Of a block, unless the scenario changes it.
pub(crate) const GAS_LIMIT: u64 = 30_000_000;
/// In wei per gas, unless the scenario changes it.
pub(crate) const BASE_FEE: u128 = 5_000_000;
/// The suggested priority fee, in wei per gas.
pub(super) const TIP: u128 = 1_000_000;

pub(crate) type PairKey = (B256, String);

#[derive(Clone, Debug)]
pub(super) struct MinedTransaction {
    pub(super) block: usize,
    pub(super) from: Address,
    pub(super) succeeded: bool,
    pub(super) gas_used: u64,
    pub(super) price: u128,
    /// Each has an event.
    pub(super) registered_pairs: Vec<PairKey>,
}

/// The state after a block.
#[derive(Clone, Default, Debug)]
pub(super) struct ChainState {
    pub(super) nonces: HashMap<Address, u64>,
    /// Registrar, transaction hash and block number.
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

/// Reorged blocks are kept.
pub(crate) struct Ledger {
    pub(super) blocks: Vec<SimulatedBlock>,
    pub(super) head: usize,
    pub(super) finalized: u64,
    pub(super) mempool: Mempool,
    /// Pairs that the contract rejects, in calls and in blocks.
    pub(super) rejected_pairs: HashSet<PairKey>,
    /// Pairs that the contract rejects in blocks, although the simulated call succeeds.
    reverting_pairs: HashSet<PairKey>,
    confirmations: u64,
    /// Of the next blocks, in wei per gas.
    pub(crate) base_fee: u128,
    /// Of the next blocks.
    pub(crate) gas_limit: u64,
    /// No block includes a transaction with more registrations.
    pub(crate) max_registrations: usize,
    /// Whether the signers have a balance.
    pub(crate) funded: bool,
    /// Blocks that no node returns, although there are blocks above them.
    pub(super) missing_blocks: HashSet<B256>,
    /// Blocks that were once at confirmation depth.
    ever_confirmed: HashSet<B256>,
    /// The highest nonces that were once at confirmation depth; lower ones are consumed.
    confirmed_nonces: HashMap<Address, u64>,
    /// The highest nonces that any head had.
    highest_nonces: HashMap<Address, u64>,
    /// Every transaction that a node has received, in order.
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
            max_registrations: usize::MAX,
            funded: true,
            missing_blocks: HashSet::new(),
            ever_confirmed: HashSet::new(),
            confirmed_nonces: HashMap::new(),
            highest_nonces: HashMap::new(),
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

    /// An ancestor of `head`; `None` above it.
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

    /// The position of an ancestor of `head` in `blocks`.
    pub(super) fn block_index(&self, head: usize, number: u64) -> usize {
        let mut position = head;
        while self.blocks[position].number > number {
            position = self.blocks[position].parent;
        }
        position
    }

    pub(super) fn safe(&self) -> u64 {
        self.blocks[self.head].number.saturating_sub(SAFE_DEPTH).max(self.finalized)
    }

    /// With transactions of the mempool if `full`, otherwise empty.
    pub(crate) fn mine(&mut self, full: bool) {
        let state = self.state().clone();
        let selected = match full {
            true => self.mempool.select_for_block(&state, self.base_fee, self.limits(), self.funded),
            false => Vec::new(),
        };
        self.append(selected);
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { gas: self.gas_limit, registrations: self.max_registrations }
    }

    /// A transaction by the same key from outside the service replaces the pending one with its nonce.
    pub(crate) fn mine_foreign(&mut self, from: Address) {
        let foreign = SimulatedTransaction::new_foreign(from, self.state().nonce(from), self.blocks.len() as u64);
        self.append(vec![foreign]);
    }

    /// Another sender registers the pair.
    pub(crate) fn mine_foreign_registration(&mut self, key: PairKey) {
        let foreign = Address::repeat_byte(0x77);
        let mut transaction =
            SimulatedTransaction::new_foreign(foreign, self.state().nonce(foreign), self.blocks.len() as u64);
        transaction.to = Some(CONTRACT_ADDRESS);
        transaction.pairs = vec![key];
        self.append(vec![transaction]);
    }

    /// Replaces the newest `depth` blocks by `length` empty ones. Their transactions return to the mempool if `keep`.
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
            dropped.into_iter().filter(|tx| !tx.raw.is_empty()).for_each(|tx| self.mempool.put_back(tx));
        }
        for _ in 0..length {
            self.append(Vec::new());
        }
    }

    /// No node returns the block at this depth any more, if it is empty and not final. anvil does the same after a
    /// block that is mined during `anvil_reorg`.
    pub(crate) fn hide_block(&mut self, depth: u64) {
        let number = self.blocks[self.head].number.saturating_sub(depth);
        let block = &self.blocks[self.block_index(self.head, number)];
        if number > self.finalized.max(INITIAL_BLOCKS) && block.transactions.is_empty() {
            self.missing_blocks.insert(block.hash);
        }
    }

    /// Unless the contract already has the pair.
    pub(crate) fn reject_pair(&mut self, key: PairKey) {
        self.rejected_pairs.insert(key);
    }

    /// The simulated call still succeeds.
    pub(crate) fn revert_on_execution(&mut self, key: PairKey) {
        self.reverting_pairs.insert(key);
    }

    pub(crate) fn is_rejected_pair(&self, key: &PairKey) -> bool {
        self.rejected_pairs.contains(key) || self.reverting_pairs.contains(key)
    }

    pub(crate) fn drop_pending(&mut self, nth: usize) {
        self.mempool.drop_nth(nth);
    }

    /// A transaction that a node has received before arrives again.
    pub(crate) fn rebroadcast(&mut self, nth: usize) {
        if !self.broadcasts.is_empty() {
            let again = self.broadcasts[nth % self.broadcasts.len()].clone();
            // A rejection has no effect.
            let _ = self.submit(again);
        }
    }

    pub(super) fn submit(&mut self, transaction: SimulatedTransaction) -> Result<B256, super::mempool::Rejection> {
        self.mempool.check(&transaction, self.state(), self.gas_limit, self.funded)?;
        Ok(self.mempool.put(transaction))
    }

    fn append(&mut self, transactions: Vec<SimulatedTransaction>) {
        let (position, parent) = (self.blocks.len(), self.head);
        let number = self.blocks[parent].number + 1;
        let mut state = self.blocks[parent].state.clone();
        let rejected: HashSet<PairKey> = self.rejected_pairs.union(&self.reverting_pairs).cloned().collect();
        for transaction in &transactions {
            let state = Arc::make_mut(&mut state);
            contract::run(state, transaction, (position, number, self.base_fee), &rejected);
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
        for (account, nonce) in &self.blocks[position].state.nonces {
            let highest = self.highest_nonces.entry(*account).or_default();
            *highest = (*highest).max(*nonce);
        }
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

    /// The highest nonce that the account has had at any head.
    pub(crate) fn highest_nonce(&self, account: Address) -> u64 {
        self.highest_nonces.get(&account).copied().unwrap_or_default()
    }

    /// On the canonical chain.
    pub(crate) fn is_confirmed(&self, number: u64, hash: &B256) -> bool {
        let deep = number + self.confirmations <= self.blocks[self.head].number + 1;
        deep && self.at(self.head, number).is_some_and(|block| block.hash == *hash)
    }

    /// On the canonical chain.
    pub(crate) fn registration_event_count(&self, key: &PairKey) -> usize {
        self.state().mined.values().flat_map(|mined| &mined.registered_pairs).filter(|pair| *pair == key).count()
    }

    /// On the canonical chain; false when the pair was registered before.
    pub(crate) fn has_registered(&self, hash: &B256, key: &PairKey) -> bool {
        self.state().mined.get(hash).is_some_and(|mined| mined.registered_pairs.contains(key))
    }

    /// For the output of a failed scenario.
    pub(crate) fn describe(&self) -> String {
        let head = &self.blocks[self.head];
        format!("head {} nonces {:?} pending {:?}", head.number, head.state.nonces, self.mempool)
    }
}

/// More wei than any scenario spends.
pub(super) const FUNDS: U256 = U256::from_limbs([0, 1 << 10, 0, 0]);

fn now_seconds() -> u64 {
    clock::now().micros().cast_unsigned() / 1_000_000
}
