//! What would keep a registration from being sent just now: a lane's own questions, in their order, with nothing signed and nothing
//! written. For those who are asked about work that another replica's lane has tried, or this one's before it was started again.

use super::{
    prepare::{FIRST_BLOCK_GAS, untried},
    purse::{self, ENVELOPE_BYTES},
    tend::asked,
};
use crate::{
    chain::{self, Pair, Refusal},
    pipeline::Tools,
    registration::{
        diagnosis::{Hindrance, TooLarge},
        policy::{batching, fees},
    },
};
use alloy::primitives::Address;
use std::slice;

/// What would keep this signer from registering this pair, alone in its transaction; `None` when nothing is seen that would.
pub async fn rehearse(tools: &Tools, signer: Address, pair: &Pair) -> Option<Hindrance> {
    let calldata = chain::register_calldata(slice::from_ref(pair));
    let gas_limit = batching::gas_limit(&calldata, [pair.1.as_str().len()]);
    let most = batching::most_gas(tools.head().map_or(FIRST_BLOCK_GAS, |head| head.gas_limit));
    if gas_limit > most {
        return Some(Hindrance::TooLarge(TooLarge { gas: gas_limit, most }));
    }
    let (outlook, simulated) =
        tokio::join!(tools.chain.outlook(signer), tools.chain.simulate(signer, &calldata, gas_limit));
    if let Err(error) = simulated {
        let Some(Refusal::Reverted(data)) = error.refusal() else { return Some(untried(tools, &error)) };
        return chain::refused_registrar(data).map(Hindrance::NotAllowed);
    }
    let outlook = outlook.ok()?;
    let cap = tools.chain.max_fee_per_gas();
    let asked = asked(Some(outlook.market), (&outlook.head, false), gas_limit, cap);
    let tip = fees::priority_fee(asked.suggested, asked.crowd, asked.base_fee, cap);
    let fees = match fees::price(asked.base_fee, tip, cap) {
        Ok(fees) => fees,
        Err(above) => return Some(Hindrance::FeeCap(above)),
    };
    let worst = purse::worst_cost(tools, calldata.len() + ENVELOPE_BYTES, gas_limit, fees).await.ok()?;
    if let Some(poor) = purse::shortfall(tools, signer, outlook.balance, &worst) {
        return Some(poor);
    }
    purse::over_budget(tools, worst.wei()).await.map(Hindrance::DailyBudget)
}
