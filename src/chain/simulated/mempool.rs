//! What a node takes, keeps and refuses, in the words of reth (`crates/rpc/rpc-eth-types/src/error`, `crates/transaction-pool`).

use super::{
    contract,
    ledger::{CHAIN_ID, ChainState, FUNDS, PairKey},
};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::eip2718::Decodable2718,
    primitives::{Address, B256, Bytes, U256, keccak256},
};
use std::{collections::BTreeMap, fmt};

/// reth's limit on what one sender may have in the pool (`max_account_slots`).
const MAX_PENDING_PER_SENDER: usize = 16;

/// A refusal: code and words.
pub(super) type Rejection = (i64, &'static str);

/// A signed transaction, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SimulatedTransaction {
    /// Its hash.
    pub(crate) hash: B256,
    /// Its bytes; empty for one that came another way than through our nodes.
    pub(crate) raw: Bytes,
    /// Who signed it.
    pub(crate) from: Address,
    /// The sender's nonce.
    pub(crate) nonce: u64,
    /// Whom it calls.
    pub(crate) to: Option<Address>,
    /// The call itself.
    pub(crate) input: Bytes,
    /// The pairs that it registers.
    pub(crate) pairs: Vec<PairKey>,
    pub(super) gas_limit: u64,
    pub(super) max_fee: u128,
    pub(super) tip: u128,
    chain_id: u64,
}

impl SimulatedTransaction {
    /// Takes bytes apart; `None` when they are no signed transaction.
    pub(crate) fn decode(raw: &Bytes) -> Option<Self> {
        let envelope = envelope(raw)?;
        Some(Self {
            hash: *envelope.tx_hash(),
            raw: raw.clone(),
            from: envelope.signature().recover_address_from_prehash(&envelope.signature_hash()).ok()?,
            nonce: envelope.nonce(),
            to: envelope.to(),
            input: envelope.input().clone(),
            pairs: contract::decode_registered_pairs(envelope.input()).unwrap_or_default(),
            gas_limit: envelope.gas_limit(),
            max_fee: envelope.max_fee_per_gas(),
            tip: envelope.max_priority_fee_per_gas().unwrap_or_default(),
            chain_id: envelope.chain_id().unwrap_or_default(),
        })
    }

    /// The transaction with its signature, as it was sent.
    pub(super) fn envelope(&self) -> Option<TxEnvelope> {
        envelope(&self.raw)
    }

    /// One that came another way than through our nodes.
    pub(super) fn new_foreign(from: Address, nonce: u64, salt: u64) -> Self {
        Self {
            hash: keccak256([b"foreign".as_slice(), &salt.to_be_bytes()].concat()),
            raw: Bytes::new(),
            from,
            nonce,
            to: Some(from),
            input: Bytes::new(),
            pairs: Vec::new(),
            gas_limit: 21_000,
            max_fee: 1 << 40,
            tip: 0,
            chain_id: CHAIN_ID,
        }
    }
}

/// What pends.
#[derive(Default)]
pub(super) struct Mempool(BTreeMap<(Address, u64), SimulatedTransaction>);

impl Mempool {
    pub(super) fn pending_from(&self, account: Address) -> impl Iterator<Item = &SimulatedTransaction> {
        self.0.range((account, 0)..=(account, u64::MAX)).map(|(_, one)| one)
    }

    pub(super) fn get(&self, hash: &B256) -> Option<&SimulatedTransaction> {
        self.0.values().find(|one| one.hash == *hash)
    }

    /// Whether a transaction would be taken.
    pub(super) fn check(
        &self,
        new: &SimulatedTransaction,
        state: &ChainState,
        gas_limit: u64,
        funded: bool,
    ) -> Result<(), Rejection> {
        let next = state.nonce(new.from);
        if new.chain_id != CHAIN_ID {
            return Err((-32000, "invalid chain ID"));
        }
        if self.get(&new.hash).is_some() {
            return Err((-32000, "already known"));
        }
        if new.nonce < next {
            return Err((-32000, "nonce too low"));
        }
        if new.tip > new.max_fee {
            return Err((-32003, "max priority fee per gas higher than max fee per gas"));
        }
        if new.gas_limit > gas_limit {
            return Err((-32000, "exceeds block gas limit"));
        }
        if self.pending_from(new.from).count() >= MAX_PENDING_PER_SENDER && new.nonce != next {
            return Err((-32003, "txpool is full"));
        }
        let others = self.pending_from(new.from).filter(|one| one.nonce != new.nonce).map(cost).sum::<U256>();
        if !funded || others + cost(new) > FUNDS {
            return Err((-32003, "insufficient funds for gas * price + value"));
        }
        match self.0.get(&(new.from, new.nonce)) {
            Some(old) if !(meets_price_bump(new.max_fee, old.max_fee) && meets_price_bump(new.tip, old.tip)) => {
                Err((-32000, "replacement transaction underpriced"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn put(&mut self, new: SimulatedTransaction) -> B256 {
        let hash = new.hash;
        self.0.insert((new.from, new.nonce), new);
        hash
    }

    /// After a reorg: what is newer stays.
    pub(super) fn put_back(&mut self, old: SimulatedTransaction) {
        self.0.entry((old.from, old.nonce)).or_insert(old);
    }

    /// What the next block holds: of each sender in the order of nonces, as far as they go without a gap and can pay.
    pub(super) fn select_for_block(
        &mut self,
        state: &ChainState,
        base_fee: u128,
        gas_limit: u64,
        funded: bool,
    ) -> Vec<SimulatedTransaction> {
        let mut next = state.nonces.clone();
        let (mut taken, mut gas) = (Vec::new(), 0);
        for ((from, nonce), one) in &self.0 {
            let expected = next.entry(*from).or_default();
            if funded && nonce == expected && one.max_fee >= base_fee && gas + one.gas_limit <= gas_limit {
                *expected += 1;
                gas += one.gas_limit;
                taken.push(one.clone());
            }
        }
        taken
    }

    pub(super) fn forget_consumed(&mut self, state: &ChainState) {
        self.0.retain(|(from, nonce), _| *nonce >= state.nonce(*from));
    }

    pub(super) fn drop_nth(&mut self, nth: usize) {
        // One of ours, whose sender is there to send it again.
        let ours: Vec<_> = self.0.iter().filter(|(_, one)| !one.raw.is_empty()).map(|(key, _)| *key).collect();
        let forgotten = ours.get(nth % ours.len().max(1));
        forgotten.into_iter().for_each(|key| drop(self.0.remove(key)));
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.values().map(|one| (one.nonce, one.hash, one.max_fee, one.pairs.len()))).finish()
    }
}

fn envelope(raw: &Bytes) -> Option<TxEnvelope> {
    TxEnvelope::decode_2718(&mut raw.as_ref()).ok()
}

/// reth's rule: at least a tenth more, rounded up (`TransactionPool` `PriceBumpConfig`, with `div_ceil`).
fn meets_price_bump(new: u128, old: u128) -> bool {
    new >= old + old.div_ceil(10)
}

fn cost(one: &SimulatedTransaction) -> U256 {
    U256::from(one.gas_limit).saturating_mul(U256::from(one.max_fee))
}
