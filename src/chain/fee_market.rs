//! Current fee levels, fetched at most once a second for all callers.

use super::{
    CallError, FeeHistory,
    pool::{AnswerQuality, EndpointPool},
    rpc_types::{BlockTag, RpcFeeHistory},
};
use alloy::primitives::{U64, U128};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

const FEE_HISTORY_BLOCKS: u64 = 10;
/// Five of Base's blocks (200 ms each).
const FEE_MARKET_TTL: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, Debug)]
pub struct FeeMarket {
    /// Suggested by the node, in wei per gas.
    pub suggested_tip: u128,
    /// `None` when no node offers `eth_feeHistory`.
    pub history: Option<FeeHistory>,
}

/// Also caches an error, so that callers do not queue up behind a slow node one after the other.
#[derive(Clone, Debug, Default)]
pub struct FeeMarketCache(Arc<Mutex<Option<CachedFeeMarket>>>);

type CachedFeeMarket = (Instant, Result<FeeMarket, CallError>);

impl FeeMarketCache {
    pub async fn get(&self, pool: &EndpointPool) -> Result<FeeMarket, CallError> {
        let mut cached = self.0.lock().await;
        if let Some((_, market)) = cached.as_ref().filter(|(fetched_at, _)| fetched_at.elapsed() < FEE_MARKET_TTL) {
            return market.clone();
        }
        let tip = pool.read("eth_maxPriorityFeePerGas", (), |_: &U128| AnswerQuality::Accept);
        let (tip, history) = tokio::join!(tip, fee_history(pool, FEE_HISTORY_BLOCKS));
        let market = tip.map(|tip| FeeMarket { suggested_tip: tip.to(), history: history.ok() });
        *cached = Some((Instant::now(), market.clone()));
        market
    }
}

/// Of the newest `blocks` blocks.
pub async fn fee_history(pool: &EndpointPool, blocks: u64) -> Result<FeeHistory, CallError> {
    let params = (U64::from(blocks), BlockTag::Latest.to_param(), [FeeHistory::REWARD_PERCENTILE]);
    let history = pool.read("eth_feeHistory", params, |_: &RpcFeeHistory| AnswerQuality::Accept).await?;
    Ok(history.into())
}
