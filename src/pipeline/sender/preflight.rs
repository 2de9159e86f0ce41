//! What would keep a registration from being sent just now: a lane's own questions, in their order, with nothing signed and nothing
//! written. For those who are asked about work that another replica's lane has tried, or this one's before it was started again.

use super::{
    cost::{self, TX_ENVELOPE_BYTES},
    maintain::fee_market_view,
    prepare::{DEFAULT_BLOCK_GAS_LIMIT, simulation_blocker},
};
use crate::{
    chain::{self, RejectReason},
    pipeline::Context,
    registration::{
        Pair,
        diagnosis::{Blocker, TxTooLarge},
        policy::{batching, fees},
    },
};
use alloy::primitives::Address;
use std::slice;

/// What would keep this signer from registering this pair, alone in its transaction; `None` when nothing is seen that would.
pub async fn preflight(tools: &Context, signer: Address, pair: &Pair) -> Option<Blocker> {
    let calldata = chain::register_calldata(slice::from_ref(pair));
    let gas_limit = batching::gas_limit(&calldata, [pair.case_id.as_str().len()]);
    let most = batching::max_tx_gas(tools.head().map_or(DEFAULT_BLOCK_GAS_LIMIT, |head| head.gas_limit));
    if gas_limit > most {
        return Some(Blocker::TooLarge(TxTooLarge { gas_limit, max_gas: most }));
    }
    let (outlook, simulated) =
        tokio::join!(tools.chain.sender_state(signer), tools.chain.simulate(signer, &calldata, gas_limit));
    if let Err(error) = simulated {
        let Some(RejectReason::Reverted(data)) = error.reject_reason() else {
            return Some(simulation_blocker(tools, &error));
        };
        return chain::decode_not_registrar(data).map(Blocker::SignerNotAllowed);
    }
    let outlook = outlook.ok()?;
    let cap = tools.chain.max_fee_per_gas();
    let asked = fee_market_view(Some(outlook.fee_market), (&outlook.head, false), gas_limit, cap);
    let tip = fees::priority_fee(asked.suggested_tip, asked.congestion_tip, asked.base_fee, cap);
    let fees = match fees::price(asked.base_fee, tip, cap) {
        Ok(fees) => fees,
        Err(above) => return Some(Blocker::FeeCap(above)),
    };
    let worst = cost::max_cost(tools, calldata.len() + TX_ENVELOPE_BYTES, gas_limit, fees).await.ok()?;
    if let Some(poor) = cost::balance_shortfall(tools, signer, outlook.balance, &worst) {
        return Some(poor);
    }
    cost::over_budget(tools, worst.wei()).await.map(Blocker::DailyBudget)
}
