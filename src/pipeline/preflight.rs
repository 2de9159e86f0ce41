//! The checks before a transaction is signed, in one order: size, simulation, fees, balance, daily budget.
//!
//! The sender runs them for the batch that it is about to sign. The diagnosis runs them for one registration whose
//! blocker this process does not know, because another replica's sender met it or this process has restarted since.

use super::{
    cost::{self, MaxCost, fee_market_view},
    in_flight::PendingTxs,
};
use crate::{
    chain::{self, CallError, Chain, EndpointFault, RejectReason, SenderState},
    registration::{
        Pair,
        diagnosis::{Blocker, TxTooLarge},
        policy::{
            batching,
            fees::{self, Fees},
        },
    },
    store::Store,
};
use alloy::primitives::{Address, Bytes};
use std::slice;

/// Used until the first block is known: anvil's default.
pub(super) const DEFAULT_BLOCK_GAS_LIMIT: u64 = 30_000_000;
/// Bytes of a signed transaction besides its calldata: envelope, signature, length prefixes.
const TX_ENVELOPE_BYTES: usize = 200;

pub(super) struct RegisterCall {
    pub(super) calldata: Bytes,
    pub(super) gas_limit: u64,
}

impl RegisterCall {
    pub(super) fn new(pairs: &[Pair]) -> Self {
        let calldata = chain::register_calldata(pairs);
        let gas_limit = batching::gas_limit(&calldata, pairs.iter().map(|pair| pair.case_id.as_str().len()));
        Self { calldata, gas_limit }
    }

    /// A nonce used for a transaction that fits into no block would block every later one.
    pub(super) fn check_size(&self, block_gas_limit: u64) -> Result<(), Blocker> {
        let max_gas = batching::max_tx_gas(block_gas_limit);
        if self.gas_limit > max_gas {
            return Err(Blocker::TooLarge(TxTooLarge { gas_limit: self.gas_limit, max_gas }));
        }
        Ok(())
    }
}

/// Both results: the sender needs both, while the diagnosis can use a simulation without the sender's state.
pub(super) struct Simulation {
    pub(super) sender_state: Result<SenderState, CallError>,
    /// How many pairs of the call are not registered yet.
    pub(super) new_pairs: Result<usize, SimulationError>,
}

pub(super) enum SimulationError {
    Blocked(Blocker),
    /// The contract reverted for another reason than a signer that is not allowed.
    Reverted {
        error: CallError,
        data: Bytes,
    },
}

pub(super) struct Quote {
    pub(super) fees: Fees,
    pub(super) max_cost: MaxCost,
}

pub(super) enum QuoteError {
    Blocked(Blocker),
    Call(CallError),
}

pub(super) async fn simulate(chain: &Chain, signer: Address, call: &RegisterCall) -> Simulation {
    let (sender_state, simulated) =
        tokio::join!(chain.sender_state(signer), chain.simulate(signer, &call.calldata, call.gas_limit));
    Simulation { sender_state, new_pairs: simulated.map_err(|error| simulation_error(chain, error)) }
}

fn simulation_error(chain: &Chain, error: CallError) -> SimulationError {
    if let Some(RejectReason::Reverted(data)) = error.reject_reason() {
        return match chain::decode_not_registrar(data) {
            Some(account) => SimulationError::Blocked(Blocker::SignerNotAllowed(account)),
            None => SimulationError::Reverted { data: data.clone(), error },
        };
    }
    SimulationError::Blocked(match &error {
        CallError::Unavailable { fault: EndpointFault::NoContract, endpoint, .. } => {
            Blocker::NoContract { endpoint: endpoint.clone(), contract: chain.contract() }
        }
        CallError::Unavailable { fault: EndpointFault::Unreadable, .. } | CallError::Rejected { .. } => {
            Blocker::Other(error.to_string())
        }
        CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => Blocker::NoEndpoint(error.to_string()),
    })
}

/// The fees to offer, if the fee cap and the signer's balance allow them. What would block is checked with a second
/// endpoint first.
pub(super) async fn quote(
    chain: &Chain,
    in_flight: &PendingTxs,
    signer: Address,
    sender_state: &SenderState,
    call: &RegisterCall,
) -> Result<Quote, QuoteError> {
    let mut checked = sender_state.clone();
    checked.head = chain.checked_head(checked.head);
    match quote_from_state(chain, in_flight, signer, &checked, call).await {
        Err(QuoteError::Blocked(Blocker::InsufficientFunds { .. })) if chain.endpoint_count() > 1 => {
            let balance = chain.highest_balance(signer).await.unwrap_or_default();
            checked.balance = checked.balance.max(balance);
            quote_from_state(chain, in_flight, signer, &checked, call).await
        }
        quoted => quoted,
    }
}

async fn quote_from_state(
    chain: &Chain,
    in_flight: &PendingTxs,
    signer: Address,
    sender_state: &SenderState,
    call: &RegisterCall,
) -> Result<Quote, QuoteError> {
    let cap = chain.max_fee_per_gas();
    let market =
        fee_market_view(Some(sender_state.fee_market.clone()), (&sender_state.head, false), call.gas_limit, cap);
    let tip = fees::priority_fee(market.tip, market.congestion_tip, market.base_fee, cap);
    let fees =
        fees::price(market.base_fee, tip, cap).map_err(|exceeded| QuoteError::Blocked(Blocker::FeeCap(exceeded)))?;
    let size = call.calldata.len() + TX_ENVELOPE_BYTES;
    let max_cost = cost::max_cost(chain, size, call.gas_limit, fees).await.map_err(QuoteError::Call)?;
    match cost::balance_shortfall(in_flight, signer, sender_state.balance, &max_cost) {
        Some(shortfall) => Err(QuoteError::Blocked(shortfall)),
        None => Ok(Quote { fees, max_cost }),
    }
}

/// What [`find_blocker`] reads.
pub(super) struct Inputs<'a> {
    pub(super) chain: &'a Chain,
    pub(super) store: &'a Store,
    pub(super) in_flight: &'a PendingTxs,
    pub(super) block_gas_limit: u64,
    pub(super) daily_budget: Option<u128>,
}

/// What would block this signer from registering this pair in a transaction of its own. Signs and writes nothing.
///
/// A check that cannot be completed finds no blocker, and so does a revert that would fail the registration.
pub(super) async fn find_blocker(inputs: &Inputs<'_>, signer: Address, pair: &Pair) -> Option<Blocker> {
    let Inputs { chain, store, in_flight, .. } = *inputs;
    let call = RegisterCall::new(slice::from_ref(pair));
    if let Err(too_large) = call.check_size(inputs.block_gas_limit) {
        return Some(too_large);
    }
    let Simulation { sender_state, new_pairs } = simulate(chain, signer, &call).await;
    match new_pairs {
        Ok(_) => {}
        Err(SimulationError::Blocked(blocker)) => return Some(blocker),
        Err(SimulationError::Reverted { .. }) => return None,
    }
    match quote(chain, in_flight, signer, &sender_state.ok()?, &call).await {
        Ok(Quote { max_cost, .. }) => {
            cost::over_budget(store, inputs.daily_budget, max_cost.wei()).await.map(Blocker::DailyBudget)
        }
        Err(QuoteError::Blocked(blocker)) => Some(blocker),
        Err(QuoteError::Call(_)) => None,
    }
}
