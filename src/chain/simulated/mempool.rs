//! Accepts and rejects transactions as reth does, with its messages (`crates/rpc/rpc-eth-types/src/error`,
//! `crates/transaction-pool`).

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

/// reth's `max_account_slots`.
const MAX_PENDING_PER_SENDER: usize = 16;

/// JSON-RPC code and message.
pub(super) type Rejection = (i64, &'static str);

/// Decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SimulatedTransaction {
    pub(crate) hash: B256,
    /// EIP-2718; empty for a transaction that was not sent through the simulated nodes.
    pub(crate) raw: Bytes,
    pub(crate) from: Address,
    pub(crate) nonce: u64,
    pub(crate) to: Option<Address>,
    pub(crate) input: Bytes,
    pub(crate) pairs: Vec<PairKey>,
    pub(super) gas_limit: u64,
    pub(super) max_fee: u128,
    pub(crate) tip: u128,
    chain_id: u64,
}

impl SimulatedTransaction {
    /// `None` when the bytes are not a signed transaction.
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

    pub(super) fn envelope(&self) -> Option<TxEnvelope> {
        envelope(&self.raw)
    }

    /// A transaction that was not sent through the simulated nodes.
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

/// What a block includes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockLimits {
    pub(super) gas: u64,
    /// Of one transaction.
    pub(super) registrations: usize,
}

/// Pending transactions by sender and nonce.
#[derive(Default)]
pub(super) struct Mempool(BTreeMap<(Address, u64), SimulatedTransaction>);

impl Mempool {
    pub(super) fn pending_from(&self, account: Address) -> impl Iterator<Item = &SimulatedTransaction> {
        self.0.range((account, 0)..=(account, u64::MAX)).map(|(_, transaction)| transaction)
    }

    pub(super) fn get(&self, hash: &B256) -> Option<&SimulatedTransaction> {
        self.0.values().find(|transaction| transaction.hash == *hash)
    }

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
        let others = self.pending_from(new.from).filter(|other| other.nonce != new.nonce).map(cost).sum::<U256>();
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

    /// After a reorg; a newer transaction with the same nonce stays.
    pub(super) fn put_back(&mut self, old: SimulatedTransaction) {
        self.0.entry((old.from, old.nonce)).or_insert(old);
    }

    /// By sender in the order of nonces, up to the first gap and within the gas limit.
    pub(super) fn select_for_block(
        &mut self,
        state: &ChainState,
        base_fee: u128,
        limits: BlockLimits,
        funded: bool,
    ) -> Vec<SimulatedTransaction> {
        let mut next = state.nonces.clone();
        let (mut selected, mut gas) = (Vec::new(), 0);
        for ((from, nonce), transaction) in &self.0 {
            let expected = next.entry(*from).or_default();
            if funded
                && nonce == expected
                && transaction.max_fee >= base_fee
                && gas + transaction.gas_limit <= limits.gas
                && transaction.pairs.len() <= limits.registrations
            {
                *expected += 1;
                gas += transaction.gas_limit;
                selected.push(transaction.clone());
            }
        }
        selected
    }

    pub(super) fn forget_consumed(&mut self, state: &ChainState) {
        self.0.retain(|(from, nonce), _| *nonce >= state.nonce(*from));
    }

    pub(super) fn drop_nth(&mut self, nth: usize) {
        // Only the service sends a dropped transaction again.
        let ours: Vec<_> = self.0.iter().filter(|(_, tx)| !tx.raw.is_empty()).map(|(key, _)| *key).collect();
        let dropped = ours.get(nth % ours.len().max(1));
        dropped.into_iter().for_each(|key| drop(self.0.remove(key)));
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.values().map(|tx| (tx.nonce, tx.hash, tx.max_fee, tx.pairs.len()))).finish()
    }
}

fn envelope(raw: &Bytes) -> Option<TxEnvelope> {
    TxEnvelope::decode_2718(&mut raw.as_ref()).ok()
}

/// reth requires a tenth more, rounded up (`PriceBumpConfig`); some nodes require more than that.
fn meets_price_bump(new: u128, old: u128) -> bool {
    new > old + old.div_ceil(10)
}

fn cost(transaction: &SimulatedTransaction) -> U256 {
    U256::from(transaction.gas_limit).saturating_mul(U256::from(transaction.max_fee))
}
