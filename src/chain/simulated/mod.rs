//! A simulated chain behind the endpoint pool, for tests in virtual time with faults on command.
//!
//! The endpoint pool and everything above it are the real ones; only the nodes are simulated. `ledger` holds the
//! blocks, mines and reorgs them, `mempool` accepts and rejects transactions as reth does, `contract` executes the
//! registry, `rpc` implements the RPC methods, and `node` is one endpoint with its own fault.

mod contract;
mod ledger;
mod mempool;
mod node;
mod rpc;

pub(crate) use ledger::{BASE_FEE, GAS_LIMIT, Ledger, PairKey};
pub(crate) use mempool::SimulatedTransaction;
pub(crate) use node::{Node, NodeFault};

use super::{Chain, Network, endpoint::Endpoint, pool::EndpointPool};
use alloy::primitives::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// Receives the bytes of every broadcast before the node does.
pub(crate) type BroadcastHook = Arc<dyn Fn(Bytes) -> BoxFuture<'static, ()> + Send + Sync>;

/// Shared by all simulated nodes.
#[derive(Clone)]
pub(crate) struct SimulatedChain(Arc<Mutex<Ledger>>);

impl SimulatedChain {
    pub(crate) fn new(confirmations: u64) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(confirmations))))
    }

    /// The guard is never held across an await.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock()
    }

    /// `nodes` are in order of preference.
    pub(crate) fn chain(&self, nodes: &[Node], max_fee_per_gas: u128) -> Chain {
        let endpoints = nodes.iter().map(|node| Endpoint::simulated(node.name(), node.clone())).collect();
        let pool = EndpointPool::from_endpoints(endpoints, ledger::CHAIN_ID, false);
        Chain::from_pool(pool, Network::from_chain_id(ledger::CHAIN_ID), ledger::CONTRACT_ADDRESS, max_fee_per_gas)
    }
}
