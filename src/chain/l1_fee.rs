//! What an OP-stack chain charges in addition to gas: the L1 data fee and the operator fee. No field of a transaction
//! limits them.
//!
//! The predeploy `GasPriceOracle` returns both (<https://specs.optimism.io/protocol/predeploys.html#gaspriceoracle>); a
//! chain without it charges neither.

use super::{
    CallError, RejectReason,
    pool::{AnswerQuality, EndpointPool, QUORUM, SECOND_OPINION_TIMEOUT},
    rpc_types::{BlockTag, CallRequest},
};
use alloy::{
    primitives::{Address, Bytes, U64, U256, address},
    sol,
    sol_types::SolCall,
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{sync::OnceCell, time::Instant};

/// In wei. A second endpoint is asked about a higher fee, which may stop work: 0.001 ETH, a thousand times what the largest
/// transaction cost on Base in 2026.
const HIGH_L1_FEE: U256 = U256::from_limbs([1_000_000_000_000_000, 0, 0, 0]);
/// Ten ETH; sums with it do not overflow.
const MAX_L1_FEE: U256 = U256::from_limbs([10_000_000_000_000_000_000, 0, 0, 0]);

/// The same on every OP-stack chain.
const GAS_PRICE_ORACLE_ADDRESS: Address = address!("420000000000000000000000000000000000000F");
/// The fee follows L1's base fee, which changes by at most an eighth per block of 12 s.
const L1_FEE_TTL: Duration = Duration::from_secs(12);

sol! {
    function getL1FeeUpperBound(uint256 unsignedTxSize) external view returns (uint256);
    function getOperatorFee(uint256 gasUsed) external view returns (uint256);
}

#[derive(Clone, Debug, Default)]
pub struct GasPriceOracle(Arc<OracleState>);

#[derive(Debug, Default)]
struct OracleState {
    is_deployed: OnceCell<bool>,
    cached_fee: Mutex<Option<CachedL1Fee>>,
}

/// An upper bound for every transaction of at most this size and gas limit.
#[derive(Clone, Copy, Debug)]
struct CachedL1Fee {
    fetched_at: Instant,
    size: usize,
    gas: u64,
    fees: U256,
}

impl GasPriceOracle {
    /// In wei, for a transaction of `size` bytes with this gas limit.
    pub async fn upper_bound(&self, pool: &EndpointPool, size: usize, gas: u64) -> Result<U256, CallError> {
        let state = &self.0;
        if !*state.is_deployed.get_or_try_init(|| has_oracle(pool)).await? {
            return Ok(U256::ZERO);
        }
        let cached = *state.cached_fee.lock();
        let covers = |fee: &CachedL1Fee| fee.fetched_at.elapsed() < L1_FEE_TTL && fee.size >= size && fee.gas >= gas;
        if let Some(cached) = cached.filter(covers) {
            return Ok(cached.fees);
        }
        let data_call = getL1FeeUpperBoundCall { unsignedTxSize: U256::from(size) };
        let operator_call = getOperatorFeeCall { gasUsed: U256::from(gas) };
        let (data, operator) = tokio::try_join!(
            call_gas_price_oracle(pool, data_call.clone()),
            call_gas_price_oracle(pool, operator_call.clone()),
        )?;
        let mut fees = data.saturating_add(operator);
        if fees > HIGH_L1_FEE {
            let (data, operator) = tokio::join!(lowest_fee(pool, &data_call), lowest_fee(pool, &operator_call));
            if let (Some(data), Some(operator)) = (data, operator) {
                fees = fees.min(data.saturating_add(operator));
            }
        }
        let fees = fees.min(MAX_L1_FEE);
        *state.cached_fee.lock() = Some(CachedL1Fee { fetched_at: Instant::now(), size, gas, fees });
        Ok(fees)
    }
}

async fn has_oracle(pool: &EndpointPool) -> Result<bool, CallError> {
    let params = (GAS_PRICE_ORACLE_ADDRESS, BlockTag::Latest.to_param());
    let code: Bytes = pool.read("eth_getCode", params, |_| AnswerQuality::Accept).await?;
    Ok(!code.is_empty())
}

/// An oracle of an older version reverts on a function it does not have: the chain does not charge that fee.
async fn call_gas_price_oracle<C: SolCall<Return = U256>>(pool: &EndpointPool, call: C) -> Result<U256, CallError> {
    match pool.read("eth_call", call_params(&call), |_: &Bytes| AnswerQuality::Accept).await {
        Ok(result) => Ok(C::abi_decode_returns(&result).unwrap_or_default()),
        Err(error) if matches!(error.reject_reason(), Some(RejectReason::Reverted(_))) => Ok(U256::ZERO),
        Err(error) => Err(error),
    }
}

fn call_params(call: &impl SolCall) -> (CallRequest, String) {
    let call =
        CallRequest { from: None, to: GAS_PRICE_ORACLE_ADDRESS, gas: None::<U64>, data: call.abi_encode().into() };
    (call, BlockTag::Latest.to_param())
}

/// The lowest that two endpoints return; `None` without an answer.
async fn lowest_fee<C: SolCall<Return = U256>>(pool: &EndpointPool, call: &C) -> Option<U256> {
    let deadline = Instant::now() + SECOND_OPINION_TIMEOUT;
    let answers = pool.fan_out::<_, Bytes>("eth_call", call_params(call), QUORUM, deadline).await;
    let decoded = answers.into_iter().filter_map(|(_, answer)| C::abi_decode_returns(&answer.ok()?).ok());
    decoded.min()
}
