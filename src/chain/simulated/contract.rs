//! The DocumentRegistry as in `contracts/src/DocumentRegistry.sol`: a registered pair is skipped.

use super::{
    ledger::{ChainState, MinedTransaction, PairKey},
    mempool::SimulatedTransaction,
};
use crate::chain::contract::{CONTRACT_VERSION, DocumentRegistry};
use alloy::{
    primitives::{Address, B256, Bytes, U256},
    sol_types::{SolCall, SolValue},
};
use std::collections::HashSet;

/// The selector of `ZeroDocumentHash()`, as an example of an error of the contract.
const ZERO_DOCUMENT_HASH_SELECTOR: [u8; 4] = [0x1f, 0x0f, 0x8b, 0x0b];

/// `None` when the call is not a registration.
pub(super) fn decode_registered_pairs(input: &[u8]) -> Option<Vec<PairKey>> {
    if let Ok(call) = DocumentRegistry::registerDocumentCall::abi_decode(input) {
        return Some(vec![(call.documentHash, call.caseId)]);
    }
    let call = DocumentRegistry::registerDocumentsCall::abi_decode(input).ok()?;
    Some(call.documentHashes.into_iter().zip(call.caseIds).collect())
}

/// Executes a transaction of a block.
pub(super) fn run(
    state: &mut ChainState,
    transaction: &SimulatedTransaction,
    (block, number, base_fee): (usize, u64, u128),
    rejected: &HashSet<PairKey>,
) {
    *state.nonces.entry(transaction.from).or_default() += 1;
    let succeeded = !transaction.pairs.iter().any(|pair| is_rejected(state, pair, rejected));
    let mut registered = Vec::new();
    for pair in transaction.pairs.iter().filter(|_| succeeded) {
        if !state.records.contains_key(pair) {
            state.records.insert(pair.clone(), (transaction.from, transaction.hash, number));
            registered.push(pair.clone());
        }
    }
    let mined = MinedTransaction {
        block,
        from: transaction.from,
        succeeded,
        gas_used: transaction.gas_limit / 10 * 9,
        price: transaction.max_fee.min(base_fee + transaction.tip),
        registered_pairs: registered,
    };
    state.mined.insert(transaction.hash, mined);
}

fn is_rejected(state: &ChainState, pair: &PairKey, rejected: &HashSet<PairKey>) -> bool {
    rejected.contains(pair) && !state.records.contains_key(pair)
}

/// Executes a call on the state after a block; `Err` has the revert data.
pub(super) fn call(state: &ChainState, rejected: &HashSet<PairKey>, input: &[u8], time: u64) -> Result<Bytes, Bytes> {
    if let Some(pairs) = decode_registered_pairs(input) {
        if pairs.iter().any(|pair| is_rejected(state, pair, rejected)) {
            return Err(ZERO_DOCUMENT_HASH_SELECTOR.into());
        }
        let new: HashSet<_> = pairs.iter().filter(|pair| !state.records.contains_key(pair)).collect();
        return Ok(U256::from(new.len()).abi_encode().into());
    }
    if let Ok(call) = DocumentRegistry::recordsOfCall::abi_decode(input) {
        let pairs = call.documentHashes.into_iter().zip(call.caseIds);
        let records: Vec<_> = pairs.map(|pair| record(state, &pair, time)).collect();
        return Ok(DocumentRegistry::recordsOfCall::abi_encode_returns(&records).into());
    }
    if DocumentRegistry::isRegistrarCall::abi_decode(input).is_ok() {
        return Ok(true.abi_encode().into());
    }
    if DocumentRegistry::versionCall::abi_decode(input).is_ok() {
        return Ok(DocumentRegistry::versionCall::abi_encode_returns(&CONTRACT_VERSION.to_owned()).into());
    }
    if DocumentRegistry::deployBlockCall::abi_decode(input).is_ok() {
        return Ok(U256::ZERO.abi_encode().into());
    }
    Err(Bytes::new())
}

fn record(state: &ChainState, pair: &(B256, String), time: u64) -> DocumentRegistry::Record {
    let (registrar, number) =
        state.records.get(pair).map_or((Address::ZERO, 0), |(registrar, _, number)| (*registrar, *number));
    let to_u48 = alloy::primitives::aliases::U48::from::<u64>;
    DocumentRegistry::Record { registrar, blockNumber: to_u48(number), time: to_u48(time) }
}
