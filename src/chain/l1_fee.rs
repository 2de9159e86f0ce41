//! What an OP-stack chain charges beside the gas: the L1 data fee and the operator fee, which nothing in a transaction limits.
//!
//! The predeploy `GasPriceOracle` tells both (<https://specs.optimism.io/protocol/predeploys.html#gaspriceoracle>); a chain
//! without it charges neither.

use super::{
    CallError, Chain, RejectReason,
    pool::AnswerQuality,
    rpc_types::{BlockTag, CallRequest},
};
use alloy::{
    primitives::{Address, Bytes, U64, U256, address},
    sol,
    sol_types::SolCall,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::OnceCell, time::Instant};

/// Where every OP-stack chain has it.
const GAS_PRICE_ORACLE_ADDRESS: Address = address!("420000000000000000000000000000000000000F");
/// The fee follows L1's, whose blocks are 12 s apart, and changes by an eighth a block.
const L1_FEE_TTL: Duration = Duration::from_secs(12);

sol! {
    function getL1FeeUpperBound(uint256 unsignedTxSize) external view returns (uint256);
    function getOperatorFee(uint256 gasUsed) external view returns (uint256);
}

/// Whether there is one, and what it last said.
#[derive(Clone, Debug, Default)]
pub(super) struct GasPriceOracle(Arc<OracleState>);

#[derive(Debug, Default)]
struct OracleState {
    is_deployed: OnceCell<bool>,
    cached_fee: Mutex<Option<CachedL1Fee>>,
}

/// The fees of a transaction of this size and gas, which are more than those of a smaller one.
#[derive(Clone, Copy, Debug)]
struct CachedL1Fee {
    fetched_at: Instant,
    size: usize,
    gas: u64,
    fees: U256,
}

impl Chain {
    /// At most so much a transaction with `size` bytes and this gas limit pays beside its gas just now, in wei. Asks seldom: a
    /// transaction that is no larger than one that was asked about a moment ago pays no more.
    ///
    /// # Errors
    /// When nobody answers.
    pub(crate) async fn l1_fee_upper_bound(&self, size: usize, gas: u64) -> Result<U256, CallError> {
        let known = &self.gas_price_oracle.0;
        if !*known.is_deployed.get_or_try_init(|| self.has_oracle()).await? {
            return Ok(U256::ZERO);
        }
        let last = *known.cached_fee.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |last: &CachedL1Fee| last.fetched_at.elapsed() < L1_FEE_TTL && last.size >= size && last.gas >= gas;
        if let Some(last) = last.filter(fits) {
            return Ok(last.fees);
        }
        let (data, operator) = tokio::try_join!(
            self.call_gas_price_oracle(getL1FeeUpperBoundCall { unsignedTxSize: U256::from(size) }),
            self.call_gas_price_oracle(getOperatorFeeCall { gasUsed: U256::from(gas) }),
        )?;
        let fees = data.saturating_add(operator);
        let asked = Instant::now();
        *known.cached_fee.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(CachedL1Fee { fetched_at: asked, size, gas, fees });
        Ok(fees)
    }

    async fn has_oracle(&self) -> Result<bool, CallError> {
        let params = (GAS_PRICE_ORACLE_ADDRESS, BlockTag::Latest.to_param());
        let code: Bytes = self.pool.read("eth_getCode", params, |_| AnswerQuality::Accept).await?;
        Ok(!code.is_empty())
    }

    /// A function that this version of the oracle does not have stands for a fee that the chain does not charge.
    async fn call_gas_price_oracle<C: SolCall<Return = U256>>(&self, call: C) -> Result<U256, CallError> {
        let call =
            CallRequest { from: None, to: GAS_PRICE_ORACLE_ADDRESS, gas: None::<U64>, data: call.abi_encode().into() };
        match self.pool.read("eth_call", (call, BlockTag::Latest.to_param()), |_: &Bytes| AnswerQuality::Accept).await {
            Ok(result) => Ok(C::abi_decode_returns(&result).unwrap_or_default()),
            Err(error) if matches!(error.reject_reason(), Some(RejectReason::Reverted(_))) => Ok(U256::ZERO),
            Err(error) => Err(error),
        }
    }
}
