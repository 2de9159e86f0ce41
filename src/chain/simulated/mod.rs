//! A simulated chain behind the endpoint pool, for tests in virtual time that need one which misbehaves on command.
//!
//! Everything of the service is real; only what is beyond the endpoints is not. `ledger` holds the blocks and mines and reorgs
//! them, `mempool` takes and refuses transactions as reth does, `contract` runs the registry, `rpc` answers what nodes are asked,
//! and `node` is the way there: one endpoint, with a fault of its own.

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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sees the bytes of every broadcast before the node does.
pub(crate) type BroadcastHook = Arc<dyn Fn(Bytes) -> BoxFuture<'static, ()> + Send + Sync>;

/// The one chain that all simulated nodes are on.
#[derive(Clone)]
pub(crate) struct SimulatedChain(Arc<Mutex<Ledger>>);

impl SimulatedChain {
    /// A chain with a few blocks, the newest from now.
    pub(crate) fn new(confirmations: u64) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(confirmations))))
    }

    /// The blocks and the pool; never held across an await.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service's own view of the chain, through these nodes in order of preference.
    pub(crate) fn chain(&self, nodes: &[Node], max_fee_per_gas: u128) -> Chain {
        let endpoints = nodes.iter().map(|node| Endpoint::simulated(node.name(), node.clone())).collect();
        let pool = EndpointPool::from_endpoints(endpoints, ledger::CHAIN_ID, false);
        Chain::from_pool(pool, Network::from_chain_id(ledger::CHAIN_ID), ledger::CONTRACT_ADDRESS, max_fee_per_gas)
    }
}
